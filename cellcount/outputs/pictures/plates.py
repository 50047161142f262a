"""Labels beside the cells that stand out: plates with a class and its score, or a type.

Shapes: N cells; boxes are xyxy in pixels of the drawn picture, which is uint8 ``(H, W, 3)`` RGB.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.core.cells import count_by_class
from cellcount.core.records import Cells, CellTypes
from cellcount.outputs.pictures.shapes import INK, PAPER, Color, font_of, look_of, printable
from cellcount.outputs.run_content import Labels

RARE = 12
"""A class is labelled in a picture that holds at most so many of its cells, unless it is the
commonest of several: labels are for what stands out."""

DOUBT = "?"
"""Label of a cell whose type is in doubt."""

_PLATES_KEPT = 128  # drawn ones: names and scores come again, from picture to picture

_Pixels: TypeAlias = tuple[int, int, int, int]
"""First and last pixels, the last excluded: left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class _Label:
    """Text beside the cell with this index: its class, its type, or that it is in doubt."""

    index: int
    text: str
    tells: Literal["class", "type", "doubt"]


def _label_texts(cells: Cells, labels: Labels) -> list[_Label]:
    """Type and its probability of all typed cells, then class and score of other rare ones."""
    detections = cells.detections
    said = CellTypes.untyped(len(cells)) if cells.types is None else cells.types
    rare = _labelled_classes(count_by_class(cells, len(labels.classes)))
    typed, others = list[_Label](), list[_Label]()
    for index in np.argsort(-detections.scores, kind="stable").tolist():
        best, label = int(said.best[index]), int(detections.labels[index])
        if best >= 0 and not said.accepted[index]:
            typed.append(_Label(index, DOUBT, "doubt"))
        elif best >= 0:
            named = labels.types[best]
            short = printable(named.abbreviation or named.name)
            prob = said.prob[index]  # a person gives none
            typed.append(_Label(index, short if np.isnan(prob) else f"{short} {prob:.2f}", "type"))
        elif label in rare:
            score = detections.scores[index]
            text = printable(labels.classes[label].name)
            text += "" if np.isnan(score) else f" {score:.2f}"
            others.append(_Label(index, text, "class"))
    return typed + others


def draw_labels(
    view: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    cells: Cells,
    labels: Labels,
    font_px: int,
) -> None:
    """Put labels beside their cells, wherever there is room for them, in place.

    Args:
        view: the picture.
        boxes_xyxy: (N, 4) of the cells in it.
        cells: what they are.
        labels: what they may be called.
        font_px: size of the page's font.
    """
    said = _label_texts(cells, labels)
    view_size = (view.shape[1], view.shape[0])
    stay_in_sight = [_pixels_of(boxes_xyxy[label.index], view_size) for label in said]
    plates: list[_Pixels] = []
    for label, cell in zip(said, stay_in_sight, strict=True):
        look = look_of(int(cells.detections.labels[label.index]))
        doubtful = label.tells == "doubt"
        fill, ink = (PAPER, INK) if doubtful else (look.color, look.contrast)
        drawn = _plate(label.text, font_px, fill, ink, look.color)
        size = (drawn.shape[1], drawn.shape[0])
        place = _free_place(cell, size, view_size, [*stay_in_sight, *plates])
        if place is None and label.tells != "class":
            place = _place_inside(cell, size, plates)
        if place is None:
            continue
        plates.append(place)
        left, top, right, bottom = place
        view[top:bottom, left:right] = drawn


@functools.lru_cache(_PLATES_KEPT)
def _plate(text: str, font_px: int, fill: Color, ink: Color, border: Color) -> NDArray[np.uint8]:
    """Draw a plate with its text."""
    font = font_of(max(12, round(0.85 * font_px)))
    left, top, right, bottom = font.getbbox(text)
    width = int(max(right - left, font_px) + 0.5 * font_px) + 1
    height = int(bottom - top + 0.4 * font_px) + 1
    plate = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(plate)
    draw.rectangle(
        (0, 0, width - 1, height - 1), fill=fill, outline=border, width=max(1, font_px // 8)
    )
    draw.text((width / 2, height / 2), text, ink, font, anchor="mm")
    return np.asarray(plate)


def _pixels_of(box_xyxy: NDArray[np.float64], view: tuple[int, int]) -> _Pixels:
    """The pixels of a view that a box touches."""
    x_min, y_min, x_max, y_max = box_xyxy.tolist()
    right, bottom = min(view[0], math.ceil(x_max)), min(view[1], math.ceil(y_max))
    return max(0, math.floor(x_min)), max(0, math.floor(y_min)), right, bottom


def _labelled_classes(counts: NDArray[np.int64]) -> set[int]:
    present = np.flatnonzero(counts)
    rare = {int(label) for label in present if counts[label] <= RARE}
    return rare - {int(counts.argmax())} if len(present) > 1 else rare


def _free_place(
    cell: _Pixels, size: tuple[int, int], view: tuple[int, int], taken: Sequence[_Pixels]
) -> _Pixels | None:
    """Find a place for a label above or below a cell, clear of labels and rare cells; or None."""
    width, height = size
    x_min, y_min, x_max, y_max = cell
    for top in (y_min - height - 2, y_max + 2):
        for left in (x_min, x_max - width):
            left = min(max(0, left), view[0] - width)
            place = (left, top, left + width, top + height)
            fits = left >= 0 and top >= 0 and place[3] <= view[1]
            if fits and not any(_overlap(place, other) for other in taken):
                return place
    return None


def _place_inside(cell: _Pixels, size: tuple[int, int], taken: Sequence[_Pixels]) -> _Pixels | None:
    """Find a place for a label in a corner of the cell, where it takes a quarter of it at most."""
    width, height = size
    x_min, y_min, x_max, y_max = cell
    cell_width, cell_height = x_max - x_min, y_max - y_min
    if width > cell_width or height > cell_height or width * height > cell_width * cell_height / 4:
        return None
    for top in (y_min, y_max - height):
        for left in (x_min, x_max - width):
            place = (left, top, left + width, top + height)
            if not any(_overlap(place, other) for other in taken):
                return place
    return None


def _overlap(a: _Pixels, b: _Pixels) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
