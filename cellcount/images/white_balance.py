"""White balance: gains that bring the clear background of every smear to the same white.

Lamp, filter and camera multiply each channel; the brightest parts of a smear are empty glass, so
one gain per channel undoes the cast. The same function serves training and analysis.

Shapes: pixels uint8 (H, W, 3) RGB; gains float32 (3,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GLASS_WHITE = 235.0
GLASS_PERCENTILE = 95.0
_LOWEST_GAIN, _HIGHEST_GAIN = 0.75, 3.0
_SAMPLES_PER_SIDE = 256
#: Of so few values a part is sorted sooner than Pillow has made a picture of them.
_FEW = 2048


def white_balance_gains(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gain per channel (3,) that brings the background of ``pixels`` to ``GLASS_WHITE``.

    A regular grid of at most 256 x 256 pixels is looked at, so the cost does not grow with the
    image. Gains are bounded: a black image is not stretched into noise.
    """
    gains = GLASS_WHITE / np.maximum(glass_level(pixels), 1.0)
    return np.clip(gains, _LOWEST_GAIN, _HIGHEST_GAIN).astype(np.float32)


def glass_level(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness of the clear background per channel (3,), from the same grid."""
    step_y = max(1, pixels.shape[0] // _SAMPLES_PER_SIDE)
    step_x = max(1, pixels.shape[1] // _SAMPLES_PER_SIDE)
    sample = pixels[::step_y, ::step_x].reshape(-1, 3)
    return percentiles(sample, GLASS_PERCENTILE)


def percentile(values: NDArray[np.uint8], percent: float) -> float:
    """``np.percentile`` of bytes (N,), N at least 1."""
    return float(percentiles(values[:, None], percent)[0])


def percentiles(colours: NDArray[np.uint8], percent: float) -> NDArray[np.float64]:
    """``np.percentile`` of each of C channels, to the last bit, by counting instead of sorting.

    Args:
        colours: bytes (N, C), N at least 1.
        percent: 0 to 100.
    """
    count = len(colours)
    place = percent / 100 * (count - 1)
    ranks = [int(place), min(int(place) + 1, count - 1)]
    if count <= _FEW:
        low, high = np.partition(colours, ranks, axis=0)[ranks].astype(np.float64)
    else:
        # Pillow counts bytes as they are; numpy would make an integer of 8 bytes of each before.
        counts = [Image.fromarray(np.ascontiguousarray(c)[None]).histogram() for c in colours.T]
        reached = np.array(counts).cumsum(axis=1)
        low, high = ((reached <= rank).sum(axis=1).astype(np.float64) for rank in ranks)
    share = place - ranks[0]
    if share >= 0.5:  # as numpy does, so that both ends are met exactly
        return np.asarray(high - (high - low) * (1 - share))
    return np.asarray(low + (high - low) * share)


def apply_gains(pixels: NDArray[np.uint8], gains: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``pixels`` times the gain of each channel, rounded and clipped to 0–255."""
    return apply_values(pixels, np.arange(256, dtype=np.float32)[:, None] * gains)


def apply_values(pixels: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``pixels`` with each byte replaced by its value, rounded and clipped to 0–255.

    Args:
        pixels: (H, W, 3).
        values: of the bytes 0 to 255 in each channel, (256, 3).
    """
    tables = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    replaced = np.empty_like(pixels)
    for channel in range(3):
        np.take(tables[:, channel], pixels[..., channel], out=replaced[..., channel])
    return replaced
