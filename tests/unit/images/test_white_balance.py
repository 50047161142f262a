"""White balance: the cast of a lamp is undone, within bounds."""

from __future__ import annotations

import numpy as np
import pytest

from cellcount.images.white_balance import GLASS_WHITE, apply_gains, white_balance_gains


def smear(background: tuple[int, int, int], shape: tuple[int, int] = (300, 400)) -> np.ndarray:
    """A field whose background covers four fifths."""
    pixels = np.empty((*shape, 3), np.uint8)
    pixels[:] = background
    pixels[:, : shape[1] // 5] = np.array(background) * 0.5
    return pixels


@pytest.mark.parametrize("background", [(235, 235, 235), (255, 250, 160), (120, 200, 180)])
def test_the_background_becomes_white(background: tuple[int, int, int]) -> None:
    pixels = smear(background)
    gains = white_balance_gains(pixels)
    np.testing.assert_allclose(
        gains, np.clip(GLASS_WHITE / np.array(background), 0.75, 3), rtol=1e-6
    )
    balanced = apply_gains(pixels, gains)
    np.testing.assert_allclose(balanced[0, -1], GLASS_WHITE, atol=1)
    assert balanced.dtype == np.uint8


def test_gains_are_bounded() -> None:
    assert white_balance_gains(np.zeros((9, 9, 3), np.uint8)).tolist() == [3.0, 3.0, 3.0]
    assert white_balance_gains(np.full((1, 1, 3), 255, np.uint8)).min() >= 0.75


def test_a_large_field_is_sampled_and_gives_the_same_gains() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(100, 250, (256, 256, 3)).astype(np.uint8)
    large = small.repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(white_balance_gains(small), white_balance_gains(large))


def test_gains_round_and_clip_as_float_arithmetic_does() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    gains = np.array([0.75, 1.337, 3.0], np.float32)
    expected = np.clip(np.floor(pixels * gains + np.float32(0.5)), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(apply_gains(pixels, gains), expected)
    np.testing.assert_array_equal(apply_gains(pixels, np.ones(3, np.float32)), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 3), (40, 41), (300, 517)])
def test_the_brightest_twentieth_is_numpys_to_the_last_bit(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for highest in (1, 5, 256):
        pixels = rng.integers(0, highest, (*shape, 3)).astype(np.uint8)
        step_y, step_x = (max(1, side // 256) for side in shape)
        bright = np.percentile(pixels[::step_y, ::step_x].reshape(-1, 3), 95.0, axis=0)
        expected = np.clip(GLASS_WHITE / np.maximum(bright, 1.0), 0.75, 3.0).astype(np.float32)
        np.testing.assert_array_equal(white_balance_gains(pixels), expected)
