"""Balance of colours: glass to white, red cells to one hue, nothing else moved."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.images.colour_balance import (
    LARGEST_FACTOR,
    REFERENCE_DENSITY,
    hue_factors,
    measure_balance,
)
from cellcount.images.white_balance import GLASS_WHITE, apply_gains, white_balance_gains

NO_CAST = np.ones(3, np.float32)


def field(density: tuple[float, float, float], *, share: float = 0.3) -> NDArray[np.uint8]:
    """White glass of which the first rows are cells of one density."""
    pixels = np.full((100, 120, 3), GLASS_WHITE)
    pixels[: round(100 * share)] *= 10.0 ** -np.array(density)
    return pixels.round().astype(np.uint8)


def densities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(np.log10(GLASS_WHITE / np.median(pixels[:20], axis=(0, 1))))


@pytest.mark.parametrize(
    "density", [(0.15, 0.15, 0.15), (0.18, 0.11, 0.13), (0.09, 0.3, 0.12), (0.2, 0.25, 0.15)]
)
def test_red_cells_get_the_hue_of_the_reference_and_keep_their_strength(
    density: tuple[float, float, float],
) -> None:
    pixels = field(density)
    seen = densities(measure_balance(pixels, red_cell_hue=True).apply(pixels))
    reference = np.array(REFERENCE_DENSITY)
    np.testing.assert_allclose(seen / seen.sum(), reference / reference.sum(), atol=0.015)
    assert np.exp(np.log(seen).mean()) == pytest.approx(np.exp(np.log(density).mean()), rel=0.05)


def test_glass_stays_white() -> None:
    pixels = field((0.15, 0.15, 0.15))
    assert (measure_balance(pixels, red_cell_hue=True).apply(pixels)[-1] == GLASS_WHITE).all()


def test_lamp_and_stain_are_undone_together() -> None:
    pixels = (field((0.16, 0.14, 0.13)) * np.array([0.8, 1.0, 0.6])).astype(np.uint8)
    seen = measure_balance(pixels, red_cell_hue=True).apply(pixels)
    np.testing.assert_allclose(seen[-1, 0], GLASS_WHITE, atol=2)
    ratio = densities(seen)
    np.testing.assert_allclose(
        ratio / ratio.sum(), np.array(REFERENCE_DENSITY) / sum(REFERENCE_DENSITY), atol=0.02
    )


def test_without_the_hue_it_is_the_white_balance() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    balance = measure_balance(pixels, red_cell_hue=False)
    np.testing.assert_array_equal(
        balance.apply(pixels), apply_gains(pixels, white_balance_gains(pixels))
    )


@pytest.mark.parametrize(
    ("density", "share"),
    [((0.02, 0.03, 0.02), 0.3), ((0.15, 0.15, 0.15), 0.0), ((0.5, 0.9, 0.4), 0.3)],
    ids=["haze", "empty glass", "nuclei alone"],
)
def test_what_shows_no_red_cells_keeps_its_hue(
    density: tuple[float, float, float], share: float
) -> None:
    assert (hue_factors(field(density, share=share), NO_CAST) == 1).all()


def test_factors_are_bounded() -> None:
    factors = hue_factors(field((0.4, 0.02, 0.02)), NO_CAST)
    assert factors.min() >= 1 / LARGEST_FACTOR
    assert factors.max() <= LARGEST_FACTOR
    assert factors[0] == np.float32(1 / LARGEST_FACTOR)


def test_dark_nuclei_among_red_cells_decide_nothing() -> None:
    pixels = field((0.18, 0.11, 0.13))
    with_nuclei = pixels.copy()
    with_nuclei[5:20, :40] = 40  # a twentieth of the field, half of what is left is red cells
    np.testing.assert_allclose(
        hue_factors(with_nuclei, NO_CAST), hue_factors(pixels, NO_CAST), rtol=0.02
    )
