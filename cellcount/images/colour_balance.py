"""Balance of a field's colours: its glass becomes white, its red cells get one common hue.

The light of a lamp multiplies each channel, which one gain per channel undoes (white balance). A
stain multiplies optical densities, so one factor per channel brings the hue of a laboratory's red
cells, grey, greenish or violet, to that of a reference. Their strength stays as it is. Both
together are one table per channel.

Shapes: pixels uint8 (H, W, 3) RGB; gains and factors float32 (3,); densities (N, 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.images.white_balance import GLASS_WHITE, apply_values, white_balance_gains

#: About the median optical density of stained pixels, in white balance, over every twelfth train
#: image of TXL-PBC (0.119, 0.167, 0.096).
REFERENCE_DENSITY = (0.120, 0.165, 0.098)
#: No density is multiplied by more than this, nor divided by it.
LARGEST_FACTOR = 2.5

#: Pixels count as red cells if their densest channel lies between: paler ones are glass and haze,
#: denser ones are nuclei.
_PALEST, _DENSEST = 0.06, 0.6
#: A smaller share of the pixels tells nothing of the stain.
_LEAST_SHARE = 0.01
_SAMPLES_PER_SIDE = 128


@dataclass(frozen=True, eq=False, slots=True)
class ColourBalance:
    """Gains and factors that balance the colours of a field.

    Attributes:
        gains: that bring the glass to white.
        factors: of the optical density above that white.
    """

    gains: NDArray[np.float32]
    factors: NDArray[np.float32]

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``pixels`` with balanced colours, rounded and clipped to 0–255."""
        values = np.arange(256, dtype=np.float32)[:, None] * self.gains
        if (self.factors != 1).any():
            values = (values / GLASS_WHITE) ** self.factors * GLASS_WHITE
        return apply_values(pixels, values)


def measure_balance(pixels: NDArray[np.uint8], *, red_cell_hue: bool) -> ColourBalance:
    """Measure the balance of a field, on a regular grid of its pixels.

    Args:
        pixels: the whole field, or spots of a slide.
        red_cell_hue: bring the hue of red cells to that of the reference, too.
    """
    gains = white_balance_gains(pixels)
    factors = hue_factors(pixels, gains) if red_cell_hue else np.ones(3, dtype=np.float32)
    return ColourBalance(gains, factors)


def hue_factors(pixels: NDArray[np.uint8], gains: NDArray[np.float32]) -> NDArray[np.float32]:
    """Factors (3,) of the density of each channel; all are 1 where too little is stained.

    Red cells cover most of what is stained on a smear of blood, so that the median of the stained
    pixels is theirs. Factors multiply to 1 unless one of them is bounded.
    """
    step_y = max(1, pixels.shape[0] // _SAMPLES_PER_SIDE)
    step_x = max(1, pixels.shape[1] // _SAMPLES_PER_SIDE)
    sample = pixels[::step_y, ::step_x].reshape(-1, 3).astype(np.float32)
    density = np.log10(GLASS_WHITE / np.maximum(sample * gains, 1.0))
    densest = density.max(axis=1)
    stained = density[(densest > _PALEST) & (densest < _DENSEST)]
    if len(stained) < _LEAST_SHARE * len(sample):
        return np.ones(3, dtype=np.float32)
    measured = np.maximum(np.median(stained, axis=0), 0.01)
    factors = np.array(REFERENCE_DENSITY) / measured
    factors /= np.exp(np.log(factors).mean())
    return np.asarray(np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR), np.float32)
