"""``analyze`` from a folder of rendered slides to every output, through the command line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools.coco import COCO

from cellcount.core.records import CellClass
from cellcount.engines.base import choose_engine
from cellcount.outputs.columns import CELLS_COLUMNS, counts_columns
from cellcount.rendering.field import FieldSpec, RenderedField, render_field
from tests.tables import check_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

BLOOD = (
    CellClass("rbc", "red cell", "red cells"),
    CellClass("wbc", "white cell", "white cells"),
    CellClass("platelet", "platelet", "platelets"),
)
IN_ORDER = ["a/1.png", "a/2.jpg", "b/x/1.tif", "b/x.png", "c.bmp"]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_whole_job(
    slides: Path, run: Run, rows: Rows, toy: str, rendered: dict[str, RenderedField]
) -> None:
    code, out, _ = run(
        slides, "--out", "o/counts.csv", "--cells", "o/cells.csv", "--coco", "o/coco.json",
        "--annotated", "o/drawn",
    )  # fmt: skip
    assert code == 0

    assert check_table(Path("o/counts.csv"), counts_columns(BLOOD)) == []
    assert check_table(Path("o/cells.csv"), CELLS_COLUMNS) == []
    counts, cells = rows("o/counts.csv"), rows("o/cells.csv")
    assert [row["image"] for row in counts] == IN_ORDER
    assert [row["slide"] for row in counts] == ["a", "a", "b/x", "b", "slides"]
    per_class = Counter((cell["image"], cell["label"]) for cell in cells)
    for row in counts:
        assert (row["status"], row["width_px"], row["height_px"]) == ("done", "160", "120")
        for c in BLOOD:
            assert int(row[f"n_{c.id}"]) == per_class[row["image"], c.id]
        assert int(row["cells"]) == sum(int(row[f"n_{c.id}"]) for c in BLOOD)
        true = rendered[row["image"]].labels.count("rbc")
        assert abs(int(row["n_rbc"]) - true) <= 0.35 * true  # a toy, yet it does see cells

    ranks = [(c["image"], float(c["y_min_px"]), float(c["x_min_px"])) for c in cells]
    for image in IN_ORDER:
        own = [rank for rank in ranks if rank[0] == image]
        assert own == sorted(own)

    coco = COCO("o/coco.json")
    assert [coco.imgs[i]["file_name"] for i in sorted(coco.imgs)] == IN_ORDER
    assert len(coco.anns) == len(cells)
    assert [c["name"] for c in coco.cats.values()] == ["rbc", "wbc", "platelet"]

    drawn = Path("o/drawn")
    assert sorted(files_below(drawn)) == sorted(
        [".cellcount-annotated", *(f"{name}.png" for name in IN_ORDER)]
    )
    with Image.open(drawn / "b/x/1.tif.png") as page:
        assert page.width >= 420

    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    digest = hashlib.sha256(Path(toy).read_bytes()).hexdigest()
    assert record["weights_sha256"] == {"tiny": digest}
    assert record["thresholds"] == {"rbc": 0.5, "wbc": 0.5, "platelet": 0.5}
    assert record["outcomes"] == {
        "images": 5, "done": 5, "failed": 0, "excluded": 0, "outstanding": 0,
        "cells": len(cells), "not_done": [], "unfinished_slides": [],
    }  # fmt: skip
    assert (record["engine"], record["device"], record["precision"]) == (
        choose_engine("auto"), "cpu", "fp32",
    )  # fmt: skip
    for output in record["outputs"]:
        content = Path(output["path"]).read_bytes()
        assert output["sha256"] == hashlib.sha256(content).hexdigest()
    assert [o["path"] for o in record["outputs"]] == ["o/counts.csv", "o/cells.csv", "o/coco.json"]
    assert record["speed"]["images"] == 5

    assert out.startswith("5 of 5 images done, in ")
    assert f"{len(cells):,}" in out
    assert "written: o/counts.csv, o/cells.csv, o/coco.json, o/drawn, o/counts.run.json\n" in out


def test_pictures_in_another_form_take_the_place_of_the_earlier_ones(
    slides: Path, run: Run, toy: str
) -> None:
    options = ("--out", "o.csv", "--annotated", "drawn")
    run(slides, *options)
    exact = {name: np.asarray(Image.open(f"drawn/{name}.png")) for name in IN_ORDER}
    code, _, err = run(slides, *options, "--annotated-format", "jpeg")
    assert (code, err.count("Drawing")) == (0, 1)
    named = [".cellcount-annotated", *(f"{name}.jpg" for name in IN_ORDER)]
    assert sorted(files_below(Path("drawn"))) == sorted(named)
    for name, pixels in exact.items():
        off = np.asarray(Image.open(f"drawn/{name}.jpg")).astype(int) - pixels
        assert np.sqrt((off**2).mean()) < 4
    run(slides, "--out", "o.csv")  # the pictures of the run before, in their form
    assert sorted(files_below(Path("drawn"))) == sorted(named)
    record = json.loads(Path("o.run.json").read_text("utf-8"))
    assert record["settings"]["annotated_format"] == "jpeg"


def test_dry_run_writes_nothing_and_tells_the_plan(slides: Path, run: Run) -> None:
    before = files_below(Path())
    code, out, _ = run(slides, "--out", "o/counts.csv", "--annotated", "o/drawn", "--dry-run")
    assert code == 0
    assert out.startswith(
        "images       5 on 4 slides, 0 passed over\nmodel        tiny 1 (" + choose_engine("auto")
    )
    assert "time         about " in out
    assert "space        about " in out
    assert "MB\n" in out
    assert files_below(Path()) == before
    assert not Path("o").exists()


def test_semicolons_change_nothing_but_the_separator(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, "--out", "a.csv", "--cells", "ac.csv")
    run(
        slides,
        "--out",
        "b.csv",
        "--cells",
        "bc.csv",
        "--csv-separator",
        ";",
        "--csv-decimal",
        "point",
    )
    assert rows("a.csv") == rows("b.csv", ";")
    assert rows("ac.csv") == rows("bc.csv", ";")
    assert check_table(Path("b.csv"), counts_columns(BLOOD)) == []


def test_min_score_keeps_exactly_the_cells_from_it_on(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, "--out", "low.csv", "--cells", "lowc.csv", "--min-score", "0.3")
    run(slides, "--out", "high.csv", "--cells", "highc.csv", "--min-score", "0.9")
    low, high = rows("lowc.csv"), rows("highc.csv")

    def places(cells: list[dict[str, str]]) -> list[tuple[str, ...]]:
        return [tuple(v for k, v in c.items() if k != "cell") for c in cells]

    assert 0 < len(high) < len(low)
    assert places(high) == places([c for c in low if float(c["score"]) >= 0.9])


def test_two_sides_leaves_out_what_the_right_and_lower_edge_cut(
    slides: Path, run: Run, rows: Rows
) -> None:
    run(slides, "--out", "all.csv", "--cells", "allc.csv")
    run(slides, "--out", "two.csv", "--cells", "twoc.csv", "--edge-rule", "two-sides")
    everything, chosen = rows("allc.csv"), rows("twoc.csv")
    kept = [c for c in everything if float(c["x_max_px"]) < 159 and float(c["y_max_px"]) < 119]
    assert 0 < len(kept) < len(everything)
    assert [c["score"] for c in chosen] == [c["score"] for c in kept]
    edges = {c["edge"] for c in chosen}
    assert edges == {"true", "false"}  # the left and upper edge still cut cells


def test_scale_from_option_manifest_metadata_and_red_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, rows: Rows
) -> None:
    """The toy's red cells are 24 px: 0.15625 µm/px (48 px a cell) calls for a factor of 0.5."""
    monkeypatch.chdir(tmp_path)
    pixels = render_field(FieldSpec(320, 240, 5, 48, 0.3, 2, 2, debris=0)).pixels
    for name in ("ome/1.ome.tif", "plain/1.tif"):
        (tmp_path / name).parent.mkdir()
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.15625, "PhysicalSizeY": 0.15625}
        ome = "ome." in name
        tifffile.imwrite(
            tmp_path / name,
            pixels,
            photometric="rgb",
            ome=ome,
            metadata=metadata if ome else None,
        )
    Path("m.csv").write_text(
        "path,slide,um_per_px\nome/1.ome.tif,s,0.3125\nplain/1.tif,t,0.15625\n"
    )

    def scales(*arguments: str) -> list[tuple[str, str, str]]:
        assert run(*arguments, "--out", "o.csv", "--fresh")[0] == 0
        return [(r["image"], r["um_per_px"], r["scale_factor"]) for r in rows("o.csv")]

    found = scales("ome", "plain")
    assert found[0] == ("ome/1.ome.tif", "0.15625", "0.5")
    assert found[1][:2] == ("plain/1.tif", "")  # estimated for resizing, never reported
    assert float(found[1][2]) == pytest.approx(0.5, rel=0.12)
    assert scales("m.csv") == [("ome/1.ome.tif", "0.3125", "1"), ("plain/1.tif", "0.15625", "0.5")]
    assert scales("m.csv", "--um-per-px", "0.25") == [
        ("ome/1.ome.tif", "0.25", "0.8"),
        ("plain/1.tif", "0.25", "0.8"),
    ]


