"""Annotated pictures: every counted cell outlined, nothing covered, a legend with the counts.

Classes differ in colour and in shape of the outline; cells cut by the image's edge are dashed.
Labels are written only for classes that are rare in the picture, and for every typed cell: it
carries its type's abbreviation, or a question mark on a white plate where it is unclassified. Small
pictures are enlarged and huge ones reduced, and the strip below says so.

Shapes: N cells; boxes are float ``(N, 4)`` xyxy in pixels of the original image until they are
multiplied by the view's zoom.
"""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.core.cells import count_by_class, count_by_type
from cellcount.core.records import UNCLASSIFIED, CellClass, Cells, CellTypes, Picture
from cellcount.files.atomic import atomic_write, check_folder_writable
from cellcount.images.file_types import DRAWN_MARK
from cellcount.images.marks import jpeg_mark, png_mark
from cellcount.outputs.pictures.legend import Entry, draw_strip
from cellcount.outputs.pictures.shapes import (
    INK,
    PAPER,
    Box,
    Look,
    draw_outline,
    font_of,
    look_of,
    printable,
    rectangle,
)
from cellcount.outputs.run_content import Labels
from cellcount.settings import PictureFormat

RARE = 12
"""A class is labelled in a picture that holds at most so many of its cells, unless it is the
commonest of several: labels are for what stands out."""

#: End of the name of a picture in each form.
SUFFIXES: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg"}
_JPEG_QUALITY = 90

_SMALL_PX, _LARGEST_ZOOM, _HUGE_PX = 480, 4, 6000
_MIN_STRIP_PX = 420
_SMOOTH_BELOW_PX = 2400  # lines are drawn twice as large and reduced, where memory allows
_DOUBT = "?"
_SURROUND = (236, 236, 238)
_MAX_NAME_BYTES = 255


def annotate(
    picture: Picture,
    cells: Cells,
    labels: Labels,
    title: str,
    largest_px: int = _HUGE_PX,
) -> Image.Image:
    """The picture with its cells outlined and a strip with title, legend and counts below it.

    Args:
        picture: the image as it was analysed.
        cells: its counted cells.
        labels: what cells may be called.
        title: name of the image.
        largest_px: a picture with a longer side is reduced to it.
    """
    zoom = _zoom(picture, largest_px)
    size = (max(1, round(picture.width_px * zoom)), max(1, round(picture.height_px * zoom)))
    view = Image.fromarray(picture.pixels)
    if view.size != size:
        view = view.resize(size, Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.BOX)
    boxes_xyxy = cells.detections.boxes_xyxy.astype(np.float64) * zoom  # (N, 4)
    width = _line_width(boxes_xyxy, max(size))
    counts = count_by_class(cells, len(labels.classes))
    drawn_last_is_rarest = sorted(range(len(counts)), key=lambda label: -counts[label])
    for label in drawn_last_is_rarest:
        chosen = cells.detections.labels == label
        _draw_class(view, boxes_xyxy[chosen], cells.edge[chosen], look_of(label), width)
    font_px = max(12, round(max(size) / 48))
    texts = _label_texts(cells, labels)
    _draw_labels(view, boxes_xyxy, cells.detections.labels, texts, font_px)
    note = f"{picture.width_px} x {picture.height_px} px"
    if zoom != 1:
        note += f", shown at {zoom:.0%}"
    strip_width = max(size[0], _MIN_STRIP_PX)
    entries = [*_class_entries(cells, counts, labels.classes), *_type_entries(cells, labels.types)]
    strip = draw_strip(strip_width, font_px, title, note, entries)
    page = Image.new("RGB", (strip_width, size[1] + strip.height), _SURROUND)
    page.paste(view, (0, 0))
    page.paste(strip, (0, size[1]))
    return page


