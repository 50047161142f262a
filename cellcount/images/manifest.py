"""Manifest: a table that names images, with the facts known of each.

Columns: ``path`` (relative to the manifest), and as wanted ``slide``, ``specimen``, ``accession``,
``stain``, ``um_per_px``, ``wbc_10e9_per_l``. A CSV with any separator, decimal sign and encoding,
or a spreadsheet file.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.names import Folders, one_form, there
from cellcount.files.sheets import AmbiguousNumberError, Sheet, read_sheet
from cellcount.files.text import unescape_text

COLUMNS = ("path", "slide", "specimen", "accession", "stain", "um_per_px", "wbc_10e9_per_l")
_NEAR = 0.75  # as like as a slip of the pen leaves a column's name
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
    accession: str = ""


def read_manifest(
    manifest: Path, note: Callable[[str], None] = lambda _: None
) -> list[ManifestRow]:
    """All rows of a manifest in file order; ``UsageError`` says row and column of what is wrong.

    Args:
        manifest: the table.
        note: told of columns that nothing is made of.
    """
    sheet, folders = read_sheet(manifest, ("manifest",)), Folders()
    header = [name.strip().lower() for name in sheet.header]
    ignored = _ignored_columns(manifest, header)
    if ignored:
        note(f"columns that are not known and ignored: {', '.join(ignored)}")
    rows = []
    for row in sheet.body:
        if fields := sheet.overlong(row):
            raise UsageError(
                f"{manifest}: row {row.number} has {fields} cells, the header has {len(header)}; "
                f"quote cells that contain '{sheet.separator}'"
            )
        cells = dict(zip(header, row.cells, strict=False))
        if not cells["path"].strip():
            raise UsageError(
                f"{manifest}: row {row.number}, column path is empty; name an image file"
            )
        where = f"{manifest}: row {row.number}, column "
        rows.append(_row(where, cells, sheet, _located(manifest.parent, cells["path"], folders)))
    if not rows:
        raise UsageError(f"{manifest} lists no images below its header")
    _check_accessions(manifest, rows)
    return rows


def _check_accessions(manifest: Path, rows: Sequence[ManifestRow]) -> None:
    """Refuse two accession numbers of one specimen: results would go to the wrong order."""
    given: dict[str, set[str]] = {}
    for row in rows:
        if row.specimen and row.accession:
            given.setdefault(row.specimen, set()).add(row.accession)
    for specimen, numbers in given.items():
        if len(numbers) > 1:
            raise UsageError(
                f"{manifest}: specimen {specimen} has the accession numbers "
                f"{', '.join(sorted(numbers))}, expected one; mend the column accession"
            )


def _ignored_columns(manifest: Path, header: list[str]) -> list[str]:
    """The columns of a header that are not known.

    Raises:
        UsageError: one is nearly a known one, or one is there twice, or path is missing.
    """
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1, cutoff=_NEAR)
            if near and near[0] not in header:
                raise UsageError(
                    f"{manifest}: unknown column '{name}', did you mean '{near[0]}'? "
                    f"(known: {', '.join(COLUMNS)})"
                )
        elif header.count(name) > 1:
            raise UsageError(f"{manifest}: column '{name}' is there twice; keep one")
    if "path" not in header:
        raise UsageError(
            f"{manifest}: no column 'path' in its first line; a manifest CSV needs it "
            f"(known: {', '.join(COLUMNS)})"
        )
    return [name for name in header if name and name not in COLUMNS]


def _row(where: str, cells: Mapping[str, str], sheet: Sheet, path: Path) -> ManifestRow:
    numbers = {
        name: _number(where + name, cells.get(name, ""), sheet, limits)
        for name, limits in _RANGES.items()
    }
    return ManifestRow(
        path=path,
        slide=one_form(cells.get("slide", "").strip()),
        specimen=one_form(cells.get("specimen", "").strip()),
        accession=cells.get("accession", "").strip(),
        stain=cells.get("stain", "").strip(),
        **numbers,
    )


def _number(where: str, text: str, sheet: Sheet, limits: tuple[float, float]) -> float | None:
    text = text.strip()
    if not text:
        return None
    low, high = limits
    try:
        value = math.nan if "%" in text else sheet.number(text)
    except AmbiguousNumberError as error:
        raise UsageError(f"{where}: {error}") from error
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise UsageError(f"{where} is '{text}', expected a number from {low:g} to {high:g}")
    return value


def _located(folder: Path, text: str, folders: Folders) -> Path:
    """The file a cell means: as written, trimmed, with Windows' separators, or escaped by us."""
    trimmed = text.strip()
    candidates = (text, trimmed, trimmed.replace("\\", "/"), unescape_text(trimmed))
    for candidate in candidates:
        if there(folder / candidate):
            return folder / candidate
    found = (folders.find(folder, candidate) for candidate in candidates)
    return next((path for path in found if path is not None), folder / trimmed)
