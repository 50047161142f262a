"""Sheets of spreadsheet files (.xlsx, .xlsm, .ods) as rows of texts, of bounded size."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cellcount.files.merged_cells import Merged, PlainTable, merged_in_ods, plain_table

if TYPE_CHECKING:
    import python_calamine

WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".ods")
MAX_CELLS = 100_000_000

_MAX_UNPACKED_BYTES = 2**30
_CHUNK_BYTES = 2**20
_LONGEST_TAG = 65_536
_EXCEL_CELL = re.compile(rb'<(?:\w+:)?c [^>]{0,200}?r="([A-Z]{1,3})([0-9]{1,7})"')
_ODS_ROW_OR_CELL = re.compile(rb"<table:(table-row|table-cell|covered-table-cell)([^>]*)>")
_REPEATED = re.compile(rb'number-(?:rows|columns)-repeated="([0-9]{1,9})"')


def read_workbook(path: Path, sheets: Sequence[str] = ()) -> PlainTable:
    """All rows of a sheet from row 1 on, empty ones too, each value as text.

    Args:
        path: the file.
        sheets: names of sheets that go before the others, in any letter case; of these, else of
            all, the first visible sheet that holds anything is read.

    Raises:
        ValueError: it is no such file, has a password, or is too large.
        OSError: it cannot be read.
    """
    import python_calamine  # only where a workbook is read

    _check_size(path)
    try:
        with python_calamine.load_workbook(path) as book:
            for name in _ordered(_sheets(book), sheets):
                found = book.get_sheet_by_name(name)
                if rows := found.to_python(skip_empty_area=False):
                    merged = _merged(path, found)
                    return plain_table([[_text(value) for value in row] for row in rows], merged)
    except python_calamine.PasswordError as error:
        raise ValueError("it is protected by a password; save it without one") from error
    except python_calamine.CalamineError as error:
        raise ValueError(f"it is no spreadsheet: {error}") from error
    return PlainTable([], frozenset())


def _ordered(names: Sequence[str], first: Sequence[str]) -> list[str]:
    """The names, those that are asked for before the others."""
    asked = [name.casefold() for name in first]
    places = {name: asked.index(name.casefold()) for name in names if name.casefold() in asked}
    return sorted(names, key=lambda name: places.get(name, len(asked)))


def _merged(path: Path, sheet: python_calamine.CalamineSheet) -> Iterable[Merged]:
    """The merged cells of a sheet."""
    if path.suffix.lower() == ".ods":
        return merged_in_ods(path, sheet.name)
    ranges = sheet.merged_cell_ranges or []
    return [Merged(top, left, bottom, right) for (top, left), (bottom, right) in ranges]


def _sheets(book: object) -> list[str]:
    """Names of the visible sheets, in their order."""
    import python_calamine

    assert isinstance(book, python_calamine.CalamineWorkbook)
    visible = python_calamine.SheetVisibleEnum.Visible
    return [one.name for one in book.sheets_metadata if one.visible == visible]


def _text(value: object) -> str:
    """A value as a CSV would hold it: whole numbers without decimals, days as 2026-01-31."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _check_size(path: Path) -> None:
    """Refuse files that would need far more memory than they show.

    Raises:
        ValueError: it is one, or no archive as spreadsheets are.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > _MAX_UNPACKED_BYTES:
                raise ValueError(
                    f"it unpacks to {unpacked:,} bytes, expected at most {_MAX_UNPACKED_BYTES:,}"
                )
            for info in archive.infolist():
                with archive.open(info) as file:
                    if re.fullmatch(r"xl/worksheets/[^/]+\.xml", info.filename):
                        _check_cells(_excel_cells(file))
                    elif info.filename == "content.xml":
                        _check_cells(_ods_cells(file))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no spreadsheet: {error}") from error


def _check_cells(places: Iterable[tuple[int, int]]) -> None:
    """Refuse a sheet whose last row times its last column is too much."""
    last_row = last_column = 0
    for row, column in places:
        last_row, last_column = max(last_row, row), max(last_column, column)
        if last_row * last_column > MAX_CELLS:
            raise ValueError(
                f"a sheet reaches to row {last_row:,} and column {last_column:,}, expected at most "
                f"{MAX_CELLS:,} cells; delete what stands far outside the table"
            )


def _excel_cells(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Row and column of each cell, from 1."""
    for match in _matches(file, _EXCEL_CELL):
        column = 0
        for letter in match[1]:
            column = 26 * column + letter - 64
        yield int(match[2]), column


def _ods_cells(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Row and column that each cell with a value reaches to, from 1."""
    row = column = rows = 0
    for match in _matches(file, _ODS_ROW_OR_CELL):
        found = _REPEATED.search(match[2])
        repeated = 1 if found is None else int(found[1])
        if match[1] == b"table-row":
            row, rows, column = row + rows, repeated, 0
            continue
        column += repeated
        if b"value-type=" in match[2]:
            yield row + rows, column


def _matches(file: IO[bytes], pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    """All matches in a file that is read in pieces; none is longer than `_LONGEST_TAG`."""
    rest = b""
    while piece := file.read(_CHUNK_BYTES):
        text = rest + piece
        end = 0
        for match in pattern.finditer(text):
            end = match.end()
            yield match
        rest = text[max(end, len(text) - _LONGEST_TAG) :]
