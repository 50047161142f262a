"""Comparison of pictures: whether two show the same place of a slide, and which is the sharpest.

Planes of a z-stack and points in time show the same cells, whatever their focus; two fields never
do. They are compared where focus hardly matters, at ``_SIDE`` px along the longer side, without the
shading that all fields of a microscope share.

Shapes: pixels uint8 (H, W, 3) RGB; views float32 (h, w).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

View = NDArray[np.float32]

_SIDE, _SHADING_PX = 64, 6.0
#: Grey levels (standard deviation) below which a picture shows nothing to compare.
_LEAST_CONTRAST = 1.0
#: Dark nuclei must not decide alone: two fields may both have one in the middle.
_MOST_DEVIATIONS = 1.5
#: Correlation of views. Planes next to each other: 0.97 and more. Two fields that both have a white
#: cell in the middle: up to 0.7; two that a telephone took through the same eyepiece: up to 0.9.
SURELY_SAME, MAYBE_SAME = 0.92, 0.5


def view_of(pixels: NDArray[np.uint8]) -> View | None:
    """Reduced view of a picture, for ``likeness``; None where it shows nothing."""
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX)
    view = np.asarray(grey, np.float32)
    view = view - ndimage.gaussian_filter(view, _SHADING_PX)
    deviation = float(view.std())
    if deviation < _LEAST_CONTRAST:
        return None
    most = _MOST_DEVIATIONS * deviation
    clipped: View = np.clip(view, -most, most)
    return clipped


def likeness(first: View | None, second: View | None) -> float | None:
    """Correlation of two views, None where one shows nothing."""
    if first is None or second is None:
        return None
    if first.shape != second.shape:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Difference of neighbouring pixels, as a share of the brightness; higher is sharper."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    steps = sum(
        float(np.square(np.diff(grey, axis=axis), dtype=np.float64).mean())
        for axis in (0, 1)
        if grey.shape[axis] > 1
    )
    return steps / max(1.0, float(grey.mean())) ** 2
