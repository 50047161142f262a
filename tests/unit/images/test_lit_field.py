"""The lit part of a picture: what lies around it is found, and nothing within it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cellcount.core.records import Picture
from cellcount.images.lit_field import find_lit_field, lit_part
from cellcount.images.source import Field
from cellcount.images.white_balance import white_balance_gains
from cellcount.rendering.field import FieldSpec, render_field

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
BLACK, BROWN, GREY, WHITE = (0, 0, 0), (70, 45, 25), (96, 96, 98), (255, 255, 255)


@pytest.fixture(scope="module")
def smear() -> Pixels:
    return render_field(FieldSpec(WIDTH, HEIGHT, 7, 44, 0.25)).pixels


def grid() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    y, x = np.indices((HEIGHT, WIDTH))
    return x, y


def disc() -> Mask:
    x, y = grid()
    return np.asarray(np.hypot(x - 320, y - 240) < 230)


def disc_cut_by_the_picture() -> Mask:
    x, y = grid()
    return np.asarray(np.hypot(x - 250, y - 240) < 330)


def turned() -> Mask:
    x, y = grid()
    u, v = x - 320 + 0.2 * (y - 240), y - 240 - 0.2 * (x - 320)
    return np.asarray((abs(u) < 280) & (abs(v) < 200))


def stitched() -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[:300, :360], mask[120:440, 290:] = True, True
    return mask


def strip_below() -> Mask:
    return np.asarray(grid()[1] < 430)


def surrounded(smear: Pixels, lit: Mask, colour: tuple[int, int, int], soft_px: float) -> Pixels:
    mask = Image.fromarray(lit.astype(np.uint8) * 255)
    if soft_px:
        mask = mask.filter(ImageFilter.GaussianBlur(soft_px))
    around = Image.new("RGB", (WIDTH, HEIGHT), colour)
    return np.asarray(Image.composite(Image.fromarray(smear), around, mask))


SHAPES = [disc, disc_cut_by_the_picture, turned, stitched, strip_below]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", [BLACK, BROWN, GREY, WHITE])
def test_what_lies_around_the_field_is_found(
    smear: Pixels, shape: Callable[[], Mask], colour: tuple[int, int, int]
) -> None:
    lit = shape()
    field = find_lit_field(surrounded(smear, lit, colour, 0))
    assert field is not None
    assert field.lit_share == pytest.approx(lit.mean(), abs=0.04)
    x, y = (axis[::9, ::9].ravel() for axis in grid())
    centres = np.stack([x, y, x, y], axis=1).astype(np.float32)
    assert (field.holds(centres) == lit[y, x]).mean() > 0.96


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("soft_px", [3, 8])
def test_a_soft_edge_belongs_to_what_lies_around(
    smear: Pixels, shape: Callable[[], Mask], soft_px: float
) -> None:
    lit = shape()
    field = find_lit_field(surrounded(smear, lit, BLACK, soft_px))
    assert field is not None
    assert lit.mean() - 0.1 < field.lit_share < lit.mean() + 0.01


def test_a_disc_photographed_with_noise_and_in_jpeg(smear: Pixels, tmp_path: Path) -> None:
    pixels = surrounded(smear, disc(), (14, 10, 12), 4).astype(np.float32)
    noisy = pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)
    path = tmp_path / "f.jpg"
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=80)
    field = find_lit_field(np.asarray(Image.open(path)))
    assert field is not None
    assert field.lit_share == pytest.approx(disc().mean(), abs=0.05)


def test_a_caption_in_the_strip_is_outside(smear: Pixels) -> None:
    picture = Image.fromarray(surrounded(smear, strip_below(), BLACK, 0))
    ImageDraw.Draw(picture).text((20, 440), "HV 4.0  100x  20 um", fill="white", font_size=28)
    field = find_lit_field(np.asarray(picture))
    assert field is not None
    assert field.lit_share == pytest.approx(430 / 480, abs=0.01)


def blots(smear: Pixels) -> Pixels:
    """Dark nuclei and heaps of them, at the border and in corners."""
    picture = Image.fromarray(smear)
    draw = ImageDraw.Draw(picture)
    for box in (
        [-60, -60, 90, 90],
        [250, 380, 420, 560],
        [560, 100, 720, 260],
        [-40, 200, 60, 320],
    ):
        draw.ellipse(box, fill=(60, 30, 90))
    draw.ellipse([540, 380, 760, 560], fill=(25, 22, 24))
    return np.asarray(picture)


def vignette(smear: Pixels) -> Pixels:
    x, y = grid()
    light = 1 - 0.6 * ((x - 320) ** 2 + (y - 240) ** 2) / (320**2 + 240**2)
    return np.asarray(smear * light[..., None], np.uint8)


def black_and_white(smear: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(smear).convert("L").convert("RGB"))


def overexposed(smear: Pixels) -> Pixels:
    return np.asarray(np.clip(smear * 1.8, 0, 255), np.uint8)


def one_cell_on_white(smear: Pixels) -> Pixels:
    picture = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.ellipse([200, 120, 440, 360], fill=(230, 200, 220))
    draw.ellipse([260, 180, 380, 320], fill=(120, 80, 160))
    del smear
    return np.asarray(picture)


def film_edge(smear: Pixels) -> Pixels:
    """Half of the picture is empty glass, along a straight edge of the film."""
    pixels = smear.copy()
    pixels[:, 340:] = np.percentile(smear, 95, axis=(0, 1)).astype(np.uint8)
    return pixels


def under_lit(smear: Pixels) -> Pixels:
    return np.asarray(smear * 0.2, np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        blots,
        vignette,
        black_and_white,
        overexposed,
        one_cell_on_white,
        film_edge,
        under_lit,
        lambda smear: smear,
        lambda smear: np.full_like(smear, 235),
        lambda smear: np.zeros_like(smear),
        lambda smear: smear[:5, :9],
    ],
)
def test_what_is_part_of_the_field_is_not_taken_for_surround(
    smear: Pixels, change: Callable[[Pixels], Pixels]
) -> None:
    pixels = np.ascontiguousarray(change(smear))
    assert find_lit_field(pixels) is None
    source = Field(Picture(pixels))
    assert lit_part(source) == (source, None)  # the very same, so that results are


def test_discs_beside_each_other_are_cells(disc_field: Any) -> None:  # noqa: ANN401
    for seed in range(4):
        assert find_lit_field(disc_field(400, 300, diameters=(31, 33), seed=seed).pixels) is None


def test_around_the_field_it_is_painted_as_clear_as_its_glass(smear: Pixels) -> None:
    source = Field(Picture(surrounded(smear, disc(), BLACK, 5), um_per_px=0.1))
    seen, field = lit_part(source)
    assert field is not None
    assert seen.picture is not None
    assert seen.um_per_px == 0.1
    corner = seen.picture.pixels[:40, :40].reshape(-1, 3)
    assert (corner == field.glass).all()
    np.testing.assert_array_equal(seen.picture.pixels[200:280, 200:440], smear[200:280, 200:440])
    np.testing.assert_allclose(
        seen.balance(red_cell_hue=False).gains, white_balance_gains(smear), rtol=0.03
    )


def test_cells_cut_by_the_edge_of_the_field_are_told(smear: Pixels) -> None:
    field = find_lit_field(surrounded(smear, disc(), BLACK, 0))
    assert field is not None
    boxes = np.array(
        [
            [300, 220, 340, 260],  # in the middle
            [305, 0, 335, 60],  # cut above
            [80, 225, 130, 255],  # cut on the left
            [530, 220, 560, 260],  # cut on the right
            [300, 450, 340, 479],  # cut below
            [10, 10, 60, 60],  # outside
        ],
        np.float32,
    )
    cut, late = field.cut(boxes)
    assert field.holds(boxes).tolist() == [True] * 5 + [False]
    assert cut.tolist()[:5] == [False, True, True, True, True]
    assert late.tolist()[:5] == [False, False, False, True, True]


@pytest.mark.parametrize(("name", "step"), [("bccd", 40), ("draaslan", 10), ("wbc-fields", 10)])
def test_real_fields_are_lit_as_a_whole(shared_data: Path, name: str, step: int) -> None:
    paths = sorted(p for p in (shared_data / name).rglob("*") if p.suffix in (".jpg", ".png"))
    found = [find_lit_field(np.asarray(Image.open(p).convert("RGB"))) for p in paths[::step]]
    assert len(found) > 5
    assert found == [None] * len(found)


def test_nothing_labelled_lies_outside_the_eyepiece(shared_data: Path) -> None:
    paths = sorted((shared_data / "pig-fields" / "images").rglob("*.jpg"))[::12]
    assert paths
    for path in paths:
        picture = Image.open(path).convert("RGB")
        field = find_lit_field(np.asarray(picture))
        assert field is not None, path
        label = next((shared_data / "pig-fields" / "labels").rglob(f"{path.stem}.txt"))
        rows = np.loadtxt(label, ndmin=2).reshape(-1, 5)
        size = np.array(picture.size * 2, np.float64)
        boxes = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], 1)
        assert field.holds(boxes * size).all(), path
