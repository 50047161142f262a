"""Scale: factors by hand, the dead band, sampling and resizing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cellcount.images.scale import (
    factor_from_red_cells,
    factor_from_um_per_px,
    resize,
    sample_evenly,
)


@pytest.mark.parametrize(
    ("um_per_px", "target", "factor"),
    [
        (0.1, 75.0, 1.0),  # 7.5 µm are 75 px already
        (0.05, 75.0, 0.5),
        (0.2, 60.0, 1.6),
        (10.0, 80.0, 8.0),  # bounded
        (0.005, 80.0, 1 / 16),
    ],
)
def test_micrometres_decide(um_per_px: float, target: float, factor: float) -> None:
    assert factor_from_um_per_px(um_per_px, target) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("diameters", "factor"),
    [
        ([], 1.0),
        ([80.0], 1.0),
        ([70.0, 75.0, 95.0], 1.0),  # 80 / 75, inside the dead band
        ([66.0], 80 / 66),  # just outside of it
        ([97.0], 80 / 97),
        ([40.0, 160.0, 20.0], 2.0),  # the median field
        ([1.0], 8.0),
        ([5000.0], 1 / 16),
    ],
)
def test_red_cells_decide_outside_the_dead_band(diameters: list[float], factor: float) -> None:
    assert factor_from_red_cells(diameters, 80.0) == pytest.approx(factor)


def test_samples_are_spread_evenly() -> None:
    assert sample_evenly(0) == []
    assert sample_evenly(3) == [0, 1, 2]
    assert sample_evenly(9) == [0, 2, 4, 6, 8]
    assert sample_evenly(10_000) == [0, 2500, 5000, 7499, 9999]
    assert sample_evenly(7, wanted=2) == [0, 6]


def test_a_factor_of_one_is_the_same_array() -> None:
    pixels = np.zeros((5, 6, 3), np.uint8)
    assert resize(pixels, 1.0) is pixels


@pytest.mark.parametrize("factor", [0.37, 0.5, 1.9])
def test_resizing_keeps_the_mean_and_rounds_the_size(factor: float) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    pixels = np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC))
    small = resize(pixels, factor)
    assert small.shape == (round(120 * factor), round(160 * factor), 3)
    np.testing.assert_allclose(small.mean((0, 1)), pixels.mean((0, 1)), atol=1.5)


def test_reducing_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    reduced = resize(stripes, 0.25)
    assert np.ptp(reduced[:, 2:-2].astype(int)) <= 2, "a plain subsampling would show stripes"
    assert abs(int(reduced[8, 8, 0]) - 100) <= 2


def test_nothing_vanishes() -> None:
    assert resize(np.zeros((3, 200, 3), np.uint8), 1 / 16).shape == (1, 12, 3)
