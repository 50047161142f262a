"""Boxes in one CSV table: a row per cell with image, corners, class and perhaps the split.

Corners are pixels or, for the whole file, 0–1 shares of the image: shares if the median of all
right and lower edges is at most 1. A row without corners and class names an image without cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.raw_annotation import Annotation, RawBox, stated_pixels
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import TABLE_SHEETS, files_near, read_table
from cellcount.datasets.splits import folder_split, split_name, split_of_name
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
# Read where they are there.
_MORE = {
    "split": ("split", "subset", "partition"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}

Row = dict[str, str]


def sniff(source: Path) -> bool:
    """Return whether a CSV file, or one in a folder, has the columns of a box table."""
    return any(
        _columns(sheet_header(path, TABLE_SHEETS)) for path in files_near(source, TABLE_SUFFIXES)
    )


def read(source: Path) -> AnnotatedSet:
    """Reads one or several box tables; raises AnnotationError where there is none."""
    root = source.parent if source.is_file() else source
    tables = [
        p for p in files_near(source, TABLE_SUFFIXES) if _columns(sheet_header(p, TABLE_SHEETS))
    ]
    if not tables:
        found = [
            f"{p.name}: {list(sheet_header(p, TABLE_SHEETS))}"
            for p in files_near(source, TABLE_SUFFIXES)
        ]
        raise AnnotationError(
            f"{source} holds no table of boxes, expected {LOOKED_FOR}; found {found or 'no table'}"
        )
    reading, finder = Reading(root, shares_usual=True), ImageFinder(root)
    for path in tables:
        _read_table(path, reading, finder)
    if source.is_dir():
        reading.note_unlisted(finder.images)
        reading.note_exports(finder.passed_over)
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
    for ours, names in _MORE.items():
        named = [lowered[name] for name in names if name in lowered]
        columns |= {ours: named[0]} if named else {}
    return columns


def _read_table(path: Path, reading: Reading, finder: ImageFinder) -> None:
    by_name: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    sheet = read_table(path)
    for number, row in _rows(sheet):
        if row["image"]:
            by_name[row["image"]].append((number, row))
        else:
            reading.problem(path, f"row {number} names no image; left out")
    file_split = split_of_name(path.stem) or folder_split(path, reading.root)
    by_image: dict[Path, list[tuple[int, Row]]] = defaultdict(list)
    for name, rows in by_name.items():
        first = rows[0][1]
        own_split = split_name(first.get("split", ""))
        size = stated_pixels(first.get("width")), stated_pixels(first.get("height"))
        found = finder.find(name, path, Clues(own_split or file_split, not own_split, size))
        if found.path is None:
            reading.not_found(path, name, found, f"{len(rows)} rows left out")
        else:
            by_image[found.path].extend(rows)
    for image, rows in by_image.items():
        rows.sort(key=lambda row: row[0])
        reading.add(_annotation(sheet, image, rows, file_split, reading))


def _annotation(
    sheet: Sheet, image: Path, rows: list[tuple[int, Row]], file_split: str, reading: Reading
) -> Annotation:
    """Join the rows of an image; rows that are no box become texts for messages."""
    boxes: list[RawBox] = []
    broken: list[str] = []
    for number, row in rows:
        try:
            box = _box(row, sheet)
        except ValueError as error:
            broken.append(f"row {number} ({row['image']}) {error}; left out")
        else:
            boxes.extend([box] if box else [])
    splits = {split_name(row.get("split", "")) for _, row in rows}
    split: str | None = splits.pop() or file_split if len(splits) == 1 else None
    if split is None:
        found = sorted({row.get("split", "") for _, row in rows})
        reading.problem(sheet.path, f"{image.name} stands in several splits {found}; none is used")
    sizes = {(row.get("width", ""), row.get("height", "")) for _, row in rows}
    width, height = sizes.pop() if len(sizes) == 1 else ("", "")
    size = stated_pixels(width), stated_pixels(height)
    return Annotation(image, boxes, sheet.path, broken=broken, stated_px=size, split=split)


def _rows(sheet: Sheet) -> list[tuple[int, Row]]:
    """Rows with their numbers in a spreadsheet, under our own column names."""
    columns = _columns(sheet.header) or {}
    # R writes names of rows without a name for their column.
    width = len(sheet.header) + 1
    shift = int(bool(sheet.body) and all(sheet.overlong(row) == width for row in sheet.body))
    position = {ours: sheet.header.index(name) + shift for ours, name in columns.items()}
    return [
        (row.number, {k: row.cells[i].strip() for k, i in position.items()}) for row in sheet.body
    ]


def _box(row: Row, sheet: Sheet) -> RawBox | None:
    """The row's box as it stands, None for a row that only names its image."""
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
    return RawBox(row["label"], (values[0], values[1], values[2], values[3]))
