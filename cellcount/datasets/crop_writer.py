"""Single cells out: a folder per class, below its split if there is one, and a table of them all.

Pictures of one cell are copied as they are. Boxes are cut out of their fields in square windows
whose size does not depend on the box, since the size of a cell tells types apart.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.datasets.run_splits import DIGEST, digest_of
from cellcount.datasets.sources import relative_posix
from cellcount.datasets.splits import SPLITS_FILE
from cellcount.datasets.writers import check_splits, new_folder
from cellcount.errors import ImageError
from cellcount.images.source import open_source
from cellcount.images.windows import window
from cellcount.settings import DEFAULT_MAX_PIXELS

_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_COLUMNS = ("file", "split", "class", "patient", "slide", "code", "rbc_px", "source")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Row = dict[str, str]


def write_folders(
    folder: Path,
    cells: Sequence[LabelledCrop],
    *,
    side_px: Callable[[LabelledCrop], float] | None = None,
    on_cell: Callable[[], None] | None = None,
) -> tuple[Problem, ...]:
    """Writes ``[split/]class/picture`` and ``splits.csv``.

    The table keeps splits, patients, slides and labels.

    Args:
        folder: new, or empty.
        cells: whole pictures, or boxes of fields; those of one field in a row.
        side_px: side of the window about the centre of a box, in pixels of its field; outside the
            field the window is white. Needed for boxes alone.
        on_cell: called after each cell, for a progress bar.

    Returns:
        A problem for each field that could not be decoded.

    Raises:
        OutputError: the folder is not empty, or a split cannot name a folder.
    """
    check_splits({cell.split for cell in cells})
    new_folder(folder)
    names = _Names(folder, cells)
    rows: list[Row] = []
    problems: list[Problem] = []
    for path, group in groupby(cells, key=lambda cell: cell.path):
        of_picture = list(group)
        try:
            for cell, target in _written(path, of_picture, names, side_px):
                rows.append(_row(cell, target, folder))
                if on_cell is not None:
                    on_cell()
        except ImageError as error:
            problems.append(Problem(path, f"cannot be decoded ({error}); left out"))
    _write_table(folder / SPLITS_FILE, rows)
    return tuple(problems)


def write_crop_table(path: Path, cells: Sequence[LabelledCrop]) -> None:
    """Writes cells as a table that ``read_crops`` reads where they lie: paths are absolute.

    Boxes have their corners in it, so that it reads as a table of boxes. Digests of the files let
    the cells be known again wherever they are moved.
    """
    rows = []
    for cell in cells:
        row = {"file": str(cell.path.resolve()), "split": cell.split, "class": cell.label,
               "patient": cell.patient, "slide": cell.slide, "code": cell.code, "rbc_px": _px(cell),
               DIGEST: digest_of(cell.path)}  # fmt: skip
        if cell.box_xyxy is not None:
            row |= {k: f"{v:g}" for k, v in zip(_CORNERS, cell.box_xyxy, strict=True)}
        rows.append(row)
    corners = _CORNERS if any(cell.box_xyxy is not None for cell in cells) else ()
    _write_table(path, rows, (*_COLUMNS[:-1], *corners, DIGEST))


def _px(cell: LabelledCrop) -> str:
    return f"{cell.rbc_px:g}" if cell.rbc_px else ""


def _written(
    path: Path,
    cells: Sequence[LabelledCrop],
    names: _Names,
    side_px: Callable[[LabelledCrop], float] | None,
) -> list[tuple[LabelledCrop, Path]]:
    """The cells of one picture with the files that they became."""
    targets = [
        names.target(cell, path.name if cell.box_xyxy is None else f"{path.stem}_{number:03d}.png")
        for number, cell in enumerate(cells, start=1)
    ]
    boxed = [place for place, cell in enumerate(cells) if cell.box_xyxy is not None]
    if boxed:
        assert side_px is not None, "boxes need the side of their window"
        sides = [max(1, round(side_px(cells[place]))) for place in boxed]
        boxes_xyxy = np.array([cells[place].box_xyxy for place in boxed], np.float64)
        try:
            source = open_source(ImageRef(path, path.name, ""), max_pixels=DEFAULT_MAX_PIXELS)
            for part in source.around(boxes_xyxy, ceil(max(sides) / 2) + 1):
                for which, box in zip(part.which.tolist(), part.boxes_xyxy.tolist(), strict=True):
                    x_min, y_min, x_max, y_max = box
                    centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
                    pixels = window(part.pixels, centre, sides[which], (sides[which],) * 2)
                    _save(pixels, targets[boxed[which]])
        except ImageError:  # of a slide, whose first parts may have been read: none of it is kept
            for target in targets:
                target.unlink(missing_ok=True)
            raise
    for cell, target in zip(cells, targets, strict=True):
        if cell.box_xyxy is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return list(zip(cells, targets, strict=True))


def _save(pixels: NDArray[np.uint8], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(target)


class _Names:
    """Path for each cell: class names as folder names, no file name twice in a folder."""

    def __init__(self, root: Path, cells: Sequence[LabelledCrop]) -> None:
        self._root = root
        self._taken: set[str] = set()
        self._folder_of: dict[str, str] = {}
        used: set[str] = set()
        for label in dict.fromkeys(cell.label for cell in cells):
            plain = _FORBIDDEN.sub("_", label).strip(". ") or "_"
            self._folder_of[label] = _unused(plain, "", used)

    def target(self, cell: LabelledCrop, name: str) -> Path:
        folder = self._root / cell.split / self._folder_of[cell.label]
        stem, suffix = Path(name).stem, Path(name).suffix
        before = f"{cell.split}/{self._folder_of[cell.label]}/"
        return folder / _unused(stem, suffix, self._taken, before)


def _unused(stem: str, suffix: str, taken: set[str], before: str = "") -> str:
    """``stem + suffix``, with a number where that is taken in any case of letters."""
    name, number = stem + suffix, 1
    while (before + name).lower() in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add((before + name).lower())
    return name


def _row(cell: LabelledCrop, target: Path, folder: Path) -> Row:
    values = (target.relative_to(folder).as_posix(), cell.split, cell.label, cell.patient,
              cell.slide, cell.code, _px(cell), relative_posix(cell.path, folder))  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _write_table(path: Path, rows: Sequence[Row], columns: Sequence[str] = _COLUMNS) -> None:
    """Columns that are empty throughout are left out; file and class always stand there."""
    kept = ("file", "class")
    columns = [c for c in columns if c in kept or any(row.get(c) for row in rows)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
