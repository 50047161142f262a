"""A foreign CSV as lines of named texts, and the numbers in them, with errors that point at them.

Tables of ours come back as they were: what was escaped for spreadsheets is undone.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.text import unescape_text

#: What stands in a field for "nothing known".
_NOTHING = ("", "-", "–", "na", "n/a", "nan", "not assessed")
_LINE = "#line"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as it was read.

    Attributes:
        path: the file.
        header: names of the columns; those this package gives a meaning are lower case.
        lines: column → text, "" for a column that is not there.
        decimal: decimal mark.
    """

    path: Path
    header: tuple[str, ...]
    lines: Sequence[Mapping[str, str]]
    decimal: str

    def has(self, *names: str) -> bool:
        """Whether any of the columns is there."""
        return bool(set(names) & set(self.header))

    def where(self, line: Mapping[str, str]) -> str:
        """The place of a line, for messages."""
        return f"{self.path}, line {line[_LINE]}"

    def has_number(self, name: str) -> bool:
        """Whether the column holds any number."""
        return any(_parsed(line[name], self.decimal) is not None for line in self.lines)


def read_grid(path: Path, expected: str, least_rows: int = 1) -> Grid:
    """Read a CSV with ``,`` or ``;`` and a header.

    Args:
        path: the file.
        expected: what it should hold, in words, for whoever gave an empty one.
        least_rows: fewer below the header are refused.

    Raises:
        UsageError: no such file, no CSV in UTF-8, no rows, or a column is there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as 'CSV UTF-8' in the "
            "spreadsheet"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
        records = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV file: {error}") from error
    if len(records) < 1 + least_rows:
        raise UsageError(f"{path} {'has no rows' if records else 'is empty'}; expected {expected}")
    header = _header(path, records[0][1])
    lines = []
    for number_of_line, row in records[1:]:
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            raise UsageError(
                f"{path}, line {number_of_line}: {len(row)} fields, the header has {len(header)}; "
                f"quote fields that contain {separator!r}"
            )
        cells = {n: unescape_text(c).strip() for n, c in zip(header, row, strict=False) if n}
        lines.append(defaultdict(str, cells, **{_LINE: str(number_of_line)}))
    return Grid(path, tuple(n for n in header if n), lines, "," if separator == ";" else ".")


def _header(path: Path, row: Sequence[str]) -> list[str]:
    names = [unescape_text(name).strip() for name in row]
    while names and not names[-1]:
        names.pop()  # spreadsheets leave empty columns at the right
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
        UsageError: it is none, or outside its range.
    """
    text = line[name]
    if text.lower() in _NOTHING:
        return None
    value = _parsed(text, grid.decimal)
    if value is None or not low <= value <= high:
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


def _parsed(text: str, decimal: str) -> float | None:
    try:
        value = float(text.removesuffix("%").strip().replace(decimal, "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