def test_every_page_of_a_stack_has_its_row(slides: Path, run: Run, rows: Rows) -> None:
    pages = []
    for name in ("a/1.png", "b/x.png"):
        with Image.open(slides / name) as page:
            pages.append(np.asarray(page))
    with tifffile.TiffWriter("stack.tif") as stack:
        for number in range(11):
            stack.write(pages[number % 2], photometric="rgb")
    run("stack.tif", "--out", "s.csv", "--um-per-px", "0.3125")
    run(slides, "--out", "o.csv", "--um-per-px", "0.3125")
    stacked, single = rows("s.csv"), {row["image"]: row["cells"] for row in rows("o.csv")}
    assert [r["image"] for r in stacked] == [f"stack.tif#page={n}" for n in range(1, 12)]
    expected = [single["a/1.png"], single["b/x.png"]] * 6
    assert [r["cells"] for r in stacked] == expected[:11]


def test_flagged_draws_only_what_has_a_caution(slides: Path, run: Run, rows: Rows) -> None:
    turned = Image.open(slides / "a/1.png").transpose(Image.Transpose.ROTATE_180)
    turned.point(lambda value: value * 0.4).save(slides / "dark.png")
    Image.new("RGB", (160, 120), (240, 230, 220)).save(slides / "empty.png")
    code, out, _ = run(
        slides, "--out", "o.csv", "--annotated", "drawn", "--annotate", "flagged",
        "--um-per-px", "0.3125",
    )  # fmt: skip
    assert code == 0
    reasons = {row["image"]: row["reason"] for row in rows("o.csv")}
    assert [image for image, reason in reasons.items() if reason] == ["dark.png", "empty.png"]
    assert sorted(files_below(Path("drawn"))) == [".cellcount-annotated", "dark.png.png"]
    assert f"caution: dark.png: {reasons['dark.png']}" in out
    assert f"excluded: empty.png: {reasons['empty.png']}" in out
    assert out.startswith("6 of 7 images done, 1 excluded, 1 with a caution, in ")


