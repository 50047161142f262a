"""Boxes in one CSV table: a row per cell with image, corners, class and perhaps the split.

Corners are pixels or, for the whole file, 0–1 shares of the image: shares if the median of all
right and lower edges is at most 1. A row without corners and class names an image without cells.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cellcount.datasets.annotated import AnnotatedSet, RawBox, Reading
from cellcount.datasets.sources import ImageFinder, files_near, read_table
from cellcount.datasets.splits import split_name
from cellcount.errors import AnnotationError
from cellcount.files.sheets import TABLE_SUFFIXES, AmbiguousNumberError, Sheet, sheet_header

LOOKED_FOR = "CSV boxes: a header with image, xmin, ymin, xmax, ymax, label (and perhaps split)"

_NAMES = {
    "image": ("image", "file", "path", "filename", "file_name", "image_path"),
    "xmin": ("xmin", "x_min", "x_min_px", "x1", "left"),
    "ymin": ("ymin", "y_min", "y_min_px", "y1", "top"),
    "xmax": ("xmax", "x_max", "x_max_px", "x2", "right"),
    "ymax": ("ymax", "y_max", "y_max_px", "y2", "bottom"),
    "label": ("label", "class", "class_name", "category"),
}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SHARE_TOLERANCE = 0.1

Row = dict[str, str]


def sniff(source: Path) -> bool:
    """Whether a CSV file, or one in a folder, has the columns of a box table."""
    return any(_columns(sheet_header(path)) for path in files_near(source, TABLE_SUFFIXES))


def read(source: Path) -> AnnotatedSet:
    """Reads one or several box tables; raises AnnotationError where there is none."""
    root = source.parent if source.is_file() else source
    tables = [p for p in files_near(source, TABLE_SUFFIXES) if _columns(sheet_header(p))]
    if not tables:
        found = [f"{p.name}: {list(sheet_header(p))}" for p in files_near(source, TABLE_SUFFIXES)]
        raise AnnotationError(
            f"{source} holds no table of boxes, expected {LOOKED_FOR}; found {found or 'no table'}"
        )
    reading, finder = Reading(root), ImageFinder(root)
    for path in tables:
        _read_table(path, reading, finder)
    if source.is_dir():
        reading.note_unlisted(finder.images)
    return reading.finish("csv")


def _columns(header: Sequence[str]) -> dict[str, str] | None:
    """Our name → the file's column name, None where one of the six is missing."""
    lowered = {name.strip().lower(): name for name in header}
    found = {
        ours: next((lowered[n] for n in names if n in lowered), None)
        for ours, names in _NAMES.items()
    }
    if any(column is None for column in found.values()):
        return None
    columns = {ours: column for ours, column in found.items() if column is not None}
    if "split" in lowered:
        columns["split"] = lowered["split"]
    return columns


def _read_table(path: Path, reading: Reading, finder: ImageFinder) -> None:
    by_image: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    sheet = read_table(path)
    for number, row in _rows(sheet):
        if row["image"]:
            by_image[row["image"]].append((number, row))
        else:
            reading.problem(path, f"row {number} names no image; left out")
    shares = _holds_shares(sheet, (row for rows in by_image.values() for _, row in rows))
    for name, rows in by_image.items():
        image = finder.find(name, path)
        if image is None:
            reading.problem(path, f"its image {name} was not found; {len(rows)} rows left out")
            continue
        size = reading.size_px(image)
        if size is None:
            continue
        boxes = []
        for number, row in rows:
            try:
                box = _box(row, sheet, size if shares else None)
            except ValueError as error:
                reading.problem(path, f"row {number} ({name}) {error}; left out")
            else:
                boxes.extend([box] if box else [])
        splits = {row.get("split", "") for _, row in rows}
        if len(splits) > 1:
            reading.problem(path, f"{name} stands in several splits {sorted(splits)}; none is used")
        reading.add(image, boxes, split=split_name(splits.pop()) if len(splits) == 1 else "")


def _rows(sheet: Sheet) -> list[tuple[int, Row]]:
    """Rows with their numbers in a spreadsheet, under our own column names."""
    columns = _columns(sheet.header) or {}
    position = {ours: sheet.header.index(name) for ours, name in columns.items()}
    return [
        (row.number, {k: row.cells[i].strip() for k, i in position.items()}) for row in sheet.body
    ]


def _holds_shares(sheet: Sheet, rows: Iterable[Row]) -> bool:
    """Whether the corners are shares of the image; one odd row does not decide."""
    edges = []
    for row in rows:
        for corner in ("xmax", "ymax"):
            try:
                edges.append(sheet.number(row[corner]))
            except ValueError:
                continue
    finite = [edge for edge in edges if math.isfinite(edge)]
    return bool(finite) and statistics.median(finite) <= 1


def _box(row: Row, sheet: Sheet, scale: tuple[int, int] | None) -> RawBox | None:
    """The row's box in pixels, None for a row that only names its image."""
    if not row["label"] and not any(row[corner] for corner in _CORNERS):
        return None
    values = []
    for corner in _CORNERS:
        try:
            values.append(sheet.number(row[corner]))
        except AmbiguousNumberError as error:
            raise ValueError(f"has {corner} {error}") from None
        except ValueError:
            raise ValueError(f"has {corner} {row[corner]!r}, expected a number") from None
    if scale is not None:
        if not all(-_SHARE_TOLERANCE <= v <= 1 + _SHARE_TOLERANCE for v in values):
            raise ValueError(f"has corners {values}, but the file's others are shares from 0 to 1")
        values = [v * side for v, side in zip(values, (*scale, *scale), strict=True)]
    return RawBox(row["label"], (values[0], values[1], values[2], values[3]))
