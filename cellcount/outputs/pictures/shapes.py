"""Look of cells in a picture: palette, outline shapes, dashes, and the font.

Shapes: P points of a closed outline; boxes are xyxy in pixels of the drawn picture.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from PIL import ImageDraw, ImageFont

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]
Color: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Color = (255, 255, 255)
INK: Color = (28, 28, 30)
DASH_SHARE = 0.6  # of a dash and the gap after it

# Okabe and Ito's palette without black; the first three stand out best on stained smears.
_PALETTE: tuple[Color, ...] = (
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
)


def rectangle(box_xyxy: Box) -> list[Point]:
    """Outline of the box itself, closed."""
    x_min, y_min, x_max, y_max = box_xyxy
    return [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max), (x_min, y_min)]


def octagon(box_xyxy: Box) -> list[Point]:
    """The box with its corners cut, closed."""
    x_min, y_min, x_max, y_max = box_xyxy
    cut = 0.22 * min(x_max - x_min, y_max - y_min)
    return [
        *((x_min + cut, y_min), (x_max - cut, y_min), (x_max, y_min + cut)),
        *((x_max, y_max - cut), (x_max - cut, y_max), (x_min + cut, y_max)),
        *((x_min, y_max - cut), (x_min, y_min + cut), (x_min + cut, y_min)),
    ]


def ellipse(box_xyxy: Box) -> list[Point]:
    """The ellipse that touches the middle of the box's sides, closed."""
    x_min, y_min, x_max, y_max = box_xyxy
    steps = 48
    angles = (2 * math.pi * step / steps for step in range(steps + 1))
    return [
        (
            (x_min + x_max + (x_max - x_min) * math.cos(angle)) / 2,
            (y_min + y_max + (y_max - y_min) * math.sin(angle)) / 2,
        )
        for angle in angles
    ]


_OUTLINES = (rectangle, octagon, ellipse)


@dataclass(frozen=True, slots=True)
class Look:
    """Colour and outline of one class.

    Attributes:
        color: of lines and label plates.
        contrast: white or ink, whichever is read better on ``color`` and sets it off.
        outline: box to closed line of P points.
    """

    color: Color
    contrast: Color
    outline: Callable[[Box], list[Point]]


def look_of(label: int) -> Look:
    """Colour and outline of the class with this index; looks repeat after 21 classes."""
    color = _PALETTE[label % len(_PALETTE)]
    luminance = (0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]) / 255
    contrast = PAPER if luminance < 0.5 else INK
    return Look(color, contrast, _OUTLINES[label % len(_OUTLINES)])


def draw_outline(
    draw: ImageDraw.ImageDraw, look: Look, box_xyxy: Box, width: int, fill: int | Color, dash: float
) -> None:
    """Draw the closed line of a look around a box.

    Args:
        draw: where to.
        look: says its shape.
        box_xyxy: middle of the line.
        width: of the line.
        fill: its colour.
        dash: length of a dash and a gap together, 0 for a line without gaps.
    """
    # Whole shapes, where Pillow has them, take a tenth of the time of lines with joints.
    if dash:
        for piece in _dashes(look.outline(box_xyxy), dash):
            draw.line(piece, fill=fill, width=width)
    elif look.outline is rectangle:
        draw.rectangle(_widened(box_xyxy, width), outline=fill, width=width)
    elif look.outline is ellipse:
        draw.ellipse(_widened(box_xyxy, width), outline=fill, width=width)
    else:
        points = look.outline(box_xyxy)
        # Going on to the second point closes the joint at the first.
        draw.line([*points, points[1]], fill=fill, width=width, joint="curve")


def _widened(box_xyxy: Box, width: int) -> tuple[int, int, int, int]:
    """First and last pixels of a line of this width whose middle is the box."""
    x_min, y_min, x_max, y_max = map(round, box_xyxy)
    before, after = width // 2, (width - 1) // 2
    return x_min - before, y_min - before, x_max + after, y_max + after


def _dashes(points: list[Point], length: float) -> Iterator[list[Point]]:
    """Pieces of the line, running on around corners."""
    dash = DASH_SHARE * length
    travelled = 0.0
    for (x_a, y_a), (x_b, y_b) in pairwise(points):
        side = math.hypot(x_b - x_a, y_b - y_a)
        start = -(travelled % length)
        while start < side:
            a, b = max(start, 0.0), min(start + dash, side)
            if a < b:
                yield [(x_a + (x_b - x_a) * t / side, y_a + (y_b - y_a) * t / side) for t in (a, b)]
            start += length
        travelled += side


@functools.lru_cache(maxsize=8)
def font_of(size_px: int) -> Font:
    """Pillow's own scalable font, so that a picture looks the same everywhere."""
    font = ImageFont.load_default(size_px)
    if isinstance(font, ImageFont.FreeTypeFont):
        # Printable text needs no shaping: it looks the same without, in half of the time.
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
    return font


def printable(text: str) -> str:
    """Text with what that font can show: accents are dropped, the rest becomes ``?``."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(" " if c.isspace() else c if " " <= c <= "~" else "?" for c in plain)