def write_annotated(path: Path, page: Image.Image) -> None:
    """Write an annotated picture in the form that its path ends with: ``.jpg`` or ``.png``.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        encode(file, page, "jpeg" if path.suffix == SUFFIXES["jpeg"] else "png")


def encode(file: BinaryIO, page: Image.Image, form: PictureFormat) -> None:
    """Write an annotated picture to an open file, marked as drawn."""
    if form == "jpeg":
        # Colour at full resolution: at half of it, thin lines lose theirs.
        page.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0, comment=jpeg_mark())
    else:
        # Runs alone take a quarter of the default's time, and less room than its level 1.
        page.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE, pnginfo=png_mark())


def prepare_folder(folder: Path) -> None:
    """Make the folder of annotated pictures and mark it, so that no run takes them for images.

    Raises:
        OutputError: nothing can be written there.
    """
    check_folder_writable(folder)
    with atomic_write(folder / DRAWN_MARK) as file:
        file.write(b"Pictures in this folder were drawn by cellcount; it never counts on them.\n")


def annotated_path(folder: Path, image: str, form: PictureFormat = "png") -> Path:
    """Return the path of the annotated picture of an image; see `mirrored_path`."""
    return mirrored_path(folder, image, SUFFIXES[form])


def mirrored_path(folder: Path, image: str, suffix: str) -> Path:
    """Return the path of a file written for an image: its tree and full name plus a suffix.

    What would leave the folder (``..``, a leading ``/``) or is too long for a file system is
    replaced or shortened, with a hash of the whole identity so that names stay different.
    """
    parts = [part for part in image.split("/") if part not in ("", ".")] or ["image"]
    kept = [part if part != ".." else "__" for part in parts]
    changed = image != "/".join(kept)
    *folders, name = kept
    digest = hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    short = [_shortened(part, "") for part in folders]
    ending = f"~{digest}{suffix}" if changed or short != folders else suffix
    if len(os.fsencode(name + ending)) > _MAX_NAME_BYTES:
        ending = f"~{digest}{suffix}"
    return folder.joinpath(PurePosixPath(*short, _shortened(name, ending)))


def _shortened(name: str, ending: str) -> str:
    """The name cut until it fits with its ending, whole characters at a time."""
    while len(os.fsencode(name + ending)) > _MAX_NAME_BYTES:
        name = name[:-1]
    return name + ending


def _zoom(picture: Picture, largest_px: int) -> float:
    longest = max(picture.width_px, picture.height_px, 1)
    if longest > largest_px:
        return largest_px / longest
    return min(_LARGEST_ZOOM, -(-_SMALL_PX // longest))


def _line_width(boxes_xyxy: NDArray[np.float64], longest: int) -> int:
    """Width of outlines: by the size of the picture, thinner where cells are small."""
    width = longest / 320
    if len(boxes_xyxy):
        width = min(width, float(np.median(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])) / 36)
    return max(1, round(width))


def _draw_class(
    view: Image.Image,
    boxes_xyxy: NDArray[np.float64],
    edge: NDArray[np.bool_],
    look: Look,
    width: int,
) -> None:
    """Outline cells of one class: first a pale rim that sets the line off, then the line."""
    if not len(boxes_xyxy):
        return
    smooth = 2 if max(view.size) <= _SMOOTH_BELOW_PX else 1
    limit = np.array([*view.size, *view.size], np.float64) - 1
    inside = np.clip(boxes_xyxy, 0, limit)
    rim = width + max(2, width)
    # Rare classes lie in a part of the picture: only that part is drawn.
    left, top = (max(0, math.floor(v) - rim) for v in inside[:, :2].min(0))
    right, bottom = (
        min(side, math.ceil(v) + rim + 1)
        for v, side in zip(inside[:, 2:].max(0), view.size, strict=True)
    )
    placed = (inside - [left, top, left, top]) * smooth
    lines = [(look.outline(_box(box)), bool(cut)) for box, cut in zip(placed, edge, strict=True)]
    for color, line_width, opacity in ((look.contrast, rim, 0.55), (look.color, width, 1.0)):
        mask = Image.new("L", ((right - left) * smooth, (bottom - top) * smooth))
        draw = ImageDraw.Draw(mask)
        for points, dashed in lines:
            dash = (6.0 + 4 * width) * smooth if dashed else 0.0
            draw_outline(draw, points, line_width * smooth, round(255 * opacity), dash=dash)
        mask = mask.reduce(smooth) if smooth > 1 else mask
        view.paste(color, (left, top), mask)


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
            typed.append(_Label(index, _DOUBT, "doubt"))
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


def _draw_labels(
    view: Image.Image,
    boxes_xyxy: NDArray[np.float64],
    classes_of: NDArray[np.int64],
    labels: Sequence[_Label],
    font_px: int,
) -> None:
    """Labels beside their cells, wherever there is room for them."""
    draw = ImageDraw.Draw(view)
    font = font_of(max(12, round(0.85 * font_px)))
    cells = [_box(boxes_xyxy[label.index]) for label in labels]  # such cells stay in sight
    plates: list[Box] = []
    for label, cell in zip(labels, cells, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), label.text, font)
        size = (max(right - left, font_px) + 0.5 * font_px, bottom - top + 0.4 * font_px)
        plate = _free_plate(cell, size, view.size, [*cells, *plates])
        if plate is None and label.tells != "class":
            plate = _plate_inside(cell, size, plates)
        if plate is None:
            continue
        plates.append(plate)
        look = look_of(int(classes_of[label.index]))
        fill, ink = (PAPER, INK) if label.tells == "doubt" else (look.color, look.contrast)
        draw.rectangle(plate, fill=fill, outline=look.color, width=max(1, font_px // 8))
        middle = ((plate[0] + plate[2]) / 2, (plate[1] + plate[3]) / 2)
        draw.text(middle, label.text, ink, font, anchor="mm")


def _labelled_classes(counts: NDArray[np.int64]) -> set[int]:
    present = np.flatnonzero(counts)
    rare = {int(label) for label in present if counts[label] <= RARE}
    return rare - {int(counts.argmax())} if len(present) > 1 else rare


def _free_plate(
    box_xyxy: Box, size: tuple[float, float], view: tuple[int, int], taken: Sequence[Box]
) -> Box | None:
    """Find a place for a label above or below a box, clear of labels and rare cells; or None."""
    width, height = size
    x_min, y_min, x_max, y_max = box_xyxy
    for top in (y_min - height - 2, y_max + 2):
        for left in (x_min, x_max - width):
            left = min(max(0.0, left), view[0] - width)
            plate = (left, top, left + width, top + height)
            fits = left >= 0 and top >= 0 and plate[3] <= view[1]
            if fits and not any(_overlap(plate, other) for other in taken):
                return plate
    return None


def _plate_inside(box_xyxy: Box, size: tuple[float, float], taken: Sequence[Box]) -> Box | None:
    """Find a place for a label in a corner of the box, where it takes a quarter of it at most."""
    width, height = size
    x_min, y_min, x_max, y_max = box_xyxy
    if width * height > 0.25 * (x_max - x_min) * (y_max - y_min) or width > x_max - x_min:
        return None
    for top in (y_min, y_max - height):
        for left in (x_min, x_max - width):
            plate = (left, top, left + width, top + height)
            if not any(_overlap(plate, other) for other in taken):
                return plate
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _class_entries(
    cells: Cells, counts: NDArray[np.int64], classes: Sequence[CellClass]
) -> list[Entry]:
    entries = []
    for label, (cell_class, count) in enumerate(zip(classes, counts, strict=True)):
        name = cell_class.name if count == 1 else cell_class.plural
        entries.append(Entry(printable(f"{count:,} {name}"), look_of(label)))
    if cells.edge.any():
        dashed = Look((110, 110, 115), INK, rectangle)
        entries.append(Entry(f"{cells.edge.sum():,} cut by the edge", dashed, dashed=True))
    return entries


def _type_entries(cells: Cells, types: Sequence[CellClass]) -> list[Entry]:
    """Legend entries of the types that occur, each with its abbreviation."""
    *counts, doubtful = count_by_type(cells.types, len(types)).tolist()
    entries = []
    for cell_type, count in zip(types, counts, strict=True):
        name = cell_type.name if count == 1 else cell_type.plural
        short = f" ({cell_type.abbreviation})" if cell_type.abbreviation else ""
        if count:
            entries.append(Entry(printable(f"{count:,} {name}{short}")))
    if doubtful:
        entries.append(Entry(f"{doubtful:,} {UNCLASSIFIED} ({_DOUBT})"))
    return entries


def _box(box_xyxy: NDArray[np.float64]) -> Box:
    x_min, y_min, x_max, y_max = box_xyxy.tolist()
    return x_min, y_min, x_max, y_max
