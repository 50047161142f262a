"""Fields of another magnification in a slide's folder are measured at their own scale (W03)."""

from __future__ import annotations

import csv

import tifffile
from PIL import Image

from tests.faults.recipes import Fields, Run, made

TURNS = [None, *(Image.Transpose(t) for t in (0, 1, 3))]


def rows(path: str = "o.csv") -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def counts(row: dict[str, str]) -> list[int]:
    return [int(row[f"n_{name}"]) for name in ("rbc", "wbc", "platelet")]


def half(fields: Fields, folder: str) -> None:
    """Four fields of half the size, turned."""
    for number, turn in enumerate(TURNS):
        field = fields.image(0) if turn is None else fields.image(0).transpose(turn)
        field.resize((320, 240), Image.Resampling.LANCZOS).save(made(f"{folder}/40x_{number}.png"))


def test_a_field_of_four_times_the_magnification(fields: Fields, run: Run) -> None:
    half(fields, "slide")
    twice = fields.image(1).resize((1280, 960))
    twice.save("slide/100x.png")
    scale = (1e4 / 0.163, 1e4 / 0.163)  # right, in a slide of another scale
    tifffile.imwrite(
        "slide/scaled.tif", fields.pixels(0), photometric="rgb", resolution=scale, resolutionunit=3
    )
    assert run("analyze", "slide", "--classifier", "none", "--out", "o.csv")[0] == 0
    found = rows()
    other = found["100x.png"]
    assert counts(other) == [62, 0, 4]  # 60, 0 and 4 are there
    assert "its red cells are 4.2 times as large as those of its slide" in other["reason"]
    scaled = found["scaled.tif"]
    assert counts(scaled) == [47, 7, 3]
    assert scaled["um_per_px"] == "0.163"
    assert "of its slide" not in scaled["reason"]
    # 47, 7 and 4 are there.
    turned = [counts(found[f"40x_{number}.png"]) for number in range(4)]
    assert turned == [[47, 7, 4], [47, 7, 4], [47, 7, 3], [47, 7, 3]]
    for number in range(4):
        assert "of its slide" not in found[f"40x_{number}.png"]["reason"]


def test_fields_of_a_quarter_of_the_magnification(fields: Fields, run: Run) -> None:
    for number, turn in enumerate(TURNS):
        field = fields.image(1) if turn is None else fields.image(1).transpose(turn)
        field.resize((1280, 960)).save(made(f"slide/100x_{number}.png"))
    fields.image(0).resize((320, 240), Image.Resampling.LANCZOS).save("slide/40x.png")
    assert run("analyze", "slide", "--classifier", "none", "--out", "o.csv")[0] == 0
    found = rows()["40x.png"]
    assert counts(found)[0] > 43
    assert counts(found)[1] == 7
    assert "its red cells are 0.24 times as large" in found["reason"]
