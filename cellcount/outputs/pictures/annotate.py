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
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.cells import count_by_class, count_by_type
from cellcount.core.records import UNCLASSIFIED, CellClass, Cells, Picture
from cellcount.files.atomic import atomic_write, check_folder_writable
from cellcount.images.file_types import DRAWN_MARK
from cellcount.images.marks import PICTURE_TEXT, jpeg_mark
from cellcount.outputs.pictures.legend import Entry, draw_strip
from cellcount.outputs.pictures.outlines import line_width, outline_class
from cellcount.outputs.pictures.plates import DOUBT, draw_labels
from cellcount.outputs.pictures.png import write_png
from cellcount.outputs.pictures.shapes import INK, Look, look_of, printable, rectangle
from cellcount.outputs.run_content import Labels
from cellcount.settings import PictureFormat

#: End of the name of a picture in each form.
SUFFIXES: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg"}
_JPEG_QUALITY = 90

_SMALL_PX, _LARGEST_ZOOM, _HUGE_PX = 480, 4, 6000
_MIN_STRIP_PX = 420
_SURROUND = (236, 236, 238)
_MAX_NAME_BYTES = 255


def annotate(
    picture: Picture,
    cells: Cells,
    labels: Labels,
    title: str,
    largest_px: int = _HUGE_PX,
) -> NDArray[np.uint8]:
    """Draw a picture with its cells outlined, and below it a strip with title, legend and counts.

    Args:
        picture: the image as it was analysed.
        cells: its counted cells.
        labels: what cells may be called.
        title: name of the image.
        largest_px: a picture with a longer side is reduced to it.

    Returns:
        The drawn page, RGB ``(H, W, 3)``.
    """
    zoom = _zoom(picture, largest_px)
    size = (max(1, round(picture.width_px * zoom)), max(1, round(picture.height_px * zoom)))
    counts = count_by_class(cells, len(labels.classes))
    font_px = max(12, round(max(size) / 48))
    note = f"{picture.width_px} x {picture.height_px} px"
    if zoom != 1:
        note += f", shown at {zoom:.0%}"
    strip_width = max(size[0], _MIN_STRIP_PX)
    entries = [*_class_entries(cells, counts, labels.classes), *_type_entries(cells, labels.types)]
    strip = draw_strip(strip_width, font_px, title, note, entries)
    page = np.empty((size[1] + strip.height, strip_width, 3), np.uint8)
    upper = page[: size[1]]  # in one piece; beside the picture it is filled last
    upper[:, : size[0]] = _shown(picture.pixels, size)
    boxes_xyxy = cells.detections.boxes_xyxy.astype(np.float64) * zoom  # (N, 4)
    width = line_width(boxes_xyxy, max(size))
    inside = np.clip(boxes_xyxy, 0, np.array([*size, *size]) - 1.0)
    drawn_last_is_rarest = sorted(range(len(counts)), key=lambda label: -counts[label])
    for label in drawn_last_is_rarest:
        chosen = cells.detections.labels == label
        outline_class(upper, inside[chosen], cells.edge[chosen], look_of(label), width)
    draw_labels(upper[:, : size[0]], boxes_xyxy, cells, labels, font_px)
    upper[:, size[0] :] = _SURROUND
    page[size[1] :] = np.asarray(strip)
    return page


def write_annotated(path: Path, page: NDArray[np.uint8]) -> None:
    """Write an annotated picture in the form that its path ends with: ``.jpg`` or ``.png``.

    Args:
        path: where to.
        page: the picture, RGB ``(H, W, 3)``.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        encode(file, page, "jpeg" if path.suffix == SUFFIXES["jpeg"] else "png")


def encode(file: BinaryIO, page: NDArray[np.uint8], form: PictureFormat) -> None:
    """Write an annotated picture, RGB ``(H, W, 3)``, to an open file, marked as drawn."""
    if form == "png":
        write_png(file, page, PICTURE_TEXT)
        return
    # Colour at full resolution: at half of it, thin lines lose theirs.
    options = {"quality": _JPEG_QUALITY, "subsampling": 0, "comment": jpeg_mark()}
    Image.fromarray(page).save(file, "JPEG", **options)


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


def _shown(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture at another width and height: smooth where enlarged, averaged where reduced."""
    if pixels.shape[1::-1] == size:
        return pixels
    form = Image.Resampling.BICUBIC if size[0] > pixels.shape[1] else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize(size, form))


def _zoom(picture: Picture, largest_px: int) -> float:
    longest = max(picture.width_px, picture.height_px, 1)
    if longest > largest_px:
        return largest_px / longest
    return min(_LARGEST_ZOOM, -(-_SMALL_PX // longest))


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
        entries.append(Entry(f"{doubtful:,} {UNCLASSIFIED} ({DOUBT})"))
    return entries
