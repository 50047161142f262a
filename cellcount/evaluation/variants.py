"""Ways of changing images before a model is evaluated on them: resized, and the ``shift`` suite.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.data.shift import SHIFTS, resized


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of changing the images before they are evaluated.

    Attributes:
        name: shown in tables.
        factor: resize of image and boxes.
        change: photometric change, or None.
    """

    name: str
    factor: float = 1.0
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed image."""
        if self.factor != 1.0:
            pixels = resized(pixels, self.factor)
        return pixels if self.change is None else self.change(pixels)


ORIGINAL = Variant("original")


def variants(resizes: Sequence[float]) -> list[Variant]:
    """The original, the resized and the ``shift`` suite."""
    sizes = [Variant(f"{factor:g}x size", factor) for factor in resizes]
    return [ORIGINAL, *sizes, *(Variant(name, change=change) for name, change in SHIFTS.items())]
