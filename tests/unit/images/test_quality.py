"""Quality of a field: each measure sees what it is for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cellcount.core.records import Quality
from cellcount.images.quality import _focus, measure_quality

Pixels = NDArray[np.uint8]
GLASS = (225.0, 225.0, 230.0)
EOSIN = (0.05, 0.25, 0.20)  # optical density of a red cell in red, green, blue


def field(
    *,
    count: int = 60,
    blur_px: float = 0.8,
    glass: tuple[float, float, float] = GLASS,
    stain: tuple[float, float, float] = EOSIN,
    diameter_px: float = 32.0,
    noise: float = 0.0,
) -> Pixels:
    """Round cells of one stain on clear glass, blurred as light is, 800 x 640 at 32 px per cell."""
    rng = np.random.default_rng(3)
    zoom = diameter_px / 32
    height, width = round(640 * zoom), round(800 * zoom)
    cover = np.zeros((height, width))
    reach = round(diameter_px / 2) + 2
    for y, x in rng.uniform(0.05, 0.95, (count, 2)) * (height, width):
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        around = cover[top : int(y) + reach, left : int(x) + reach]
        ys, xs = np.ogrid[: around.shape[0], : around.shape[1]]
        away = np.hypot(ys + (top - y), xs + (left - x))
        np.maximum(around, np.clip(diameter_px / 2 + 0.5 - away, 0, 1), out=around)
    cover = ndimage.gaussian_filter(cover, blur_px * zoom)
    light = np.array(glass) * 10 ** (-cover[..., None] * np.array(stain))
    light += rng.normal(0, noise, light.shape) if noise else 0
    pixels: NDArray[np.uint8] = np.clip(light.round(), 0, 255).astype(np.uint8)
    return pixels


def quality(pixels: Pixels, diameter_px: float = 32.0) -> Quality:
    return measure_quality(pixels, 32 / diameter_px, 32)


def focus(pixels: Pixels, diameter_px: float = 32.0) -> float:
    found = quality(pixels, diameter_px).focus
    assert found is not None
    return found


def test_focus_falls_with_every_blur() -> None:
    found = [focus(field(blur_px=blur)) for blur in (0.5, 1, 2, 4, 8, 16)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8
    assert found[-2] < 0.35
    assert 0 <= found[-1] < 0.15


def test_focus_of_a_straight_edge_is_that_of_the_formula() -> None:
    """The step of a glass edge, blurred by b pixels, against the closed form of the docstring."""
    for blur in (2.0, 4.0, 8.0):
        step = ndimage.gaussian_filter1d(np.repeat([0.0, 1.0], 300), blur)
        light = np.tile(200 * 10 ** (-0.3 * step), (600, 1))[..., None].repeat(3, axis=2)
        fine, coarse = (32 / 24) ** 2, (32 / 8) ** 2
        slope, sharp = (
            np.sqrt((2 * coarse + 2 * b * b) / (fine + coarse + 2 * b * b)) for b in (blur, 0.0)
        )
        expected = (slope - 1) / (sharp - 1)
        assert focus(light.round().astype(np.uint8)) == pytest.approx(expected, abs=0.02)


def test_focus_minds_neither_density_nor_stain_nor_light_nor_size_nor_noise() -> None:
    for blur in (1.0, 4.0):
        usual = focus(field(blur_px=blur))
        assert focus(field(blur_px=blur, count=12)) == pytest.approx(usual, rel=0.1)
        assert focus(field(blur_px=blur, count=150)) == pytest.approx(usual, rel=0.1)
        pale = (0.03, 0.12, 0.1)
        assert focus(field(blur_px=blur, stain=pale)) == pytest.approx(usual, rel=0.1)
        dim = (112.0, 112.0, 115.0)
        assert focus(field(blur_px=blur, glass=dim)) == pytest.approx(usual, rel=0.1)
        large = field(blur_px=blur, diameter_px=80)
        assert focus(large, 80) == pytest.approx(usual, rel=0.1)
        assert focus(field(blur_px=blur, noise=2)) == pytest.approx(usual, rel=0.15)


def test_brightness_changes_exposure_only() -> None:
    bright, dim = quality(field()), quality(field(glass=(112.5, 112.5, 115.0)))
    assert bright.exposure == pytest.approx(226.67, abs=1)
    assert dim.exposure == pytest.approx(bright.exposure / 2, abs=1)
    assert dim.stained_percent == pytest.approx(bright.stained_percent, rel=0.03)
    assert dim.stain_balance == pytest.approx(bright.stain_balance, abs=0.01)
    assert dim.clipped_percent == bright.clipped_percent == 0


def test_a_lamp_s_colour_is_no_stain() -> None:
    yellow = quality(field(glass=(230.0, 200.0, 140.0)))
    assert yellow.stain_balance == pytest.approx(quality(field()).stain_balance, abs=0.01)


def test_stain_balance_is_red_s_share_of_the_density() -> None:
    assert quality(field()).stain_balance == pytest.approx(0.05 / 0.5, abs=0.02)
    blue = quality(field(stain=(0.4, 0.4, 0.2)))
    assert blue.stain_balance == pytest.approx(0.4, abs=0.02)


def test_stained_percent_is_the_area_of_the_cells() -> None:
    one = field(count=1, blur_px=0.5)
    area = 100 * np.pi * 16**2 / (640 * 800)
    assert quality(one).stained_percent == pytest.approx(area, rel=0.25)
    assert quality(field(count=40)).stained_percent > 15 * area


def test_clipped_pixels_are_counted() -> None:
    pixels = np.full((100, 100, 3), 128, np.uint8)
    pixels[:10, :, 0] = 255
    pixels[10:15] = 0
    assert quality(pixels).clipped_percent == 15


@pytest.mark.parametrize("shape", [(640, 800), (1, 1), (1, 3000), (3000, 1)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_there(shape: tuple[int, int], value: int) -> None:
    found = quality(np.full((*shape, 3), value, np.uint8))
    assert (found.focus, found.stain_balance, found.stained_percent) == (None, None, 0)
    assert found.exposure == value
    assert found.clipped_percent == (0 if value == 128 else 100)


def test_uneven_light_and_noise_are_not_stain() -> None:
    ys, xs = np.mgrid[-1:1:640j, -1:1:800j]
    light = 220 - 30 * (ys**2 + xs**2)[..., None]
    pixels = light + np.random.default_rng(0).normal(0, 4, (640, 800, 3))
    assert quality(pixels.astype(np.uint8)).stained_percent < 0.05


def test_a_large_field_is_sampled_alike() -> None:
    """Beyond 3 x 3 windows only a part is looked at for focus, and says the same."""
    tile = field(count=50)
    assert focus(np.tile(tile, (3, 3, 1))) == pytest.approx(focus(tile), rel=0.1)


def test_sample_fields_are_good(repo_root: Path) -> None:
    path = repo_root / "sample_data/slide-A/field-1.jpg"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert focus(pixels) > 0.8
    blurred = ndimage.gaussian_filter(pixels, (8, 8, 0))
    assert focus(blurred) < 0.3


@pytest.mark.parametrize("size", [(150, 203), (64, 96), (33, 7)])
def test_focus_is_that_of_gaussian_filters_on_the_whole_picture(size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.ascontiguousarray(field(count=400, blur_px=1.2)[60 : 60 + height, 60 : 60 + width])
    grey = np.log10(pixels.mean(axis=2) + 1)
    together = coarse_alone = 0.0
    for order in ((1, 0), (0, 1)):
        fine, coarse = (
            ndimage.gaussian_filter(grey, deviation, order=order, mode="nearest")
            for deviation in (32 / 24, 32 / 8)
        )
        together += (fine * coarse).sum()
        coarse_alone += (coarse * coarse).sum()
    sharpest = np.sqrt(2 * 4**2 / ((4 / 3) ** 2 + 4**2))
    expected = (together / coarse_alone - 1) / (sharpest - 1)
    assert _focus(Image.fromarray(pixels), 1.0) == pytest.approx(expected, rel=1e-6)


def test_a_flat_picture_has_no_focus() -> None:
    assert _focus(Image.new("RGB", (70, 50), (9, 81, 200)), 1.0) is None
