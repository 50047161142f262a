"""Overlays on a picture that are no blood: scale bars, captions, rulers, graticules of eyepieces.

Ink that a program burnt in is black, white or of a pure colour, which neither dyes nor glass are;
cells that are found on it are none. A graticule is dark in the picture itself: long thin straight
lines, of which smears have none. It cannot be taken off the cells under it, so it is only told.

Shapes: pixels uint8 (H, W, 3) RGB; masks (H, W); boxes (N, 4) xyxy in pixels of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.images.thumbnails import Thumbnails
from cellcount.images.white_balance import GLASS_PERCENTILE, glass_level, percentile

Mask = NDArray[np.bool_]
#: Black ink has no channel above this, white ink none below; pure colours have two so far apart.
_BLACK, _WHITE, _PURE = 12, 252, 200
#: Glass as dark or as bright as ink hides it.
_LEAST_GLASS, _MOST_GLASS = 90.0, 244.0
#: Fewer pixels of ink are dust.
_LEAST_INK_PX = 24
#: Share of a cell's box that is ink where the ink is what was found.
_ON_INK = 0.12
#: A bar: so long, as a share of the picture's width, so many times longer than high, and so solid.
_BAR_LONG, _BAR_SLIM, _BAR_SOLID = 0.03, 4.0, 0.9
#: Lines are sought in a picture of this side, at angles so many degrees apart.
_SIDE_PX, _STEP_DEG, _BIN_PX, _MOST_POINTS = 320, 1.5, 2, 500
#: A line is darker than what lies on both sides of it by this share of the glass, along so much of
#: the picture's shorter side. Rows of cells are so along less than half of it.
_DARKER, _LEAST_LINE = 0.06, 0.6
#: Steps of so few grey levels are rounding, in a picture that is nearly black.
_LEAST_STEP = 3


@dataclass(frozen=True, eq=False, slots=True)
class Overlay:
    """Overlay drawn on a picture.

    Attributes:
        ink: where ink was burnt in, (H, W), None for nowhere.
        has_bar: whether some of it is a scale bar or a ruler.
        has_lines: whether straight lines cross the picture.
    """

    ink: Mask | None
    has_bar: bool
    has_lines: bool

    def under(self, boxes_xyxy: NDArray[np.floating[Any]]) -> Mask:
        """Mask of the boxes with so much ink that the ink was taken for the cell, (N,)."""
        is_ink = np.zeros(len(boxes_xyxy), np.bool_)
        if self.ink is None:
            return is_ink
        for place, box in enumerate(boxes_xyxy):
            x0, y0 = np.floor(box[:2]).astype(int).tolist()
            x1, y1 = np.ceil(box[2:]).astype(int).tolist()
            is_ink[place] = self.ink[y0:y1, x0:x1].mean() >= _ON_INK
        return is_ink


def find_overlay(pixels: NDArray[np.uint8], thumbnails: Thumbnails | None = None) -> Overlay | None:
    """Find the overlay drawn on a picture, None where there is none.

    Args:
        pixels: of the picture.
        thumbnails: its views, where there are any.
    """
    ink = _ink(pixels)
    has_lines = _has_lines((thumbnails or Thumbnails(pixels)).grey(_SIDE_PX))
    if ink is None and not has_lines:
        return None
    has_bar = ink is not None and _has_bar(ink)
    return Overlay(ink, has_bar=has_bar, has_lines=has_lines)


def _ink(pixels: NDArray[np.uint8]) -> Mask | None:
    """Pixels of black, white and pure ink, None for hardly any."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    # Black, white and pure inks have little or much green, all but orange, which strong dyes
    # come near; every second pixel is enough to tell.
    some = np.ascontiguousarray(green[::2, ::2])
    if np.count_nonzero((some <= _BLACK) | (some >= _WHITE)) < _LEAST_INK_PX / 8:
        return None
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    glass = glass_level(pixels)
    ink = high - low >= _PURE
    if glass.max() >= _LEAST_GLASS:
        ink |= high <= _BLACK
    if glass.max() <= _MOST_GLASS:
        ink |= low >= _WHITE
    return ink if ink.sum() >= _LEAST_INK_PX else None


def _has_bar(ink: Mask) -> bool:
    """Return whether ink makes a solid bar along rows or columns."""
    labels, _ = ndimage.label(ink)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        long, short = max(height, width), min(height, width)
        if long < _BAR_LONG * max(ink.shape) or long < _BAR_SLIM * short:
            continue
        if (labels[rows, columns] == number).mean() >= _BAR_SOLID:
            return True
    return False


def _has_lines(grey: NDArray[np.uint8]) -> bool:
    """Return whether thin dark straight lines cross a picture, at whatever angle.

    Args:
        grey: view of the picture, (h, w).
    """
    if min(grey.shape) < _SIDE_PX / 4:
        return False
    least = int(_DARKER * percentile(grey[::4, ::4].ravel(), GLASS_PERCENTILE))
    if least < _LEAST_STEP:
        return False
    is_line = np.zeros(grey.shape, np.bool_)
    is_line[2:-2] = _is_below_both(grey[2:-2], grey[:-4], grey[4:], least)
    is_line[:, 2:-2] |= _is_below_both(grey[:, 2:-2], grey[:, :-4], grey[:, 4:], least)
    points = np.flatnonzero(is_line)
    least_points = _LEAST_LINE * min(grey.shape)
    if len(points) < least_points:
        return False
    thin = 1 + len(points) // _MOST_POINTS  # so many points tell as well as all of them
    y, x = np.divmod(points[::thin], grey.shape[1])
    return bool(thin * _most_in_line(x, y, grey.shape) >= least_points)


def _is_below_both(
    own: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8], least: int
) -> Mask:
    """Mask of pixels that are darker by a margin than those on both sides of them."""
    sides = np.minimum(first, second)
    return np.asarray((sides > own) & (sides - own > least))  # bytes have no sign


def _most_in_line(x: NDArray[np.intp], y: NDArray[np.intp], shape: tuple[int, ...]) -> int:
    """Number of points by which the fullest straight line exceeds its neighbours (Hough 1962)."""
    angles = np.deg2rad(np.arange(0, 180, _STEP_DEG), dtype=np.float32)
    reach = int(math.hypot(*shape)) // _BIN_PX + 3
    across = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float64) / _BIN_PX
    place = across @ np.stack([x, y]).astype(np.float64)  # (angles, points)
    place += (
        reach + 2 * reach * np.arange(len(angles))[:, None]
    )  # above 0: cutting is rounding down
    counts = np.bincount(place.astype(np.intp).ravel(), minlength=2 * reach * len(angles))
    counts = counts.reshape(len(angles), 2 * reach)
    beside = np.maximum(counts[:, :-4], counts[:, 4:])  # rows of cells are not so thin
    return int((counts[:, 2:-2] - beside).max())
