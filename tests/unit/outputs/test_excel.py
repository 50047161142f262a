"""Excel workbooks hold the same values as CSV, typed, and nothing in them runs or tells a date."""

from __future__ import annotations

import builtins
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellcount.core.records import CellClass, ImageResult
from cellcount.errors import OutputError, UsageError
from cellcount.files.sheets import read_grid
from cellcount.files.workbooks import read_workbook
from cellcount.outputs import excel
from cellcount.outputs.columns import CELLS_COLUMNS, Column, TypedTable
from cellcount.outputs.excel import check_excel, is_excel, write_workbook
from cellcount.outputs.tables import cells_table, counts_table, write_cells
from tests.tables import read_table
from tests.unit.run_content import content_of

MakeResult = Callable[..., ImageResult]
HAS_OPENPYXL = importlib.util.find_spec("openpyxl") is not None
needs_openpyxl = pytest.mark.skipif(not HAS_OPENPYXL, reason="needs openpyxl (extra: excel)")


def loaded(path: Path) -> Any:  # noqa: ANN401 -- as openpyxl has it
    import openpyxl

    return openpyxl.load_workbook(path)


def test_the_name_decides() -> None:
    assert is_excel(Path("a.XLSX"))
    assert not is_excel(Path("a.xls"))


def test_without_openpyxl_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:  # noqa: ANN401 -- as the interpreter's own
        if name.partition(".")[0] == "openpyxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"pip install 'cellcount\[excel\]'"):
        check_excel()


@needs_openpyxl
def test_cells_are_those_of_the_csv_with_their_types(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    results = [make_result("=a\udcff.png", 40), make_result("b\\x41.png", 0), make_result("c", 9)]
    for name in ("cells.csv", "cells.xlsx"):
        write_cells(tmp_path / name, content_of(results, blood))
    expected = read_table(tmp_path / "cells.csv", CELLS_COLUMNS)
    header, *rows = loaded(tmp_path / "cells.xlsx")["cells"].iter_rows()
    assert [cell.value for cell in header] == list(expected.columns)
    for place, column in enumerate(CELLS_COLUMNS):
        found = [row[place].value for row in rows]
        values = [column.read("" if v is None else str(v)) for v in found]
        assert [v or "" for v in values] == [v or "" for v in expected[column.name]], column.name
        kinds = {type(value) for value in found if value is not None}
        # A whole number is one to Excel, whatever the column.
        allowed: dict[str, set[type]] = {
            "text": {str},
            "int": {int},
            "float": {float, int},
            "bool": {bool},
        }
        assert kinds <= allowed[column.dtype], column.name
    assert rows[0][2].number_format == "0.00"


@needs_openpyxl
def test_what_our_own_commands_read_back_is_what_was_written(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    names = [
        "=1+1.png",
        "'quoted.png",
        "a_x0041_b.png",
        "tab\tand\nline.png",
        "\udc80.png",
        "ä.png",
    ]
    content = content_of([make_result(name, 2) for name in names], blood)
    write_workbook(tmp_path / "run.xlsx", [counts_table(content)])
    grid = read_grid(tmp_path / "run.xlsx", "counts")
    assert [line["image"] for line in grid.lines] == names
    assert {line["cells"] for line in grid.lines} == {"2"}


@needs_openpyxl
@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "#N/A", "\t=1", "'=1"])
def test_no_text_is_a_formula_or_an_error_value(tmp_path: Path, text: str) -> None:
    table = TypedTable("t", (Column("x", "text", "", ""),), [{"x": [text]}])
    write_workbook(tmp_path / "t.xlsx", [table])
    cell = loaded(tmp_path / "t.xlsx")["t"]["A2"]
    assert cell.data_type == "s"
    sheet = zipfile.ZipFile(tmp_path / "t.xlsx").read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in sheet
    assert cell.value.startswith(("'", "#", "\\x09"))


@needs_openpyxl
def test_equal_tables_are_equal_bytes_whenever_they_are_written(
    tmp_path: Path,
    blood: list[CellClass],
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    content = content_of([make_result("a.png", 5)], blood)
    write_workbook(tmp_path / "1.xlsx", [counts_table(content), cells_table(content)])
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    write_workbook(tmp_path / "2.xlsx", [counts_table(content), cells_table(content)])
    assert (tmp_path / "1.xlsx").read_bytes() == (tmp_path / "2.xlsx").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.xlsx") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        core = archive.read("docProps/core.xml").decode()
    assert core.count("1980-01-01T00:00:00Z") == 2


@needs_openpyxl
def test_every_sheet_has_a_frozen_header_and_the_last_one_the_meanings(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    content = content_of([make_result("a.png", 5)], blood)
    write_workbook(tmp_path / "run.xlsx", [counts_table(content), cells_table(content)])
    book = loaded(tmp_path / "run.xlsx")
    assert book.sheetnames == ["counts", "cells", "columns"]
    assert [sheet.freeze_panes for sheet in book] == ["A2"] * 3
    assert all(sheet["A1"].font.bold for sheet in book)
    rows = list(book["columns"].iter_rows(values_only=True))
    assert rows[0] == ("sheet", "column", "unit", "meaning")
    told = {(row[0], row[1]): row for row in rows[1:]}
    for sheet in ("counts", "cells"):
        for cell in next(book[sheet].iter_rows()):
            assert told[sheet, cell.value][3], cell.value
    assert told["cells", "x_min_px"][2] == "px"


@needs_openpyxl
def test_more_rows_than_a_sheet_holds_are_one_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excel, "MAX_ROWS", 4)
    column = Column("n", "int", "", "")
    path = tmp_path / "t.xlsx"
    write_workbook(path, [TypedTable("cells", (column,), [{"n": [1, 2, 3]}])])
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"the table cells has more than 3 rows.*\.parquet"):
        write_workbook(path, [TypedTable("cells", (column,), [{"n": [1, 2, 3, 4]}])])
    assert path.read_bytes() == before


@needs_openpyxl
def test_what_is_no_number_is_an_empty_cell(tmp_path: Path) -> None:
    column = Column("x", "float", "", "", ".2f")
    write_workbook(
        tmp_path / "t.xlsx", [TypedTable("t", (column,), [{"x": [float("nan"), None, 1.005]}])]
    )
    assert read_workbook(tmp_path / "t.xlsx").rows[1:] == [[""], [""], ["1"]]
