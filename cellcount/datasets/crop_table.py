"""Tables of single cells: ``path,label[,split,patient,slide,code,rbc_px]``, perhaps with corners.

A table with corners but without ``rbc_px`` is one of boxes for a detector (``csv_boxes``). With it
each row may be a whole picture (no corners) or a box of a field, so that cells of several
microscopes stand in one table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellcount.datasets.annotated import clean_label
from cellcount.datasets.crop_set import Box, Collecting, CropSet, LabelledCrop
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.sources import TABLE_SHEETS, read_table
from cellcount.datasets.splits import SPLITS_FILE, folder_split, split_name
from cellcount.errors import AnnotationError
from cellcount.files.sheets import TABLE_SUFFIXES, AmbiguousNumberError, Sheet, sheet_header

_COLUMNS = {
    "path": ("path", "file", "image", "filename", "file_name", "image_path"),
    "label": ("label", "class", "type", "class_name", "category"),
    "split": ("split",),
    "patient": ("patient", "patient_id", "subject", "case", "specimen"),
    "slide": ("slide", "slide_id"),
    "code": ("code", "fine_label"),
    "rbc_px": ("rbc_px",),
    "xmin": ("xmin", "x_min", "x_min_px", "x1", "left"),
    "ymin": ("ymin", "y_min", "y_min_px", "y1", "top"),
    "xmax": ("xmax", "x_max", "x_max_px", "x2", "right"),
    "ymax": ("ymax", "y_max", "y_max_px", "y2", "bottom"),
}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MAX_RBC_PX = 4096


def table_of(source: Path) -> Path | None:
    """The table of crops that ``source`` is, or that lies in it: splits.csv first."""
    if source.is_file():
        found = [source] if source.suffix.lower() in (*TABLE_SUFFIXES, ".txt") else []
    else:
        tables = sorted(p for p in source.iterdir() if p.suffix.lower() in TABLE_SUFFIXES)
        found = sorted(tables, key=lambda p: p.name.lower() != SPLITS_FILE)
    return next((path for path in found if _columns(sheet_header(path, TABLE_SHEETS))), None)


def read_crop_table(source: Path) -> CropSet:
    """The cells of a table; rows that say nothing usable are reported and left out."""
    path = table_of(source)
    if path is None:
        raise AnnotationError(f"{source} holds no table with the columns path and label")
    sheet = read_table(path)
    columns = _columns(sheet.header)
    reading, finder = Collecting(path.parent), ImageFinder(path.parent)
    for number, _, row in sheet.body:
        cell = {k: row[i].strip() for k, i in columns.items()}
        label = clean_label(cell["label"])
        if not any(cell.values()):
            continue
        if not cell["path"] or not label:
            reading.problem(path, f"row {number} names no image or no label; left out")
            continue
        found = finder.find(
            cell["path"], path, Clues(split_name(cell.get("split", "")), only_split=False)
        )
        if found.path is None:
            reading.problem(path, f"row {number}: its image {cell['path']} {found.why}; left out")
            continue
        image = found.path
        split = split_name(cell.get("split", "")) or folder_split(image, path.parent)
        try:
            box, rbc_px = _box(cell, sheet), _diameter(cell.get("rbc_px", ""), sheet)
        except ValueError as error:
            reading.problem(path, f"row {number}: {error}; left out")
            continue
        code = clean_label(cell.get("code", ""))
        item = LabelledCrop(
            image,
            label,
            split,
            cell.get("patient", ""),
            box,
            code,
            rbc_px,
            cell.get("slide", ""),
        )
        reading.add(item, path)
    if source.is_dir():
        reading.note_unlisted(path, finder.images)
    return reading.finish("table")


def _columns(header: Sequence[str]) -> Mapping[str, int]:
    """Our name → position; empty where path or label is missing, or where it holds plain boxes."""
    lowered = [name.strip().lower() for name in header]
    found = {
        ours: lowered.index(name)
        for ours, names in _COLUMNS.items()
        if (name := next((n for n in names if n in lowered), None)) is not None
    }
    boxes_alone = "xmin" in found and "rbc_px" not in found
    return found if {"path", "label"} <= found.keys() and not boxes_alone else {}


def _diameter(text: str, sheet: Sheet) -> float | None:
    """Return the diameter in pixels, None where it is not stated; ValueError names the fault."""
    value = _number(text, sheet) if text else None
    if value is not None and not 1 <= value <= _MAX_RBC_PX:
        raise ValueError(
            f"rbc_px is {text!r}, expected a red-cell diameter of 1 to {_MAX_RBC_PX} pixels"
        )
    return value


def _box(cell: Mapping[str, str], sheet: Sheet) -> Box | None:
    """Return the corners, None where the picture is the cell; ValueError names the fault."""
    texts = [cell.get(corner, "") for corner in _CORNERS]
    if not any(texts):
        return None
    x_min, y_min, x_max, y_max = (_number(text, sheet) for text in texts)
    if not (0 <= x_min < x_max < math.inf and 0 <= y_min < y_max < math.inf):
        raise ValueError(f"its box is {', '.join(texts)}, expected xmin < xmax and ymin < ymax")
    return x_min, y_min, x_max, y_max


def _number(text: str, sheet: Sheet) -> float:
    try:
        return sheet.number(text)
    except AmbiguousNumberError:
        raise
    except ValueError:
        return math.nan
