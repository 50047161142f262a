"""Tables that people made: CSV with any separator, decimal sign and encoding, and spreadsheets.

Texts come back as they are written, numbers as their decimal sign says, and each row knows its
number in a spreadsheet and the line of the file it begins on. Tables of ours come back as they
were: what was escaped for spreadsheets is undone.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cellcount.errors import CellcountError, UsageError
from cellcount.files.text import unescape_text
from cellcount.files.workbooks import MAX_CELLS, WORKBOOK_SUFFIXES, read_workbook

#: Endings of files that are read as tables.
TABLE_SUFFIXES = (".csv", ".tsv", *WORKBOOK_SUFFIXES)
#: COCO's own training file has 450 MB.
MAX_TABLE_BYTES = 2**30

_SEPARATORS = ",;\t|"
_MAX_HEADER_BYTES = 65_536
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
#: The first line by which Excel is told the separator.
_TOLD_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\r?\n?', re.IGNORECASE)
_NUL = re.compile("\0")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+\s*%?")
_DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+\s*%?")
#: One comma or several dots before each three digits: a thousands separator, or a decimal sign.
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3}|(?:\.\d{3})+)")
_BOTH_SIGNS = re.compile(r"[+-]?\d[\d.,]*(?:,[\d.]*\.|\.[\d,]*,)[\d.,]*")
#: What stands in a field for "nothing known".
_NOTHING = ("", "-", "–", "na", "n/a", "nan", "not assessed")
_LINE, _ROW = "#line", "#row"


class AmbiguousNumberError(ValueError):
    """A text that could be two numbers; says which."""


class SheetRow(NamedTuple):
    """A row that is not empty.

    Attributes:
        number: in a spreadsheet, from 1.
        line: of the file on which it begins, from 1; a quoted field may hold line ends.
        cells: its texts, at least as many as the first row has.
    """

    number: int
    line: int
    cells: tuple[str, ...]

    @property
    def filled(self) -> tuple[str, ...]:
        """The cells without empty ones at the end: spreadsheets leave some at the right."""
        last = max((n for n, cell in enumerate(self.cells, 1) if cell.strip()), default=0)
        return self.cells[:last]


@dataclass(frozen=True)
class Sheet:
    """A table as it was read.

    Attributes:
        path: the file.
        rows: those that are not empty, the header first.
        separator: of a CSV; "" of a spreadsheet file.
        bom: it began with UTF-8's byte-order mark.
        repeated: number of the row and place of the cell (from 0) of those that repeat a cell
            above them, with which they are merged.
    """

    path: Path
    rows: tuple[SheetRow, ...]
    separator: str
    bom: bool = False
    repeated: frozenset[tuple[int, int]] = frozenset()

    @property
    def header(self) -> tuple[str, ...]:
        """The cells of the first row, without empty ones at its end; () of an empty table."""
        return self.rows[0].filled if self.rows else ()

    @property
    def body(self) -> tuple[SheetRow, ...]:
        """The rows below the header."""
        return self.rows[1:]

    def overlong(self, row: SheetRow) -> int:
        """The number of fields of a row that has more than the header, 0 of any other."""
        fields = len(row.filled)
        return fields if fields > len(self.header) else 0

    @cached_property
    def has_decimal_commas(self) -> bool:
        """Whether some field is a number with a comma that separates no thousands."""
        return any(
            _DECIMAL_COMMA.fullmatch(cell.strip()) and not _GROUPED.fullmatch(cell.strip(" %"))
            for row in self.body
            for cell in row.cells
        )

    @cached_property
    def has_decimal_points(self) -> bool:
        """Whether some field is a number with a dot that separates no thousands."""
        return not self.has_decimal_commas and any(
            _DECIMAL_POINT.fullmatch(cell.strip()) for row in self.body for cell in row.cells
        )

    def number(self, text: str) -> float:
        """The number that a field of this table states, a percent sign left out.

        A comma is the decimal sign where it cannot separate thousands, in tables separated by
        semicolons, and where other numbers of the table have decimal commas.

        Raises:
            AmbiguousNumberError: it could be two.
            ValueError: it is none.
        """
        plain = text.strip().removesuffix("%").strip()
        if _BOTH_SIGNS.fullmatch(plain) or (_GROUPED.fullmatch(plain) and self._may_group(plain)):
            raise AmbiguousNumberError(
                f"{text!r} could have a separator of thousands or a decimal sign; write numbers "
                "without a separator of thousands"
            )
        try:
            return float("" if "_" in plain else plain.replace(",", "."))
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None

    def _may_group(self, text: str) -> bool:
        """Return whether a comma or dot before three digits may separate thousands here."""
        if "," in text:
            return self.separator != ";" and not self.has_decimal_commas
        return self.has_decimal_commas


def read_sheet(
    path: Path,
    sheets: Sequence[str] = (),
    *,
    max_bytes: int = MAX_TABLE_BYTES,
    error: type[CellcountError] = UsageError,
) -> Sheet:
    """Read a CSV or a sheet of a spreadsheet file.

    Args:
        path: the file; a spreadsheet file is known by its ending.
        sheets: names of sheets of a spreadsheet file that go before the others, which is the
            first that holds anything.
        max_bytes: larger files are refused.
        error: what is raised.

    Raises:
        CellcountError: of that kind; the file is missing, too large, or no table.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise error(
                f"{path} has {size:,} bytes, expected at most {max_bytes:,} for such a file"
            )
        if path.suffix.lower() in WORKBOOK_SUFFIXES:
            table = read_workbook(path, sheets)
            numbered = [SheetRow(n, n, tuple(row)) for n, row in enumerate(table.rows, 1)]
            filled = tuple(row for row in numbered if any(map(str.strip, row.cells)))
            repeated = frozenset((n + 1, c) for n, c in table.repeated)
            return Sheet(path, filled, "", repeated=repeated)
        content = path.read_bytes()
        text = _decoded(content)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except ValueError as problem:
        raise error(f"{path} cannot be read as a table: {problem}") from problem
    try:
        parsed = _parsed(path, text)
        return replace(parsed, bom=content.startswith(codecs.BOM_UTF8))
    except (ValueError, csv.Error) as problem:
        raise error(f"{path} is not a CSV file: {problem}") from problem