def test_pictures_asked_for_later_are_drawn_without_detecting_again(slides: Path, run: Run) -> None:
    run(slides, "--out", "o.csv")
    run(slides, "--out", "p.csv", "--annotated", "at-once")
    code, out, err = run(slides, "--out", "o.csv", "--annotated", "later")
    assert code == 0
    assert "going on: 5 of 5 images done before" in err
    assert "Drawing 5 images" in err
    assert "images/s" not in out  # nothing was analysed
    assert files_below(Path("later")) == files_below(Path("at-once"))
    record = json.loads(Path("o.run.json").read_text())
    assert record["speed"]["images"] == 0

    Path("later/c.bmp.png").unlink()
    _, _, err = run(slides, "--out", "o.csv", "--annotated", "later")
    assert "Drawing 1 image" in err
    assert files_below(Path("later")) == files_below(Path("at-once"))


def test_a_growing_folder_analyses_only_the_new(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, "--out", "o.csv", "--cells", "c.csv")
    before = rows("o.csv")
    Image.open(slides / "a/1.png").transpose(Image.Transpose.ROTATE_180).save(slides / "a/0.png")
    (slides / "c.bmp").unlink()
    _, out, err = run(slides, "--out", "o.csv", "--cells", "c.csv")
    assert "going on: 4 of 5 images done before" in err
    assert "5 of 5 images done, 1 now in" in out
    after = rows("o.csv")
    assert [row["image"] for row in after] == ["a/0.png", *IN_ORDER[:-1]]
    assert after[1:] == before[:-1]
    assert {c["image"] for c in rows("c.csv")} == {"a/0.png", *IN_ORDER[:-1]}


