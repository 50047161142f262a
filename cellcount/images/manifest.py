"""The manifest: a CSV that names images and says what is known of each.

Columns: ``path`` (relative to the manifest), and as wanted ``slide``, ``specimen``, ``stain``,
``um_per_px``, ``wbc_10e9_per_l``. Separator ``,`` or ``;`` (then a decimal comma is understood),
UTF-8 with or without byte order mark, as spreadsheets write it.
"""

from __future__ import annotations

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.text import unescape_text

COLUMNS = ("path", "slide", "specimen", "stain", "um_per_px", "wbc_10e9_per_l")
_RANGES = {"um_per_px": (0.005, 10.0), "wbc_10e9_per_l": (0.0, 5000.0)}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of a manifest; empty text and None mean "not given"."""

    path: Path
    slide: str = ""
    specimen: str = ""
    stain: str = ""
    um_per_px: float | None = None
    wbc_10e9_per_l: float | None = None


def read_manifest(manifest: Path) -> list[ManifestRow]:
    """All rows of a manifest in file order; ``UsageError`` says row and column of what is wrong."""
    separator, header, records = _records(manifest)
    rows = []
    for number, record in records:
        if len(record) > len(header):
            raise UsageError(
                f"{manifest}: row {number} has {len(record)} cells, the header has {len(header)}; "
                f"quote cells that contain '{separator}'"
            )
        cells = dict(zip(header, record, strict=False))
        if not cells["path"].strip():
            raise UsageError(f"{manifest}: row {number}, column path is empty; name an image file")
        rows.append(_row(manifest, number, cells, separator))
    if not rows:
        raise UsageError(f"{manifest} lists no images below its header")
    return rows


def _records(manifest: Path) -> tuple[str, list[str], list[tuple[int, list[str]]]]:
    """Separator, column names, and the non-empty records with their spreadsheet row number."""
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{manifest} is not UTF-8 text (byte {error.start}); "
            "save it as 'CSV UTF-8' in the spreadsheet"
        ) from error
    except OSError as error:
        raise UsageError(f"{manifest} cannot be read: {error.strerror}") from error
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    try:
        table = list(csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UsageError(f"{manifest} is not a CSV file: {error}") from error
    header = [name.strip().lower() for name in table[0]] if table else []
    while header and not header[-1]:
        header.pop()  # spreadsheets leave empty columns at the right
    _check_header(manifest, header)
    records = [
        (number, _without_empty_end(record, len(header)))
        for number, record in enumerate(table[1:], 2)
        if any(cell.strip() for cell in record)
    ]
    return separator, header, records


def _without_empty_end(record: list[str], columns: int) -> list[str]:
    while len(record) > columns and not record[-1].strip():
        record = record[:-1]
    return record


def _check_header(manifest: Path, header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else "remove it"
            raise UsageError(
                f"{manifest}: unknown column '{name}', {hint} (known: {', '.join(COLUMNS)})"
            )
        if header.count(name) > 1:
            raise UsageError(f"{manifest}: column '{name}' is there twice; keep one")
    if "path" not in header:
        raise UsageError(
            f"{manifest}: no column 'path' in its first line; a manifest CSV needs it "
            f"(known: {', '.join(COLUMNS)})"
        )


def _row(manifest: Path, number: int, cells: dict[str, str], separator: str) -> ManifestRow:
    where = f"{manifest}: row {number}, column "
    decimal = "," if separator == ";" else "."
    numbers = {
        name: _number(where + name, cells.get(name, "").replace(decimal, "."), limits)
        for name, limits in _RANGES.items()
    }
    return ManifestRow(
        path=_located(manifest.parent, cells["path"]),
        slide=cells.get("slide", "").strip(),
        specimen=cells.get("specimen", "").strip(),
        stain=cells.get("stain", "").strip(),
        **numbers,
    )


def _number(where: str, text: str, limits: tuple[float, float]) -> float | None:
    text = text.strip()
    if not text:
        return None
    low, high = limits
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise UsageError(f"{where} is '{text}', expected a number from {low:g} to {high:g}")
    return value


def _located(folder: Path, text: str) -> Path:
    """The file a cell means: as written, trimmed, with Windows' separators, or escaped by us."""
    trimmed = text.strip()
    for candidate in (text, trimmed, trimmed.replace("\\", "/"), unescape_text(trimmed)):
        path = folder / candidate
        try:
            if path.exists():
                return path
        except (OSError, ValueError):  # too long, or a NUL: reading will say so
            continue
    return folder / trimmed
