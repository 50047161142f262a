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

from cellcount.outputs.pictures.shapes import Look, draw_outline, rectangle

_RIM_OPACITY = 0.55
# A code is the sum over the points of a pixel, four at most: the number of each is read from it.
_RIM, _LINE = 1, 5


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
        boxes_xyxy: boxes of the cells; what lies outside the picture is moved to its edge.
        edge: (N,) whether a cell is cut by the image's edge, and drawn dashed.
        look: colour and shape of the outlines.
        width: of the line, in pixels.
    """
    if not len(boxes_xyxy):
        return
    height_px, width_px = view.shape[:2]
    inside = np.clip(boxes_xyxy, 0, np.array([width_px, height_px, width_px, height_px]) - 1.0)
    codes = np.zeros((height_px, width_px), np.uint8)
    if look.outline is rectangle:
        smooth = 1
        _draw_codes(codes, inside, edge, look, width, smooth)
    else:
        smooth = 2
        for index in range(len(inside)):
            one = slice(index, index + 1)
            _draw_codes(codes, inside[one], edge[one], look, width, smooth)
    _blend(view, codes, look, smooth**2)


def _draw_codes(
    codes: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    edge: NDArray[np.bool_],
    look: Look,
    width: int,
    smooth: int,
) -> None:
    """Draw outlines into the codes of a picture: the rims of all boxes, then their lines.

    Args:
        codes: of the picture; where another outline covers more of a pixel, it stays.
        boxes_xyxy: boxes inside the picture.
        edge: (N,) whether a cell is drawn dashed.
        look: shape of the outlines.
        width: of the line.
        smooth: drawn so many times as large, and reduced.
    """
    rim = width + max(2, width)
    left, top = (max(0, math.floor(v) - rim) for v in boxes_xyxy[:, :2].min(0))
    right, bottom = (math.ceil(v) + rim + 1 for v in boxes_xyxy[:, 2:].max(0))
    there = codes[top:bottom, left:right]
    mask = Image.new("L", (there.shape[1] * smooth, there.shape[0] * smooth))
    draw = ImageDraw.Draw(mask)
    placed = ((boxes_xyxy - [left, top, left, top]) * smooth).tolist()
    points = smooth**2  # reducing gives their mean
    for code, drawn_width in ((_RIM * points, rim), (_LINE * points, width)):
        for (x_min, y_min, x_max, y_max), cut in zip(placed, edge.tolist(), strict=True):
            box = (x_min, y_min, x_max, y_max)
            dash = (6.0 + 4 * width) * smooth if cut else 0.0
            draw_outline(draw, look, box, drawn_width * smooth, code, dash)
    drawn = np.asarray(mask if smooth == 1 else mask.reduce(smooth))
    np.maximum(there, drawn, out=there)


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
    touched = np.flatnonzero(codes != 0)
    code = codes.ravel().take(touched)
    pixels = view.reshape(-1, 3)
    mixed = pixels.take(touched, axis=0) * kept.take(code, axis=0) + laid.take(code, axis=0)
    pixels[touched] = mixed.astype(np.uint8)
