"""A picture of attention refinement: where attention went at each step, and how the box moved.

The first panel shows the box before and after; then one panel per look, the field in grey and what
was looked at in yellow, with the box that the look started from (dashed) and the one it left.

Shapes: T looks, A attention heads, L places looked at; boxes xyxy, all positions in pixels of the
original image until they are cut to the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.files.atomic import atomic_write
from cellcount.images.marks import png_mark
from cellcount.outputs.pictures.legend import Entry, draw_strip
from cellcount.outputs.pictures.shapes import (
    INK,
    PAPER,
    Box,
    Color,
    Look,
    draw_outline,
    font_of,
    rectangle,
)

_PANEL_PX = 380
_COLUMNS = 4
_GAP_PX = 8
_FONT_PX = 17
_SMOOTH = 2  # lines are drawn twice as large and reduced
_SEEN: Color = (250, 225, 0)
_BEFORE, _AFTER = Look((20, 20, 24), PAPER, rectangle), Look((200, 30, 110), PAPER, rectangle)


@dataclass(frozen=True, eq=False, slots=True)
class AttentionTrace:
    """Places that a model attended to for one cell, step by step.

    Attributes:
        boxes_xyxy: before the first look and after each, (T + 1, 4).
        weights: of the places at each look, (T, A, L); each (t, a) adds up to 1.
        places_xy: centres of the places, (L, 2).
        place_px: width and height that one place stands for.
    """

    boxes_xyxy: NDArray[np.float64]
    weights: NDArray[np.float64]
    places_xy: NDArray[np.float64]
    place_px: tuple[float, float]

    def __post_init__(self) -> None:
        looks, _, places = self.weights.shape
        if self.boxes_xyxy.shape != (looks + 1, 4) or self.places_xy.shape != (places, 2):
            raise ValueError(
                f"expected boxes ({looks + 1}, 4) and places ({places}, 2) for {looks} looks at "
                f"{places} places, got {self.boxes_xyxy.shape} and {self.places_xy.shape}"
            )

    def moved(self, look: int) -> str:
        """Return the change of the box by a look, in words."""
        before, after = self.boxes_xyxy[look], self.boxes_xyxy[look + 1]
        way = np.hypot(*((after[:2] + after[2:] - before[:2] - before[2:]) / 2))
        area_before, area_after = (np.prod(b[2:] - b[:2]) for b in (before, after))
        growth = round(area_after / max(area_before, 1e-9) - 1, 2) + 0.0  # no "-0%"
        return f"moved {way:.1f} px, area {growth:+.0%}"


def draw_attention(pixels: NDArray[np.uint8], trace: AttentionTrace, title: str) -> Image.Image:
    """The panels on one page, with a legend below.

    Args:
        pixels: the whole image, (H, W, 3).
        trace: of one cell.
        title: which cell of which image.
    """
    crop = _crop_of(trace, pixels.shape[1], pixels.shape[0])
    looks = len(trace.weights)
    panels = [_panel(pixels, crop, trace, (0, looks), None)]
    captions = [f"before and after: {looks} look{'s' if looks > 1 else ''}"]
    brightest = float(trace.weights.mean(axis=1).max())
    for look in range(looks):
        seen = trace.weights[look].mean(axis=0) / max(brightest, 1e-12)
        panels.append(_panel(pixels, crop, trace, (look, look + 1), seen))
        captions.append(f"look {look + 1}: {trace.moved(look)}")
    sheet = _sheet(panels, captions)
    entries = [
        Entry("box before", _BEFORE, dashed=True),
        Entry("box after", _AFTER),
        Entry("the yellower, the more attention (mean of all heads)"),
    ]
    note = f"{crop[2] - crop[0]} x {crop[3] - crop[1]} px of the image"
    strip = draw_strip(sheet.width, _FONT_PX, title, note, entries)
    page = Image.new("RGB", (sheet.width, sheet.height + strip.height), PAPER)
    page.paste(sheet, (0, 0))
    page.paste(strip, (0, sheet.height))
    return page


def write_attention(
    path: Path, pixels: NDArray[np.uint8], trace: AttentionTrace, title: str
) -> None:
    """Write the picture as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    page = draw_attention(pixels, trace, title)
    with atomic_write(path) as file:
        page.save(file, "PNG", pnginfo=png_mark())


