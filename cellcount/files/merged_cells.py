"""Sheets as people lay them out: titles above the table, headers of two rows, merged cells.

What comes out is a plain table at the same rows: a title becomes an empty row, a header of several
rows becomes its lowest one, and a cell merged over several rows of the body stands in each of them.
"""

from __future__ import annotations

import re
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

_MOST_HEADER_ROWS = 4
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_SPANS = re.compile(rb'number-(?:rows|columns)-spanned="(?!1")')


class Merged(NamedTuple):
    """A range of merged cells; rows and columns from 0, the last ones included."""

    top: int
    left: int
    bottom: int
    right: int


class PlainTable(NamedTuple):
    """A table without merged cells.

    Attributes:
        rows: as many as before.
        repeated: row and column (from 0) of each cell that a merged one was copied into.
    """

    rows: list[list[str]]
    repeated: frozenset[tuple[int, int]]


def plain_table(rows: Sequence[Sequence[str]], merged: Iterable[Merged]) -> PlainTable:
    """Take titles, merged cells and empty columns out of a sheet's rows."""
    kept = sorted({at for row in rows for at, cell in enumerate(row) if cell.strip()})
    plain = [[row[at] for at in kept if at < len(row)] for row in rows]
    ranges = [
        Merged(m.top, bisect_left(kept, m.left), m.bottom, bisect_right(kept, m.right) - 1)
        for m in sorted(merged)
        if m.left in kept
    ]
    header = _drop_titles(plain)
    bottom = _header_bottom(ranges, header, len(plain))
    if bottom > header:
        plain[bottom] = _joined(plain[header : bottom + 1])
        for row in range(header, bottom):
            plain[row] = [""] * len(plain[row])
    repeated = []
    for one in ranges:
        if one.top <= bottom:
            continue
        for row in range(one.top + 1, min(one.bottom + 1, len(plain))):
            plain[row][one.left] = plain[one.top][one.left]
            repeated.append((row, one.left))
    return PlainTable(plain, frozenset(repeated))


def _filled(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def _drop_titles(rows: list[list[str]]) -> int:
    """Empty the rows above the header that hold a single text; return the row of the header."""
    filled = [at for at, row in enumerate(rows) if _filled(row)]
    titles = 0
    while titles < len(filled) and _filled(rows[filled[titles]]) == 1:
        titles += 1
    below = [_filled(rows[at]) == 1 for at in filled[titles:]]
    if 2 * sum(below) >= len(below):  # a table of one column, be it with a remark beside it
        return filled[0] if filled else 0
    for at in filled[:titles]:
        rows[at] = [""] * len(rows[at])
    return filled[titles]


def _header_bottom(ranges: Sequence[Merged], header: int, rows: int) -> int:
    """The last row of a header: below names of groups, and as far as its merged cells reach."""
    bottom = header
    for one in ranges:
        if header <= one.top <= bottom and one.right > one.left:
            bottom = max(bottom, one.bottom + 1)
        elif header <= one.top <= bottom:
            bottom = max(bottom, one.bottom)
    return bottom if bottom < min(rows, header + _MOST_HEADER_ROWS) else header


def _joined(header: Sequence[Sequence[str]]) -> list[str]:
    """The lowest text of each column."""
    return [next((c for c in reversed(c) if c.strip()), "") for c in zip(*header, strict=True)]


def merged_in_ods(path: Path, sheet: str) -> Iterator[Merged]:
    """The merged cells of a sheet of an OpenDocument file."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read("content.xml")
    if not _SPANS.search(content):
        return
    for table in ElementTree.fromstring(content).iter(f"{_TABLE}table"):
        if table.get(f"{_TABLE}name") == sheet:
            yield from _merged_in(table)


def _merged_in(table: ElementTree.Element) -> Iterator[Merged]:
    row = 0
    for line in table.iter(f"{_TABLE}table-row"):
        column = 0
        for cell in line:
            tall, wide = (int(cell.get(f"{_TABLE}number-{n}-spanned", 1)) for n in _DIRECTIONS)
            if tall > 1 or wide > 1:
                yield Merged(row, column, row + tall - 1, column + wide - 1)
            column += int(cell.get(f"{_TABLE}number-columns-repeated", 1))
        row += int(line.get(f"{_TABLE}number-rows-repeated", 1))


_DIRECTIONS = ("rows", "columns")
