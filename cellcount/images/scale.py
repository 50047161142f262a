"""Scale: how many original pixels are one pixel of the model.

A detector trained at one scale finds nothing at half of it, so every field is brought to the scale
of the model. Micrometres per pixel decide it where they are known. Where they are not, the red
cells themselves do: their median diameter over the slide, used for resizing and for nothing else,
since reading it as a measurement would hide micro- and macrocytosis.

Shapes: pixels uint8 (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Mean red-cell diameter on a dried smear, in micrometres.
RBC_DIAMETER_UM = 7.5
#: Estimated factors this close to 1 (as a ratio) leave the field alone.
DEAD_BAND = 1.2
_SMALLEST, _LARGEST = 1 / 16, 8.0
#: Fields per slide that the estimate looks at.
SAMPLED_FIELDS = 5


def factor_from_um_per_px(um_per_px: float, rbc_diameter_px: float) -> float:
    """Factor that brings a red cell of 7.5 µm to ``rbc_diameter_px`` of the model."""
    return _bounded(rbc_diameter_px * um_per_px / RBC_DIAMETER_UM)


def factor_from_red_cells(diameters_px: Sequence[float], rbc_diameter_px: float) -> float:
    """Factor from the red-cell diameters measured on a slide's sampled fields, 1 for none.

    Within the dead band of ±20 % the field stays as it is.
    """
    if not len(diameters_px):
        return 1.0
    factor = _bounded(rbc_diameter_px / float(np.median(diameters_px)))
    return 1.0 if 1 / DEAD_BAND <= factor <= DEAD_BAND else factor


def _bounded(factor: float) -> float:
    return float(np.clip(factor, _SMALLEST, _LARGEST))


def sample_evenly(count: int, wanted: int = SAMPLED_FIELDS) -> list[int]:
    """Indices of at most ``wanted`` fields spread evenly over ``count``."""
    if count <= wanted:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, wanted).round()]


def resize(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The field times ``factor``, bilinear with antialiasing; the same array where it is 1."""
    return pixels if factor == 1.0 else resized(Image.fromarray(pixels), factor)


def resized(image: Image.Image, factor: float) -> NDArray[np.uint8]:
    """Pixels of an image as ``resize`` gives them, where it is one of Pillow's already."""
    if factor != 1.0:
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)
