"""The shift suite: fixed, named, and doing what each name says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.evaluation.perturbations import SHIFTS, resized

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 230, (9, 12, 3)).astype(np.float32)
    return np.asarray(ndimage.zoom(coarse, (8, 8, 1), order=1).clip(0, 255), np.uint8)


def test_the_suite_is_fixed() -> None:
    assert list(SHIFTS) == [
        "yellow cast", "blue cast", "green cast", "dark", "gamma 0.6", "gamma 1.6", "hue -20",
        "hue +20", "pale stain", "strong stain", "grey", "vivid", "blur 1.5", "jpeg 20",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SHIFTS)
def test_each_is_deterministic_and_changes_pixels_but_not_the_input(
    name: str, pixels: Pixels
) -> None:
    before = hashlib.sha256(pixels.tobytes()).hexdigest()
    first, second = SHIFTS[name](pixels), SHIFTS[name](pixels)
    np.testing.assert_array_equal(first, second)
    assert first.shape == pixels.shape
    assert first.dtype == np.uint8
    assert np.abs(first.astype(int) - pixels).mean() > 1
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == before


def test_values_by_hand() -> None:
    one = np.array([[[200, 100, 50]]], np.uint8)
    assert SHIFTS["dark"](one).tolist() == [[[100, 50, 25]]]
    assert SHIFTS["yellow cast"](one).tolist() == [[[200, 95, 33]]]
    assert SHIFTS["gamma 1.6"](one).tolist() == [[[173, 57, 19]]]  # 255 (v / 255) ** 1.6
    assert SHIFTS["gamma 0.6"](one)[0, 0, 0] == round(255 * (200 / 255) ** 0.6)


def test_stains_scale_optical_density(pixels: Pixels) -> None:
    def density(values: Pixels) -> float:
        return float(-np.log((values.astype(float) + 1) / 256).mean())

    assert density(SHIFTS["pale stain"](pixels)) == pytest.approx(0.6 * density(pixels), rel=0.02)
    assert density(SHIFTS["strong stain"](pixels)) == pytest.approx(1.5 * density(pixels), rel=0.02)


def test_blur_lowers_detail_and_keeps_the_mean(pixels: Pixels) -> None:
    blurred = SHIFTS["blur 1.5"](pixels)
    assert (
        np.abs(np.diff(blurred.astype(int), axis=1)).sum()
        < 0.95 * np.abs(np.diff(pixels.astype(int), axis=1)).sum()
    )
    assert blurred.mean() == pytest.approx(pixels.mean(), abs=1)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_resized(factor: float, pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    assert resized(pixels, factor).shape == (round(height * factor), round(width * factor), 3)