def sheet_header(path: Path, sheets: Sequence[str] = ()) -> tuple[str, ...]:
    """The column names of a table, of a CSV without reading the rest; () where there are none.

    Args:
        path: the file.
        sheets: as of `read_sheet`.
    """
    if path.suffix.lower() in WORKBOOK_SUFFIXES:
        try:
            return read_sheet(path, sheets).header
        except CellcountError:
            return ()
    try:
        with path.open("rb") as file:
            text = _decoded(file.read(_MAX_HEADER_BYTES), whole=False)
        separator, text, _ = _separated(text)
        return SheetRow(1, 1, _up_to_header(text, separator)[-1]).filled
    except (OSError, ValueError, csv.Error):
        return ()


def _decoded(content: bytes, *, whole: bool = True) -> str:
    """The text: UTF-8, UTF-16, or else Windows-1252, as older spreadsheets write it.

    Raises:
        ValueError: it is none of them.
    """
    evens, odds = content[:2048:2].count(0), content[1:2048:2].count(0)
    encodings = ["utf-8-sig", "cp1252"]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif max(evens, odds) > len(content[:2048]) / 5:  # letters of the Latin alphabet
        encodings = ["utf-16-le" if odds > evens else "utf-16-be"]
    for encoding in encodings:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(content, final=whole)
        except UnicodeDecodeError:
            continue
        if (_CONTROL if encoding == "cp1252" else _NUL).search(text):
            break
        return text
    raise ValueError("it is no text; save it as 'CSV UTF-8' in the spreadsheet")


def _separated(text: str) -> tuple[str, str, int]:
    """The separator, the text that it separates, and the lines before that."""
    told = _TOLD_SEPARATOR.match(text)
    if told is not None:
        return told[1], text[told.end() :], 1
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    bare = _QUOTED.sub("", first)
    return max(_SEPARATORS, key=bare.count), text, 0


def _up_to_header(text: str, separator: str) -> list[tuple[str, ...]]:
    """The rows up to the first that is not empty; one empty row of an empty text."""
    rows: list[tuple[str, ...]] = []
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
        rows.append(tuple(row))
        if any(cell.strip() for cell in row):
            break
    return rows or [()]


def _parsed(path: Path, text: str) -> Sheet:
    """The rows of a CSV.

    Raises:
        ValueError, csv.Error: it is none, or too large.
    """
    separator, text, skipped = _separated(text)
    width = _most_fields(text, separator)
    if not width:
        return Sheet(path, (), separator)
    lines = max(text.count("\n"), text.count("\r")) + 1
    if lines * width > MAX_CELLS:
        raise ValueError(
            f"it has {width:,} columns and {lines:,} lines, expected at most {MAX_CELLS:,} fields"
        )
    import pandas  # only where a table is read

    frame = pandas.read_csv(
        io.StringIO(text, newline=""),
        sep=separator,
        engine="python",  # strict about quotes
        header=None,
        names=range(width),
        dtype=object,
        keep_default_na=False,
        na_filter=False,
        skip_blank_lines=False,
    )
    rows, line = [], 1 + skipped
    for number, values in enumerate(frame.itertuples(index=False, name=None), 1 + skipped):
        cells = tuple(value if isinstance(value, str) else "" for value in values)
        if any(cell.strip() for cell in cells):
            rows.append(SheetRow(number, line, cells))
        line += 1 + sum(map(_line_ends, cells))
    return Sheet(path, tuple(rows), separator)


