"""Quality of fields through the command: measured once, judged by whichever profile is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageFilter

from cellcount import cli
from cellcount.differential.profile import profile_text

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[[str], list[dict[str, str]]]
MEASURED = ("focus", "exposure", "clipped_percent", "stain_balance", "stained_percent")


def test_hopeless_fields_are_excluded_and_said(slides: Path, run: Run, rows: Rows) -> None:
    field = Image.open(slides / "a/1.png").convert("RGB")
    field.filter(ImageFilter.GaussianBlur(max(field.size) / 8)).save(slides / "a/blurred.png")
    Image.new("RGB", field.size).save(slides / "a/black.png")
    Image.new("RGB", field.size, (250, 250, 250)).save(slides / "a/blank.png")
    code, out, _ = run(
        slides, "--out", "o.csv", "--cells", "c.csv", "--slides", "s.csv", "--um-per-px", "0.3125"
    )
    assert code == 0
    found = {row["image"]: row for row in rows("o.csv")}
    excluded = {image for image, row in found.items() if row["status"] == "excluded"}
    assert excluded == {"a/blurred.png", "a/black.png", "a/blank.png"}
    assert "exposure 0 is below the profile's 30" in found["a/black.png"]["reason"]
    assert "stained_percent 0 is below the profile's 0.05" in found["a/blank.png"]["reason"]
    for image in excluded:
        row = found[image]
        assert row["cells"] == row["n_rbc"] == row["cells_per_mpx"] == ""  # never 0
        assert row["exposure"] != ""
    assert not {row["image"] for row in rows("c.csv")} & excluded
    assert out.startswith(f"{len(found) - 3} of {len(found)} images done, 3 excluded, ")
    notes = [r["note"] for r in rows("s.csv") if r["row"] == "fields_left_out"]
    assert notes
    assert set(notes) == {"fields that are not in it: 3 excluded"}
    without = [row for row in rows("s.csv") if row["slide"] == found["a/1.png"]["slide"]]
    fields = {row["n"] for row in without if row["row"] == "fields"}
    assert fields <= {str(sum(i.startswith("a/") for i in found) - 3)}


def test_another_profile_judges_anew_without_analysing(slides: Path, run: Run, rows: Rows) -> None:
    ours = profile_text("peripheral-blood").replace("\nexposure_min = 100", "")
    ours = ours.replace("exclude_exposure_min = 30", "exclude_exposure_max = 1")
    Path("ours.toml").write_text(ours, "utf-8")
    options = ("--out", "o.csv", "--annotated", "drawn")
    run(slides, *options)
    before, drawn = rows("o.csv"), sorted(Path("drawn").rglob("*.png"))
    assert {row["status"] for row in before} == {"done"}

    _, _, err = run(slides, *options, "--profile", "ours.toml")
    assert f"{len(before)} of {len(before)} images done before" in err
    after = rows("o.csv")
    assert {row["status"] for row in after} == {"excluded"}
    assert all("is above the profile's 1" in row["reason"] for row in after)
    assert [[row[m] for m in MEASURED] for row in after] == [
        [row[m] for m in MEASURED] for row in before
    ]
    assert not list(Path("drawn").rglob("*.png"))  # no picture contradicts the table
    quality = json.loads(Path("o.run.json").read_text())["profile"]["quality"]
    assert quality["exclude_exposure_max"] == 1

    run(slides, *options)
    assert rows("o.csv") == before
    assert sorted(Path("drawn").rglob("*.png")) == drawn


def test_tiles_and_batches_have_no_part_in_it(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, "--out", "o.csv", "--um-per-px", "0.3125")
    run(slides, "--out", "p.csv", "--um-per-px", "0.3125", "--tile-px", "256", "--batch-size", "3")
    one, other = ([[row[m] for m in MEASURED] for row in rows(n)] for n in ("o.csv", "p.csv"))
    assert one == other
    assert all(row[1] for row in one)


def test_a_profile_that_names_no_measure_is_refused(slides: Path, tmp_path: Path, run: Run) -> None:
    wrong = profile_text("peripheral-blood").replace("exclude_focus_min", "exclude_fokus_min")
    Path("misspelt.toml").write_text(wrong, "utf-8")
    code, _, err = run(slides, "--out", "o.csv", "--profile", "misspelt.toml")
    assert code == 2
    assert "exclude_focus_min" in err
    assert cli.main(["profiles", "check", "misspelt.toml"]) == 2
