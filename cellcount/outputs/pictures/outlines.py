"""Outlines of the cells of one class, laid into a picture: a line, set off by a pale rim.

Slanted lines are drawn twice as large and reduced, each cell by itself; straight ones lie on whole
pixels. Each pixel of the picture has a code that says how much of it lines and rims cover, and only
the pixels that they touch are changed.

Shapes: N cells; boxes are float ``(N, 4)`` xyxy in pixels of the picture, which is uint8
``(H, W, 3)`` RGB; its codes are uint8 ``(H, W)``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.outputs.pictures.shapes import DASH_SHARE, Look, draw_outline, rectangle

_RIM_OPACITY = 0.55
# A code is the sum over the points of a pixel, four at most: the number of each is read from it.
_RIM, _LINE = 1, 5
_SMOOTH = 2
_BLENDED_AT_ONCE = 1 << 20  # pixels: floats of a whole huge picture would take many times its room


def line_width(boxes_xyxy: NDArray[np.float64], longest: int) -> int:
    """Width of outlines: by the size of the picture, thinner where cells are small."""
    width = longest / 320
    if len(boxes_xyxy):
        width = min(width, float(np.median(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])) / 36)
    return max(1, round(width))


def outline_class(
    view: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    edge: NDArray[np.bool_],
    look: Look,
    width: int,
) -> None:
    """Outline cells of one class in a picture, in place.

    Args:
        view: the picture, in one piece of memory.
        boxes_xyxy: boxes of the cells, inside the picture.
        edge: (N,) whether a cell is cut by the image's edge, and drawn dashed.
        look: colour and shape of the outlines.
        width: of the line, in pixels.
    """
    if not len(boxes_xyxy):
        return
    codes = np.zeros(view.shape[:2], np.uint8)
    rim = width + max(2, width)
    dashes = np.where(edge, 6.0 + 4 * width, 0.0).tolist()
    if look.outline is rectangle:
        for code, drawn_width in ((_RIM, rim), (_LINE, width)):
            for box, dash in zip(np.rint(boxes_xyxy).astype(int).tolist(), dashes, strict=True):
                _draw_rectangle(codes, box, drawn_width, code, dash)
        _blend(view, codes, look, 1)
    else:
        for box, dash in zip(boxes_xyxy.tolist(), dashes, strict=True):
            _draw_slanted(codes, box, look, (rim, width), dash)
        _blend(view, codes, look, _SMOOTH**2)


def _draw_rectangle(
    codes: NDArray[np.uint8], box_xyxy: list[int], width: int, code: int, dash: float
) -> None:
    """Draw the sides of a box into the codes of a picture.

    Args:
        codes: of the picture, the box inside.
        box_xyxy: middle of the line.
        width: of the line.
        code: set where the line is.
        dash: length of a dash and a gap together, 0 for a line without gaps.
    """
    x_min, y_min, x_max, y_max = box_xyxy
    before, after = width // 2, (width + 1) // 2  # a line of two has one on either side
    left, top, right, bottom = x_min - before, y_min - before, x_max + after, y_max + after
    rows, columns = slice(max(0, top), bottom), slice(max(0, left), right)
    bands = (
        codes[rows.start : y_min + after, columns],
        codes[rows, max(0, x_max - before) : right].T,
        codes[max(0, y_max - before) : bottom, columns],
        codes[rows, columns.start : x_min + after].T,
    )
    if not dash:
        for band in bands:
            band[:] = code
        return
    x = np.arange(columns.start, min(right, codes.shape[1])) - x_min
    y = np.arange(rows.start, min(bottom, codes.shape[0])) - y_min
    across, down = x_max - x_min, y_max - y_min
    # The way along the middle of the line, so that dashes run on around corners.
    ways = (x, across + y, 2 * across + down - x, 2 * (across + down) - y)
    for band, way in zip(bands, ways, strict=True):
        band[:, way % dash < DASH_SHARE * dash] = code


def _draw_slanted(
    codes: NDArray[np.uint8],
    box_xyxy: list[float],
    look: Look,
    widths: tuple[int, int],
    dash: float,
) -> None:
    """Draw a cell's outline of any shape into the codes of a picture.

    Args:
        codes: of the picture; where another outline covers more of a pixel, it stays.
        box_xyxy: middle of the line, inside the picture.
        look: its shape.
        widths: of the rim and of the line.
        dash: length of a dash and a gap together, 0 for a line without gaps.
    """
    x_min, y_min, x_max, y_max = box_xyxy
    around = max(widths)
    left, top = max(0, math.floor(x_min) - around), max(0, math.floor(y_min) - around)
    there = codes[top : math.ceil(y_max) + around + 1, left : math.ceil(x_max) + around + 1]
    mask = Image.new("L", (there.shape[1] * _SMOOTH, there.shape[0] * _SMOOTH))
    draw = ImageDraw.Draw(mask)
    x_min, x_max = _SMOOTH * (x_min - left), _SMOOTH * (x_max - left)
    y_min, y_max = _SMOOTH * (y_min - top), _SMOOTH * (y_max - top)
    for code, width in zip((_RIM, _LINE), widths, strict=True):
        color = code * _SMOOTH**2  # reducing gives the mean of the points
        box = (x_min, y_min, x_max, y_max)
        draw_outline(draw, look, box, width * _SMOOTH, color, dash * _SMOOTH)
    np.maximum(there, np.asarray(mask.reduce(_SMOOTH)), out=there)


def _blend(view: NDArray[np.uint8], codes: NDArray[np.uint8], look: Look, points: int) -> None:
    """Lay the colours of a look over a picture, in place, as far as they cover each pixel.

    Args:
        view: the picture, in one piece of memory.
        codes: what covers each pixel: ``_RIM`` for each point of the rim, ``_LINE`` of the line.
        look: the colours.
        points: in a whole pixel.
    """
    every = np.arange(_LINE * points + 1)
    line = (every // _LINE / points)[:, None]
    rim = ((every // _LINE + every % _LINE) / points * _RIM_OPACITY)[:, None]  # below the line, too
    kept = ((1 - line) * (1 - rim)).astype(np.float32)
    laid = rim * (1 - line) * np.array(look.contrast) + line * np.array(look.color)
    laid = (laid + 0.5).astype(np.float32)
    flat_view, flat_codes = view.reshape(-1, 3), codes.reshape(-1)
    for start in range(0, len(flat_codes), _BLENDED_AT_ONCE):
        part = slice(start, start + _BLENDED_AT_ONCE)
        touched = np.flatnonzero(flat_codes[part] != 0)
        code, pixels = flat_codes[part].take(touched), flat_view[part]
        mixed = pixels.take(touched, axis=0) * kept.take(code, axis=0) + laid.take(code, axis=0)
        pixels[touched] = mixed.astype(np.uint8)