def _most_fields(text: str, separator: str) -> int:
    """Upper bound for the number of fields of a row of the text; 0 of an empty one."""
    most = max(map(len, _up_to_header(text, separator)))
    for line in io.StringIO(text, newline=""):
        if line.count(separator) >= most > 0:
            most = max(most, _QUOTED.sub("", line).count(separator) + 1)
    return most


def _line_ends(cell: str) -> int:
    return cell.count("\n") + cell.count("\r") - cell.count("\r\n")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as lines of named texts.

    Attributes:
        sheet: as it was read.
        header: names of the columns; those this package gives a meaning are lower case.
        lines: column → text, "" for a column that is not there.
    """

    sheet: Sheet
    header: tuple[str, ...]
    lines: Sequence[Mapping[str, str]]

    @property
    def path(self) -> Path:
        """The file."""
        return self.sheet.path

    def has(self, *names: str) -> bool:
        """Return whether any of the columns is there."""
        return bool(set(names) & set(self.header))

    def where(self, line: Mapping[str, str]) -> str:
        """The place of a line, for messages."""
        return f"{self.path}, {'line' if self.sheet.separator else 'row'} {line[_LINE]}"

    def row(self, line: Mapping[str, str]) -> int:
        """The number of a line's row in a spreadsheet."""
        return int(line[_ROW])

    def is_repeated(self, line: Mapping[str, str], name: str) -> bool:
        """Return whether a field repeats the one above it, with which it is merged."""
        repeated, row = self.sheet.repeated, self.row(line)
        return bool(repeated) and any(
            (row, place) in repeated
            for place, header in enumerate(self.sheet.header)
            if header.strip().lower() == name.lower()
        )

    def has_number(self, name: str) -> bool:
        """Return whether the column holds any number."""
        return any(self._is_number(line[name]) for line in self.lines)

    def _is_number(self, text: str) -> bool:
        try:
            return math.isfinite(self.sheet.number(text))
        except AmbiguousNumberError:
            return True
        except ValueError:
            return False


def read_grid(
    path: Path, expected: str, least_rows: int = 1, *, sheets: Sequence[str] = ()
) -> Grid:
    """Read a table with a header.

    Args:
        path: the file.
        expected: what it should hold, in words, for whoever gave an empty one.
        least_rows: fewer below the header are refused.
        sheets: as of `read_sheet`.

    Raises:
        UsageError: no such file, no table, no rows, or a column is there twice.
    """
    sheet = read_sheet(path, sheets)
    if len(sheet.rows) < 1 + least_rows:
        what = "has no rows" if sheet.rows else "is empty"
        raise UsageError(f"{path} {what}; expected {expected}")
    header = _header(path, sheet.header)
    lines = []
    for row in sheet.body:
        if fields := sheet.overlong(row):
            raise UsageError(
                f"{path}, line {row.line}: {fields} fields, the header has {len(header)}; "
                f"quote fields that contain {sheet.separator!r}"
            )
        cells = {n: unescape_text(c).strip() for n, c in zip(header, row.cells, strict=False) if n}
        place = {_LINE: str(row.line), _ROW: str(row.number)}
        lines.append(defaultdict(str, cells, **place))
    return Grid(sheet, tuple(n for n in header if n), lines)


def _header(path: Path, row: Sequence[str]) -> list[str]:
    names = [unescape_text(name).strip() for name in row]
    known = {
        "slide", "specimen", "n", "day", "run", "row", "percent", "denominator", "level", "kind",
        "name",
    }  # fmt: skip
    names = [name.lower() if name.lower() in known else name for name in names]
    for name in names:
        if name and names.count(name) > 1:
            raise UsageError(f"{path}: column {name!r} is there twice; keep one")
    return names


def number(grid: Grid, line: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    """The number of a field, None of an empty or unassessed one.

    Raises:
        UsageError: it is none, could be two, or is outside its range.
    """
    text = line[name]
    if text.lower() in _NOTHING:
        return None
    if grid.is_repeated(line, name):
        raise UsageError(
            f"{grid.where(line)}, column {name}: the cell is merged with the one above it, so "
            f"that {text!r} could count once or in each row; unmerge them"
        )
    try:
        value = grid.sheet.number(text)
    except AmbiguousNumberError as error:
        raise UsageError(f"{grid.where(line)}, column {name}: {error}") from error
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise UsageError(
            f"{grid.where(line)}, column {name}: {text!r} is no number from {low:g} to {high:g}; "
            "leave the field empty where nothing was counted"
        )
    return value


def integer(grid: Grid, line: Mapping[str, str], name: str) -> int | None:
    """The whole number of a field, None of an empty one.

    Raises:
        UsageError: it is none.
    """
    value = number(grid, line, name, 0, 1e9)
    if value is not None and value != int(value):
        raise UsageError(
            f"{grid.where(line)}, column {name}: {line[name]!r} is not a whole number of cells"
        )
    return None if value is None else int(value)
