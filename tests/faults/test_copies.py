"""Copies of a field (W27): counted once within a slide, said across slides and where near."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tifffile

from cellcount.analysis.inputs import plan_of
from cellcount.images.copies import without_copies
from cellcount.images.find import Plan
from tests.faults.counting import count, is_near
from tests.faults.recipes import Fields, Run


def planned(text: str, slide_from: str | None = None) -> Plan:
    return without_copies(plan_of([text], [], slide_from=slide_from))


def images(plan: Plan) -> list[str]:
    return [ref.image for ref in plan.refs]


def cautions(plan: Plan) -> dict[str, str]:
    return {ref.image: ref.caution for ref in plan.refs if ref.caution}


def test_copies_are_counted_once_and_near_copies_are_said(
    fields: Fields, folder: Path, run: Run
) -> None:
    for name in ("field", "field - Copy", "field (1)"):
        fields.put(0, f"s/{name}.png")
    fields.put(1, "s/other.png")
    fields.image(1).resize((700, 525)).save("s/again.jpg", quality=90)
    counted = count(run, "s")
    assert sorted(counted.rows) == ["again.jpg", "field.png", "other.png"]
    assert is_near(counted.rows["field.png"].cells, (46, 7, 3))
    assert counted.rows["field.png"].reason == ""
    once = "a copy of s/field.png, byte for byte, counted once"
    assert counted.passed_over == {"s/field (1).png": once, "s/field - Copy.png": once}
    near = "nearly the same picture as {}: counted on each"
    assert near.format("other.png") in counted.rows["again.jpg"].reason
    assert near.format("again.jpg") in counted.rows["other.png"].reason


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".gif"])
def test_any_format_is_recognised_by_its_bytes(suffix: str, fields: Fields, folder: Path) -> None:
    Path("s").mkdir()
    fields.image(0).save(f"s/a{suffix}")
    fields.image(1).save(f"s/b{suffix}")
    shutil.copy(f"s/a{suffix}", f"s/a_copy{suffix}")
    assert images(planned("s")) == [f"a{suffix}", f"b{suffix}"]


def test_all_pages_of_a_copy_are_left_out(fields: Fields, folder: Path) -> None:
    Path("s").mkdir()
    with tifffile.TiffWriter("s/m.tif") as tif:
        for i in (0, 1):
            tif.write(fields.pixels(i), photometric="rgb", metadata=None)
    shutil.copy("s/m.tif", "s/m (2).tif")
    assert images(planned("s")) == ["m.tif#page=1", "m.tif#page=2"]


def test_a_field_on_two_slides_is_counted_on_both_with_a_caution(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "s/1/f.png")
    fields.put(0, "s/2/g.png")
    fields.put(1, "s/2/h.png")
    plan = planned("s")
    assert images(plan) == ["1/f.png", "2/g.png", "2/h.png"]
    said = "the same file, byte for byte, as {} of another slide: counted on each"
    assert cautions(plan) == {"1/f.png": said.format("2/g.png"), "2/g.png": said.format("1/f.png")}


def test_slides_of_two_specimens_are_two_though_they_share_a_name(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "a.png")
    fields.put(0, "b.png")
    Path("m.csv").write_text("path,slide,specimen\na.png,1,P\nb.png,1,Q\n")
    assert sorted(cautions(planned("m.csv"))) == ["a.png", "b.png"]


def test_slides_from_a_pattern_decide_what_is_one_slide(fields: Fields, folder: Path) -> None:
    for name in ("A-1", "A-2", "B-1"):
        fields.put(0, f"s/{name}.png")
    plan = planned("s", r"(?P<slide>[AB])-")
    assert images(plan) == ["A-1.png", "B-1.png"]
    assert sorted(cautions(plan)) == ["A-1.png", "B-1.png"]


def test_equal_sizes_alone_make_no_copies(fields: Fields, folder: Path) -> None:
    """Uncompressed fields are all of one size, and may differ in a single pixel."""
    Path("s").mkdir()
    fields.image(0).save("s/a.bmp")
    data = bytearray(Path("s/a.bmp").read_bytes())
    data[len(data) // 3] ^= 0xFF
    Path("s/b.bmp").write_bytes(data)
    assert images(planned("s")) == ["a.bmp", "b.bmp"]


def test_codes_for_names_tell_no_name_of_a_copy(fields: Fields, folder: Path, run: Run) -> None:
    fields.put(2, "s/Ada Lovelace/f.png")
    fields.put(2, "s/Grace Hopper/f.png")
    run("analyze", "s", "--classifier", "none", "--out", "o/o.csv", "--pseudonymize", "keys/k.json")
    table = Path("o/o.csv").read_text()
    assert table.count("is on another slide, too: counted on each") == 2
    assert "Lovelace" not in table
    assert "Hopper" not in table