def test_a_changed_image_is_analysed_again_and_its_old_picture_goes(
    slides: Path, run: Run, rows: Rows
) -> None:
    options = ("--out", "o.csv", "--annotated", "drawn")
    run(slides, *options)
    (slides / "c.bmp").write_bytes(b"BM no longer an image")
    code, out, _ = run(slides, *options)
    assert code == 1
    assert "4 of 5 images done, 1 failed, 1 now in" in out
    assert rows("o.csv")[-1]["status"] == "failed"
    assert not Path("drawn/c.bmp.png").exists()  # no picture may contradict the tables
    assert Path("drawn/a/1.png.png").exists()


def test_own_outputs_below_an_input_are_never_images(slides: Path, run: Run, rows: Rows) -> None:
    options = (
        "--out", slides / "counts.csv", "--cells", slides / "cells.csv",
        "--annotated", slides / "drawn",
    )  # fmt: skip
    assert run(slides, *options)[0] == 0
    first = rows(slides / "counts.csv")
    assert [row["image"] for row in first] == IN_ORDER
    code, _, err = run(slides, *options)
    assert code == 0
    assert err.count("passed over") == 1
    assert f"passed over: {slides}/drawn: annotated pictures that cellcount has drawn" in err
    assert rows(slides / "counts.csv") == first
    # Nor where this run does not name the folder, nor where a pattern matches into it.
    for arguments in ((slides,), ("slides/**/*.*",)):
        code, _, err = run(*arguments, "--out", "elsewhere.csv", "--fresh")
        assert code == 0
        assert "drawn by" not in err
        assert [row["image"] for row in rows("elsewhere.csv")] == IN_ORDER


def test_drawing_into_an_input_is_refused(slides: Path, run: Run) -> None:
    for arguments in (
        (slides, "--annotated", slides),
        (slides / "a", "--annotated", slides),
        ("slides/a/*.png", "--annotated", slides),
    ):
        code, _, err = run(*arguments, "--out", "o.csv")
        assert code == 2
        assert "is or lies in a folder of annotated pictures" in err
    assert not (slides / ".cellcount-annotated").exists()
    run(slides, "--out", "o.csv", "--annotated", "drawn")
    code, _, err = run("drawn", "--out", "p.csv")
    assert code == 2
    assert "name the folder of the originals" in err


def test_the_table_of_another_run_is_not_replaced(slides: Path, run: Run) -> None:
    assert run(slides, "--out", "one.csv")[0] == 0
    before = Path("one.csv").read_bytes()
    code, _, err = run(slides, "--out", "two.csv", "--cells", "one.csv")
    assert code == 2
    assert "one.csv is the --out of another run" in " ".join(err.split())
    assert Path("one.csv").read_bytes() == before
