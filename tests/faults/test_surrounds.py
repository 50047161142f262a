"""Nothing outside the lit field is counted (W02), nor is anything drawn on it (W37)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.faults.recipes import Fields, Run, made, write_coco


def rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def counts(row: dict[str, str]) -> list[int]:
    return [int(row[f"n_{name}"]) for name in ("rbc", "wbc", "platelet")]


def in_a_disc(picture: Image.Image, colour: tuple[int, int, int], soft_px: float) -> Image.Image:
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse([86, 6, 554, 474], fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(soft_px))
    return Image.composite(picture, Image.new("RGB", picture.size, colour), mask)


def test_w02_the_surround_of_an_eyepiece(fields: Fields, run: Run) -> None:
    """Each disc in a folder of its own, in black, brown and white, soft and hard."""
    for number in (0, 5):
        black = in_a_disc(fields.image(number), (5, 5, 5), 5)
        black.save(made(f"s/black{number}/f.png"))
    brown = in_a_disc(fields.image(0), (70, 45, 25), 2)
    brown.save(made("s/brown0/f.jpg"), quality=92)
    in_a_disc(fields.image(0), (255, 255, 255), 0).save(made("s/white0/f.png"))
    around = Image.new("RGB", (760, 600), (5, 5, 5))
    around.paste(fields.image(0), (60, 60))
    around.save(made("s/mount0/f.png"))
    assert run("analyze", "s", "--classifier", "none", "--out", "o.csv", "--cells", "c.csv")[0] == 0
    found = {row["slide"].rpartition("/")[2]: row for row in rows("o.csv")}
    assert counts(found["black0"])[1:] == [1, 1]
    assert counts(found["black5"])[1] == 0
    assert counts(found["brown0"])[1] == 1
    # The edge cuts a monocyte, of which white leaves enough to be seen.
    assert counts(found["white0"])[1] == 2
    white = [r for r in rows("c.csv") if r["image"].startswith("white") and r["label"] == "wbc"]
    assert sorted(row["edge"] for row in white) == ["false", "true"]
    assert counts(found["mount0"])[0] in (46, 47)
    assert counts(found["mount0"])[1:] == [7, 3]
    for row in rows("c.csv"):
        if row["image"].startswith(("black", "brown", "white")):
            x = (float(row["x_min_px"]) + float(row["x_max_px"])) / 2
            y = (float(row["y_min_px"]) + float(row["y_max_px"])) / 2
            assert np.hypot(x - 320, y - 240) < 236, row


def test_an_evaluation_sees_no_cells_outside_the_lit_field_either(fields: Fields, run: Run) -> None:
    in_a_disc(fields.image(0), (5, 5, 5), 5).save(made("e/images/f.png"))
    inside = [
        a
        for a in fields.annotations(0, 1)
        if np.hypot(a["bbox"][0] + a["bbox"][2] / 2 - 320, a["bbox"][1] - 240) < 200
    ]
    write_coco("e/truth.json", [(1, "images/f.png")], inside)
    code, *text = run("evaluate", "detector", "e", "--json", "e.json")
    assert code == 0, text
    report = json.loads(Path("e.json").read_text(encoding="utf-8"))["reports"]["original"]
    white = next(one for one in report["classes"] if one["class"] == "wbc")
    assert white["counted"] <= 2


def graticule(draw: ImageDraw.ImageDraw) -> None:
    for k in range(0, 640, 64):
        draw.line([k, 0, k, 480], fill=(40, 40, 40))
        draw.line([0, k, 640, k], fill=(40, 40, 40))


def ruler(draw: ImageDraw.ImageDraw) -> None:
    draw.line([60, 240, 580, 240], fill=(30, 30, 30), width=2)
    for k in range(53):
        draw.line([60 + 10 * k, 240, 60 + 10 * k, 230 - 9 * (k % 5 == 0)], fill=(30, 30, 30))


def scale_bar(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle([480, 455, 620, 462], fill="red")
    draw.text((515, 420), "20 um", fill="red", font_size=26)


def caption(draw: ImageDraw.ImageDraw) -> None:
    draw.text((10, 8), "P 4711  100x  2024-05-01 12:30:11", fill="yellow", font_size=28)
    draw.line([10, 45, 400, 45], fill="yellow", width=4)


@pytest.mark.parametrize(
    ("draw", "caution"),
    [
        (graticule, "straight lines cross the picture"),
        (ruler, "straight lines cross the picture"),
        (scale_bar, "drawn into the picture"),
        (caption, "drawn into the picture"),
    ],
)
def test_w37_what_is_drawn_on_a_field_is_cautioned(
    fields: Fields, run: Run, draw: Callable[[ImageDraw.ImageDraw], None], caution: str
) -> None:
    picture = fields.image(5)
    draw(ImageDraw.Draw(picture))
    picture.save(made("s/f.png"))
    assert run("analyze", "s", "--classifier", "none", "--out", "o.csv")[0] == 0
    (row,) = rows("o.csv")
    assert caution in row["reason"]
    assert counts(row)[1] == 0
