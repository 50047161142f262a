"""Ways of changing images before a model is evaluated on them: resized, and the ``shift`` suite.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellcount.evaluation.shift import SHIFTS, resized
from cellcount.images.stain_reference import StainReference


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of changing the images before they are evaluated.

    Attributes:
        name: shown in tables.
        factor: resize of image and boxes.
        change: photometric change, or None.
        prepare: what is done to the changed image before a model sees it, or None.
    """

    name: str
    factor: float = 1.0
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed image."""
        if self.factor != 1.0:
            pixels = resized(pixels, self.factor)
        return pixels if self.change is None else self.change(pixels)

    def prepared(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed image as a model sees it."""
        return pixels if self.prepare is None else self.prepare(pixels)


ORIGINAL = Variant("original")


def variants(resizes: Sequence[float]) -> list[Variant]:
    """The original, the resized and the ``shift`` suite."""
    sizes = [Variant(f"{factor:g}x size", factor) for factor in resizes]
    return [ORIGINAL, *sizes, *(Variant(name, change=change) for name, change in SHIFTS.items())]


def with_stain(chosen: Sequence[Variant], stain: StainReference | None) -> list[Variant]:
    """Each variant as it is and, after it, with its stain normalized; unchanged without any."""
    if stain is None:
        return list(chosen)
    return [
        variant
        for one in chosen
        for variant in (one, replace(one, name=f"{one.name}, stain", prepare=stain.apply))
    ]