def _crop_of(trace: AttentionTrace, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the image that holds all places and boxes."""
    half = np.array(trace.place_px) / 2
    low = np.minimum(trace.places_xy.min(0) - half, trace.boxes_xyxy[:, :2].min(0) - 2)
    high = np.maximum(trace.places_xy.max(0) + half, trace.boxes_xyxy[:, 2:].max(0) + 2)
    limits = np.array([width, height])
    start = np.clip(np.floor(low), 0, limits - 1).astype(int)
    end = np.maximum(np.clip(np.ceil(high), 0, limits).astype(int), start + 1)
    return int(start[0]), int(start[1]), int(end[0]), int(end[1])


def _panel(
    pixels: NDArray[np.uint8],
    crop: tuple[int, int, int, int],
    trace: AttentionTrace,
    steps: tuple[int, int],
    seen: NDArray[np.float64] | None,
) -> Image.Image:
    """Draw the crop with the boxes of two steps; ``seen`` (L,), 0 to 1, lights the places seen."""
    x0, y0, x1, y1 = crop
    zoom = _PANEL_PX / max(x1 - x0, y1 - y0)
    size = (max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom)))
    view = Image.fromarray(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    view = view.resize(size, Image.Resampling.BICUBIC)
    if seen is not None:
        view = _lit(view.convert("L").convert("RGB"), crop, zoom, trace, seen)
    before, after = (trace.boxes_xyxy[step] for step in steps)
    for box_xyxy, look, dash in ((after, _AFTER, 0.0), (before, _BEFORE, 16.0)):
        left, top, right, bottom = ((box_xyxy - np.array([x0, y0, x0, y0])) * zoom).tolist()
        _outline(view, (left, top, right, bottom), look, dash)
    return view


def _lit(
    view: Image.Image,
    crop: tuple[int, int, int, int],
    zoom: float,
    trace: AttentionTrace,
    seen: NDArray[np.float64],
) -> Image.Image:
    """The view with each place in yellow, as strong as its attention."""
    mask = Image.new("L", view.size)
    draw = ImageDraw.Draw(mask)
    half = np.array(trace.place_px) / 2
    corner = np.array(crop[:2])
    for place, share in zip(trace.places_xy, seen, strict=True):
        start, end = (place - half - corner) * zoom, (place + half - corner) * zoom
        box = [*np.round(start).tolist(), *(np.round(end) - 1).tolist()]
        if box[2] >= box[0] and box[3] >= box[1]:
            draw.rectangle(box, fill=round(215 * float(share)))
    return Image.composite(Image.new("RGB", view.size, _SEEN), view, mask)


def _outline(view: Image.Image, box_xyxy: Box, look: Look, dash: float) -> None:
    """A box on the view: first a pale rim, then the line."""
    mask_size = (view.width * _SMOOTH, view.height * _SMOOTH)
    x0, y0, x1, y1 = (side * _SMOOTH for side in box_xyxy)
    for color, width, opacity in ((look.contrast, 6, 0.6), (look.color, 3, 1.0)):
        mask = Image.new("L", mask_size)
        draw = ImageDraw.Draw(mask)
        fill = round(255 * opacity)
        draw_outline(draw, look, (x0, y0, x1, y1), width * _SMOOTH, fill, dash * _SMOOTH)
        view.paste(color, mask=mask.reduce(_SMOOTH))


def _sheet(panels: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Panels in rows, each with its caption below."""
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    font, line = font_of(_FONT_PX), round(1.8 * _FONT_PX)
    cell = (max(_PANEL_PX, panels[0].width) + _GAP_PX, panels[0].height + line + _GAP_PX)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP_PX, rows * cell[1] + _GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        x = _GAP_PX + (index % columns) * cell[0]
        y = _GAP_PX + (index // columns) * cell[1]
        sheet.paste(panel, (x, y))
        draw.text((x, y + panel.height + line // 2), caption, INK, font, anchor="lm")
    return sheet
