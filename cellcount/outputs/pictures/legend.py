"""The strip below an annotated picture: its name, its size, and what each outline means.

Shapes: positions are pixels of the strip; the strip is as wide as the picture or wider.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from cellcount.outputs.pictures.shapes import (
    INK,
    PAPER,
    Color,
    Font,
    Look,
    draw_outline,
    font_of,
    printable,
)

_GREY: Color = (110, 110, 115)
_RULE: Color = (200, 200, 205)
_TEXTS_KEPT = 128  # drawn ones: notes and counts come again, from picture to picture


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the legend: text, and a sample of the outline where it has one."""

    text: str
    look: Look | None = None
    dashed: bool = False


def draw_strip(
    width: int, size_px: int, title: str, note: str, entries: Sequence[Entry]
) -> Image.Image:
    """The strip as a picture of its own, as high as its entries need.

    Args:
        width: of the strip.
        size_px: of the font.
        title: name of the picture, shortened in its middle when too long.
        note: said at the right of the title, or below it.
        entries: the legend, in lines as full as they may be.
    """
    font = font_of(size_px)
    margin, line = round(0.7 * size_px), round(1.7 * size_px)
    inner = width - 2 * margin
    note_width = font.getlength(note)
    beside = note_width < 0.45 * inner
    title_width = inner - note_width - 2 * size_px if beside else inner
    places = _flow(entries, font, size_px, inner)
    head_lines = 1 if beside else 2
    lines = head_lines + 1 + max((row for _, row in places), default=0)
    strip = Image.new("RGB", (width, lines * line + margin), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.line([(0, 0), (width, 0)], fill=_RULE, width=max(1, size_px // 12))
    middle = margin // 2 + line // 2
    shown = fitted(printable(title), font, title_width)
    draw.text((margin, middle), shown, INK, font, anchor="lm")  # not kept: it does not come again
    note_y = middle if beside else middle + line
    note_x = width - margin - note_width if beside else margin
    _write(draw, (note_x, note_y), note, size_px, _GREY)
    for entry, (x, row) in zip(entries, places, strict=True):
        y = margin // 2 + (head_lines + row) * line + line // 2
        _draw_entry(draw, (margin + x, y), entry, size_px)
    return strip


def fitted(text: str, font: Font, width: float) -> str:
    """The text, or its two ends with ``...`` between them where it is too wide."""
    if font.getlength(text) <= width:
        return text
    shown, fits, too_many = "...", 1, len(text)
    while too_many - fits > 1:  # by halves: a path may have thousands of characters
        kept = (fits + too_many) // 2
        # The end of a path tells more than its start.
        shorter = f"{text[: kept // 3]}...{text[len(text) - (kept - kept // 3) :]}"
        if font.getlength(shorter) <= width:
            shown, fits = shorter, kept
        else:
            too_many = kept
    return shown


def _flow(
    entries: Sequence[Entry], font: Font, size_px: int, inner: int
) -> list[tuple[float, int]]:
    """Left side and line of each entry."""
    places: list[tuple[float, int]] = []
    x, row = 0.0, 0
    for entry in entries:
        width = font.getlength(entry.text) + (_sample_px(size_px) if entry.look else 0)
        if x > 0 and x + width > inner:
            x, row = 0.0, row + 1
        places.append((x, row))
        x += width + 1.6 * size_px
    return places


def _sample_px(size_px: int) -> int:
    return round(1.9 * size_px)


def _draw_entry(
    draw: ImageDraw.ImageDraw, left_middle: tuple[float, float], entry: Entry, size_px: int
) -> None:
    x, y = left_middle
    if entry.look:
        half = 0.48 * size_px
        box_xyxy = (x + 1, y - half, x + 1 + 2.8 * half, y + half)
        width = max(2, round(size_px / 7))
        dash = 0.62 * size_px if entry.dashed else 0.0
        draw_outline(draw, entry.look, box_xyxy, width, entry.look.color, dash)
        x += _sample_px(size_px)
    _write(draw, (x, y), entry.text, size_px, INK)


def _write(
    draw: ImageDraw.ImageDraw,
    left_middle: tuple[float, float],
    text: str,
    size_px: int,
    color: Color,
) -> None:
    """Write a text that begins at a place."""
    mask, left, top = _written(text, size_px)
    x, y = left_middle
    draw.bitmap((round(x) + left, round(y) + top), mask, color)


@functools.lru_cache(_TEXTS_KEPT)
def _written(text: str, size_px: int) -> tuple[Image.Image, int, int]:
    """Return a mask of a text, and where it begins from the middle of its left side."""
    font = font_of(size_px)
    left, top, right, bottom = map(round, font.getbbox(text, anchor="lm"))
    mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), text, 255, font, anchor="lm")
    return mask, left, top
