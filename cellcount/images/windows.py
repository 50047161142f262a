"""Cutting one cell out of a picture: a window of given size, or the centre-most contour.

Shapes: pixels uint8 (H, W, 3) RGB; places and sides in pixels of the picture, x to the right and
y down, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.images.white_balance import GLASS_WHITE

Interpolation = Literal["bilinear", "bicubic"]
_FILTERS = {
    "bilinear": (Image.Resampling.BILINEAR, 1.0),
    "bicubic": (Image.Resampling.BICUBIC, 2.0),
}
#: Larger windows are looked at in a picture reduced by a whole number, which bounds memory.
_LARGEST_PX = 4096
#: Sides of the square on which a window can depend: resampling looks a quarter of a side further.
LEAST_SIDES = 1.5
#: Sides of the square whose white balance a cell of a field gets: as much as pictures of single
#: cells show.
BALANCE_SIDES = 2.0
_MARGIN_PX = 8
#: The numbers of seeds/002 are for pictures of this side, and grow with the picture.
_CONTOUR_PICTURE_PX = 250
_CONTOUR_LEAST_PX = 100
_CONTOUR_SIGMA_PX = 2.0


class Part(NamedTuple):
    """Some boxes of an image, with pixels that show them and their surroundings.

    Attributes:
        which: their indices among the boxes that were asked for, (n,).
        pixels: (h, w, 3).
        boxes_xyxy: where they lie in these pixels, (n, 4).
    """

    which: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.floating[Any]]


def window(
    pixels: NDArray[np.uint8],
    centre_xy: tuple[float, float],
    side_px: float,
    out_px: tuple[int, int],
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """The square window about a place, resampled with antialiasing to uint8 (h, w, 3).

    What lies outside the picture is white, as empty glass is after white balance.

    Args:
        pixels: the picture.
        centre_xy: centre of the window.
        side_px: its side.
        out_px: height and width that come out.
        interpolation: ``bilinear`` or ``bicubic``.
    """
    (x, y), side = centre_xy, side_px
    if reduced := int(side // _LARGEST_PX):
        pixels = np.asarray(Image.fromarray(pixels).reduce(reduced + 1))
        x, y, side = x / (reduced + 1), y / (reduced + 1), side / (reduced + 1)
    resample, support = _FILTERS[interpolation]
    margin = ceil(support * max(1.0, side / min(out_px)))  # px beyond the window that count
    left, top = floor(x - side / 2) - margin, floor(y - side / 2) - margin
    extent = ceil(side) + 2 * margin + 1
    canvas = _cut(pixels, left, top, extent)
    box = (x - side / 2 - left, y - side / 2 - top, x + side / 2 - left, y + side / 2 - top)
    resized = Image.fromarray(canvas).resize((out_px[1], out_px[0]), resample, box=box)
    return np.asarray(resized)


def surroundings(
    pixels: NDArray[np.uint8],
    centre_xy: tuple[float, float],
    side_px: float,
    *,
    sides: float = LEAST_SIDES,
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Surroundings of a window within so many sides of its centre, and the centre's place there.

    From ``LEAST_SIDES`` up the window, cut from that, is the same as cut from the whole picture.
    """
    (x, y), reach = centre_xy, ceil(sides / 2 * side_px) + _MARGIN_PX
    if side_px >= _LARGEST_PX:  # is looked at in a picture reduced as a whole
        return pixels, centre_xy
    left, top = max(0, floor(x) - reach), max(0, floor(y) - reach)
    near = pixels[top : max(top, floor(y) + reach), left : max(left, floor(x) + reach)]
    return near, (x - left, y - top)


def _cut(pixels: NDArray[np.uint8], left: int, top: int, extent: int) -> NDArray[np.uint8]:
    """Cut a square of whole pixels, filled with white beyond the picture."""
    height, width = pixels.shape[:2]
    canvas = np.full((extent, extent, 3), round(GLASS_WHITE), np.uint8)
    x0, x1 = max(left, 0), min(left + extent, width)
    y0, y1 = max(top, 0), min(top + extent, height)
    if x0 < x1 and y0 < y1:
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return canvas


def contour_crop(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The square about the centre-most contour, as seeds/002 crops; the picture where none is.

    Edges are where the green channel changes most, since stained cells absorb green. A contour
    encloses what its edges do; those of less than 100 px in a picture of 250 px are dropped.
    """
    height, width = pixels.shape[:2]
    found = _contours(pixels)
    if not found:
        return pixels
    middle = np.array([height / 2, width / 2])
    _, rows, columns = min(found, key=lambda c: float(np.hypot(*(c[0] - middle))))
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    centre = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
    return window(pixels, centre, side, (side, side))


def _contours(pixels: NDArray[np.uint8]) -> list[tuple[NDArray[np.float64], slice, slice]]:
    """Centre (y, x), rows and columns of everything that edges enclose."""
    from scipy import ndimage

    scale = max(pixels.shape[:2]) / _CONTOUR_PICTURE_PX
    green = pixels[..., 1].astype(np.float32)
    slope = ndimage.gaussian_gradient_magnitude(green, _CONTOUR_SIGMA_PX * scale)
    parts, _ = ndimage.label(ndimage.binary_fill_holes(slope > otsu(slope)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        part = parts[rows, columns] == number
        length = int((part & ~ndimage.binary_erosion(part)).sum())
        if length >= _CONTOUR_LEAST_PX * scale:
            origin = np.array([rows.start, columns.start])
            centre = origin + ndimage.center_of_mass(part) + 0.5
            found.append((centre, rows, columns))
    return found


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold that divides ``values`` into the two most different halves (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    below, middles = np.cumsum(counts), (edges[:-1] + edges[1:]) / 2
    mass = np.cumsum(counts * middles)
    above = below[-1] - below
    split = (below > 0) & (above > 0)
    if not split.any():
        return float(edges[-1])
    apart = (mass[-1] * below - mass * below[-1])[split] ** 2 / (below * above)[split]
    return float(middles[split][np.argmax(apart)])
