"""Tables as Excel workbooks: typed columns, the numbers of the CSV, equal bytes of equal results.

A workbook holds a sheet per table with a frozen header, then the sheet ``columns``, which says what
each column means. Texts are escaped as in CSV and stored as text, so that none of them runs as a
formula, not even after Excel has saved the sheet as CSV.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount.errors import OutputError, UsageError
from cellcount.files.atomic import atomic_write
from cellcount.files.dateless_zip import FIXED_TIME, DatelessZip
from cellcount.files.text import escape_text
from cellcount.outputs.columns import Column, TypedTable, Value

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

#: Rows of a sheet, its header among them.
MAX_ROWS = 1_048_576
MEANINGS_SHEET = "columns"

EXCEL_SUFFIX = ".xlsx"
_LONGEST_TEXT = 32_767
_WIDEST_COLUMN, _NARROWEST_COLUMN = 40, 9
#: What Excel would read as the code of a character.
_CHARACTER_CODE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
_DECIMALS = re.compile(r"\.(\d+)f")
_MEANINGS = (
    Column("sheet", "text", "", ""),
    Column("column", "text", "", ""),
    Column("unit", "text", "", ""),
    Column("meaning", "text", "", ""),
)


def is_excel(path: Path) -> bool:
    """Return whether a table's name asks for an Excel workbook."""
    return path.suffix.lower() == EXCEL_SUFFIX


def check_excel() -> None:
    """Raise, before hours of work, if workbooks cannot be written.

    Raises:
        UsageError: openpyxl is not installed.
    """
    try:
        import openpyxl  # noqa: F401 -- whether it can be imported is the question
    except ImportError as error:
        raise UsageError(
            "Excel workbooks need openpyxl, which is not installed; install it with "
            "pip install 'cellcount[excel]', or name a .csv file"
        ) from error


def write_workbook(path: Path, tables: Sequence[TypedTable]) -> None:
    """Write tables as the sheets of one workbook, in their order, then what their columns mean.

    Raises:
        OutputError: a table has more rows than a sheet can hold, or the file cannot be written; an
            older one is untouched.
    """
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    book.properties.creator = "cellcount"
    book.properties.created = book.properties.modified = FIXED_TIME
    meanings = (
        (table.name, column.name, column.unit, column.meaning)
        for table in tables
        for column in table.columns
    )
    try:
        for table in tables:
            _add_sheet(book, path, table.name, table.columns, _rows(table))
        _add_sheet(book, path, MEANINGS_SHEET, _MEANINGS, meanings)
        with atomic_write(path) as file:
            _save(book, file)
    finally:
        for sheet in book.worksheets:  # those of a workbook that was given up, too
            if not sheet.closed:
                sheet.close()


def _rows(table: TypedTable) -> Iterator[Sequence[Value]]:
    for batch in table.batches:
        nothing: list[Value] = [None] * len(next(iter(batch.values()), ()))
        yield from zip(*(batch.get(column.name, nothing) for column in table.columns), strict=True)


def _add_sheet(
    book: Workbook,
    path: Path,
    name: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Value]],
) -> None:
    """Add a sheet, row by row: the rows are never held together."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Alignment, Font

    sheet: Any = book.create_sheet(name)
    sheet.freeze_panes = "A2"
    for letter, column in zip(_letters(), columns, strict=False):
        sheet.column_dimensions[letter].width = _width(column)
    header = []
    for column in columns:
        cell = WriteOnlyCell(sheet, column.name)
        cell.font, cell.alignment = Font(bold=True), Alignment(vertical="top")
        header.append(cell)
    sheet.append(header)
    formats = [_number_format(column) for column in columns]
    for number, row in enumerate(rows, 2):
        if number > MAX_ROWS:
            raise OutputError(
                f"cannot write {path}: the table {name} has more than {MAX_ROWS - 1:,} rows, which "
                "is all that a sheet of Excel holds below its header; name a .csv or .parquet "
                "file for it and give the command again, which analyses nothing anew"
            )
        sheet.append([_cell(sheet, *part) for part in zip(columns, formats, row, strict=True)])


def _cell(sheet: Any, column: Column, number_format: str, value: Value) -> object:  # noqa: ANN401
    """A value as a cell; None for what is missing or no number."""
    from openpyxl.cell import WriteOnlyCell

    if column.dtype == "text":
        if value is None or value == "":
            return None
        cell = WriteOnlyCell(sheet, _text(str(value)))
        cell.data_type = "s"  # whatever it begins with
        return cell
    if value is None or not math.isfinite(float(value)):
        return None
    if column.dtype == "float":
        number = float(format(float(value), column.form))
        if not number_format:
            return number
        cell = WriteOnlyCell(sheet, number)
        cell.number_format = number_format
        return cell
    return bool(value) if column.dtype == "bool" else int(value)


def _text(text: str) -> str:
    """A text as the file holds it: escaped as in CSV, and what Excel would decode made literal."""
    told = _CHARACTER_CODE.sub("_x005F_", escape_text(text))
    return told if len(told) <= _LONGEST_TEXT else told[: _LONGEST_TEXT - 1] + "…"


def _number_format(column: Column) -> str:
    """Return the Excel format of the numbers of a column, "" for Excel's own."""
    found = _DECIMALS.fullmatch(column.form)
    return f"0.{'0' * int(found[1])}" if column.dtype == "float" and found else ""


def _width(column: Column) -> int:
    if column.name in ("meaning", "note", "reason"):
        return 2 * _WIDEST_COLUMN
    longest = _WIDEST_COLUMN if column.name == "image" else len(column.name) + 2
    return max(_NARROWEST_COLUMN, longest)


def _letters() -> Iterator[str]:
    from openpyxl.utils import get_column_letter

    return (get_column_letter(number) for number in range(1, 16_385))


def _save(book: Workbook, file: Any) -> None:  # noqa: ANN401 -- as zipfile takes it
    """Write a workbook without the date, which openpyxl's own way of saving would enter."""
    from openpyxl.writer.excel import ExcelWriter

    with DatelessZip(file, "w", zipfile.ZIP_DEFLATED) as archive:
        ExcelWriter(book, archive).write_data()
