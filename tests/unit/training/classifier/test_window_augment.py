"""Training windows show what they should: turned, mirrored, magnified, moved as far as stated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cellcount.images.white_balance import GLASS_WHITE
from cellcount.images.windows import window
from cellcount.training.augment import ColourSettings
from cellcount.training.classifier.window_augment import CROP_AUGMENTS, CropAugment, CropTransform

SIDE = 40.0
STILL = CropAugment(
    rotation_deg=0.0, flip_x=False, flip_y=False, scale_core=(1.0, 1.0), wide_share=0.0, shift=0.0,
    shear=0.0, aspect=0.0, reflect=0.0, resolution=0.0, colour=None,
)  # fmt: skip


def canvas(side: int = 64) -> Tensor:
    """A dark rectangle, 16 px wide and 8 px high, in the middle of empty glass."""
    pixels = torch.full((3, side, side), GLASS_WHITE).to(torch.uint8)
    middle = side // 2
    pixels[:, middle - 4 : middle + 4, middle - 8 : middle + 8] = 40
    return pixels


def shown(augment: CropAugment | None, count: int = 1, size: int = 40) -> list[NDArray[np.uint8]]:
    transform = CropTransform(augment, (size, size), white_balance=False)
    torch.manual_seed(3)
    return [transform(canvas(), SIDE)[0].numpy() for _ in range(count)]


def dark(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return picture < 140


@pytest.mark.parametrize("augment", [None, STILL])
def test_a_window_as_it_is_equals_that_of_analysis(augment: CropAugment | None) -> None:
    (picture,) = shown(augment)
    pixels = canvas().permute(1, 2, 0).numpy()
    expected = window(pixels, (32.0, 32.0), SIDE, (40, 40))[..., 0]
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_reduced_windows_do_not_alias() -> None:
    (picture,) = shown(None, size=10)  # four pixels of the canvas become one
    pixels = canvas().permute(1, 2, 0).numpy()
    expected = window(pixels, (32.0, 32.0), SIDE, (10, 10))[..., 0]
    assert np.abs(picture.astype(int) - expected).mean() < 12


def test_any_angle_occurs_and_area_stays() -> None:
    pictures = shown(dataclasses.replace(STILL, rotation_deg=180.0), 60)
    angles = []
    for picture in pictures:
        rows, columns = np.nonzero(dark(picture))
        assert len(rows) == pytest.approx(128, abs=14)
        values, vectors = np.linalg.eigh(np.cov(columns, rows))
        x, y = vectors[:, values.argmax()]
        angles.append(np.degrees(np.arctan2(y, x)) % 180)
    assert np.histogram(angles, bins=6, range=(0, 180))[0].min() >= 3


def test_mirrors_are_the_four() -> None:
    marked = canvas()
    marked[:, 28:32, 24:30] = 200  # one corner of the rectangle is pale
    transform = CropTransform(dataclasses.replace(STILL, flip_x=True, flip_y=True), (40, 40),
                              white_balance=False)  # fmt: skip
    torch.manual_seed(0)
    seen = {transform(marked, SIDE)[0].numpy().tobytes() for _ in range(40)}
    plain = CropTransform(None, (40, 40), white_balance=False)(marked, SIDE)[0].numpy()
    assert seen == {
        np.ascontiguousarray(p).tobytes()
        for p in (plain, plain[::-1], plain[:, ::-1], plain[::-1, ::-1])
    }


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (1.6, 1.6), (0.8, 1.25)])
def test_cells_are_magnified_within_the_range(low: float, high: float) -> None:
    areas = [
        dark(p).sum() / 128 for p in shown(dataclasses.replace(STILL, scale_core=(low, high)), 30)
    ]
    assert min(areas) >= low**2 * 0.8
    assert max(areas) <= high**2 * 1.2
    if low < high:
        assert max(areas) / min(areas) > 1.6


def test_shifts_are_shares_of_the_window() -> None:
    middles = np.array([
        ndimage.center_of_mass(dark(p)) for p in shown(dataclasses.replace(STILL, shift=0.25), 60)
    ])  # fmt: skip
    moved = np.abs(middles - 19.5).max(axis=0)
    assert (moved <= 0.25 * 40 + 0.6).all()
    assert (moved > 0.2 * 40).all()


def test_shear_slants_upright_edges() -> None:
    tops = []
    for picture in shown(dataclasses.replace(STILL, shear=0.5), 40):
        rows, columns = np.nonzero(dark(picture))
        tops.append(columns[rows == rows.min()].mean() - columns[rows == rows.max()].mean())
    assert max(np.abs(tops)) <= 0.5 * 8 + 1
    assert max(tops) > 2 > -2 > min(tops)


def test_outside_the_canvas_is_white_or_a_mirror() -> None:
    small = torch.full((3, 40, 40), 90, dtype=torch.uint8)
    away = dataclasses.replace(STILL, scale_core=(0.5, 0.5))
    white = CropTransform(away, (40, 40), white_balance=False)(small, SIDE)
    assert (white[:, 0] == round(GLASS_WHITE)).all()
    mirrored = CropTransform(dataclasses.replace(away, reflect=1.0), (40, 40), white_balance=False)
    assert (mirrored(small, SIDE) == 90).all()


def test_resolution_takes_detail_and_nothing_else() -> None:
    (sharp,) = shown(STILL)
    (coarse,) = shown(dataclasses.replace(STILL, resolution=1.0))
    assert coarse.mean() == pytest.approx(sharp.mean(), abs=2)
    steepness = [np.abs(np.diff(p.astype(int), axis=1)).max() for p in (sharp, coarse)]
    assert steepness[1] < 0.8 * steepness[0]


def test_the_white_balance_comes_after_the_lamp() -> None:
    """The lamp's colour is gone from the glass again, the cell keeps its own."""
    pixels = canvas()
    pixels[2, 24:40, 20:44] = 200  # bluish in the middle
    lamp = ColourSettings(
        cast=0.45, stain=0, hue=0, saturation=0, contrast=0, glare=0, gamma=0, light=0, blur=0,
        jpeg=0, noise=0,
    )  # fmt: skip
    spreads, blueness = {}, []
    for balance in (False, True):
        transform = CropTransform(
            dataclasses.replace(STILL, colour=lamp, calm_share=0.0), (40, 40), white_balance=balance
        )
        torch.manual_seed(1)
        windows = [transform(pixels, SIDE).numpy().astype(float) for _ in range(20)]
        glass = np.array([w[:, :4, :4].mean(axis=(1, 2)) for w in windows])
        spreads[balance] = np.median(np.ptp(glass, axis=1))
        blueness = [w[2, 20, 20] - w[0, 20, 20] for w in windows]
    assert spreads[False] > 20
    assert spreads[True] < 4
    assert min(blueness) > 80


def test_presets_are_those_of_the_papers() -> None:
    two, three = CROP_AUGMENTS["seed-002"], CROP_AUGMENTS["seed-003"]
    assert two is not None
    assert three is not None
    assert (two.rotation_deg, two.flip_x, two.flip_y, two.shift, two.shear, two.first_plain) == (
        180.0, True, True, 0.25, 0.05, True,
    )  # fmt: skip
    assert (two.scale_core, two.colour) == ((1.0, 1.0), None)
    assert (three.rotation_deg, three.flip_x, three.scale_core) == (180.0, True, (0.8, 1.2))
    assert CROP_AUGMENTS["none"] is None
