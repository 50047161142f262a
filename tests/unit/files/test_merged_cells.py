"""Sheets as people lay them out are read as the plain tables that they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.comparison.count_tables import read_count_table
from cellcount.errors import UsageError
from cellcount.files.merged_cells import Merged, plain_table
from cellcount.files.sheets import read_sheet
from cellcount.images.manifest import read_manifest
from tests.workbooks import Cell, write_ods, write_xlsx

MANUAL: list[list[Cell]] = [
    [None, "Manual differential, October"],
    [],
    [None, "slide", "cells (%)", None, None, None, "seen by"],
    [None, None, "lymphocytes", "monocytes", None, "eosinophils", None],
    [],
    [None, "S 1", 60.0, 30.0, None, 10.0, "AB"],
    [None, "S 2", 50.0, 40.0, None, 10.0, None],
]
MANUAL_MERGED = [(0, 1, 0, 6), (2, 1, 3, 1), (2, 2, 2, 5), (2, 6, 3, 6), (5, 6, 6, 6)]
Write = Callable[..., Path]


@pytest.fixture(params=["xlsx", "ods"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """``write(rows, merged)``: a workbook of one sheet with merged cells."""
    written = write_xlsx if request.param == "xlsx" else write_ods

    def make(rows: list[list[Cell]], merged: list[tuple[int, int, int, int]]) -> Path:
        return written(tmp_path / f"t.{request.param}", {"sheet": rows}, merged=merged)

    return make


def test_a_title_and_a_header_of_two_rows_are_one_header(write: Write) -> None:
    sheet = read_sheet(write(MANUAL, MANUAL_MERGED))
    assert sheet.header == ("slide", "lymphocytes", "monocytes", "eosinophils", "seen by")
    assert [(row.number, row.filled) for row in sheet.body] == [
        (6, ("S 1", "60", "30", "10", "AB")),
        (7, ("S 2", "50", "40", "10", "AB")),
    ]


def test_a_manual_sheet_is_compared_as_it_is_laid_out(write: Write) -> None:
    rows = [row[:6] for row in MANUAL]
    table = read_count_table(write(rows, MANUAL_MERGED[:3]))
    found = {row.slide: {n: s.percent for n, s in row.shares.items()} for row in table.rows}
    assert found["S 2"] == {"lymphocytes": 50, "monocytes": 40, "eosinophils": 10}


def test_a_slide_merged_over_its_fields_belongs_to_each_of_them(write: Write) -> None:
    rows: list[list[Cell]] = [["path", "slide"], ["a.png", "S 1"], ["b.png", None], ["c.png", "S"]]
    read = read_manifest(write(rows, [(1, 1, 2, 1)]))
    assert [row.slide for row in read] == ["S 1", "S 1", "S"]


def test_a_merged_number_of_cells_is_refused_since_it_could_count_twice(write: Write) -> None:
    rows = [["slide", "a", "b", "c"], ["S 1", 60.0, 30.0, 10.0], ["S 2", 60.0, None, 40.0]]
    with pytest.raises(UsageError, match=r"row 3, column b: the cell is merged with .* unmerge"):
        read_count_table(write(rows, [(1, 2, 2, 2)]))


def test_a_table_of_one_column_has_no_title() -> None:
    assert plain_table([["path"], ["a.png"]], []).rows == [["path"], ["a.png"]]


def test_a_remark_beside_a_table_of_one_column_makes_no_title_of_its_header() -> None:
    rows = [["path", ""], ["a.png", ""], ["b.png", "blurred"], ["c.png", ""]]
    assert plain_table(rows, []).rows == rows


def test_a_sheet_that_is_merged_all_over_keeps_its_first_row_as_the_header() -> None:
    rows = [["a", "b"], *[["1", "2"]] * 9]
    assert plain_table(rows, [Merged(0, 0, 9, 0)]).rows[0] == ["a", "b"]
