"""People's tables as their programs write them: the same rows, numbers and places every time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.errors import AnnotationError, UsageError
from cellcount.files.sheets import (
    AmbiguousNumberError,
    Sheet,
    number,
    read_grid,
    read_sheet,
    sheet_header,
)
from tests.workbooks import write_ods, write_xlsx

Written = Callable[[str | bytes], Path]
ROWS = [("Präparat", "x"), ("ä,1", "12.5")]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_separator_encoding_and_line_end(
    written: Written, separator: str, encoding: str, end: str
) -> None:
    text = f'Präparat{separator}x{end}"ä,1"{separator}12.5{end}'
    path = written(text.encode(encoding))
    sheet = read_sheet(path)
    assert [row.cells for row in sheet.rows] == ROWS
    assert sheet.separator == separator
    assert sheet_header(path) == ROWS[0]


def test_excel_s_own_line_about_the_separator_is_understood(written: Written) -> None:
    sheet = read_sheet(written("sep=;\r\na,b;c\r\n1;2\r\n"))
    assert (sheet.separator, sheet.header) == (";", ("a,b", "c"))
    assert sheet.body[0][:2] == (3, 3)


def test_rows_and_lines_are_right_after_empty_lines_and_quoted_line_ends(written: Written) -> None:
    text = '\na,b\r\n\r\n"one\r\ntwo",1\n,\n"three\n",2\nlast,3'
    places = [row[:2] for row in read_sheet(written(text)).body]
    assert places == [(4, 4), (6, 7), (7, 9)]


def test_empty_columns_at_the_right_are_no_columns(written: Written) -> None:
    sheet = read_sheet(written("a,b,,\n1,2,,\n1,,,\n1,2,,,,\n1,2,3\n"))
    assert sheet.header == ("a", "b")
    assert [sheet.overlong(row) for row in sheet.body] == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n"open,1\n', "is not a CSV file: unexpected end of data"),
        ('a,b\n"q"x,1\n', "is not a CSV file: ',' expected after"),
        ("a,b\n" + "x" * 200_000 + ",1\n", "is not a CSV file: field larger than"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is no text; save it as 'CSV UTF-8'"),
        ("a" + "," * 20_000 + "\n" * 20_000, "20,001 columns and 20,001 lines, expected at most"),
    ],
)
def test_what_is_no_table_is_said(written: Written, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_sheet(written(content))


def test_large_and_missing_tables_raise_the_error_that_was_asked_for(written: Written) -> None:
    path = written("a,b\n")
    with pytest.raises(AnnotationError, match="has 4 bytes, expected at most 3"):
        read_sheet(path, max_bytes=3, error=AnnotationError)
    with pytest.raises(AnnotationError, match="cannot be read: No such file"):
        read_sheet(path.with_name("gone.csv"), error=AnnotationError)
    assert sheet_header(path.with_name("gone.csv")) == ()


@pytest.mark.parametrize("write", [write_xlsx, write_ods])
def test_a_workbook_s_first_sheet_or_the_named_one_is_read_with_its_empty_rows(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    rows = [["slide", "n", "NEU"], [None, None, None], ["ä", 200.0, 57.5]]
    name = "t.xlsx" if write is write_xlsx else "t.ods"
    path = write(tmp_path / name, {"empty": [], "counts": rows, "other": [["a"], [1.0]]})
    sheet = read_sheet(path)
    assert [tuple(row) for row in sheet.rows] == [
        (1, 1, ("slide", "n", "NEU")),
        (3, 3, ("ä", "200", "57.5")),
    ]
    assert sheet_header(path) == ("slide", "n", "NEU")
    assert read_sheet(path, ("Other",)).header == ("a",)
    assert sheet_header(path, ("gone", "other", "counts")) == ("a",)
    assert read_sheet(path, ("gone", "empty")).header == ("slide", "n", "NEU")


def test_places_in_a_workbook_are_rows(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", {"s": [["slide", "NEU"], [], ["a", "many"]]})
    grid = read_grid(path, "")
    with pytest.raises(UsageError, match=r"t.xlsx, row 3, column NEU: 'many' is no number"):
        number(grid, grid.lines[0], "NEU", 0, 100)


def test_workbooks_that_are_none_or_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_text("a,b\n")
    with pytest.raises(UsageError, match="it is no spreadsheet"):
        read_sheet(path)
    assert sheet_header(path) == ()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "dear colleague")
    with pytest.raises(UsageError, match="it is no spreadsheet"):
        read_sheet(path)
    with zipfile.ZipFile(path, "w") as archive:
        cells = '<c r="A1"><v>1</v></c><c r="XFD1048576"><v>1</v></c>'
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet>{cells}</worksheet>")
    with pytest.raises(UsageError, match="reaches to row 1,048,576 and column 16,384"):
        read_sheet(path)
    path = path.with_suffix(".ods")
    with zipfile.ZipFile(path, "w") as archive:
        wide = '<table:table-cell table:number-columns-repeated="9999" office:value-type="float"/>'
        row = f'<table:table-row table:number-rows-repeated="99999">{wide}</table:table-row>'
        archive.writestr("content.xml", f"<table:table>{row}</table:table>")
    with pytest.raises(UsageError, match="reaches to row 99,999 and column 9,999"):
        read_sheet(path)


def sheet_of(written: Written, separator: str, *numbers: str) -> Sheet:
    rows = "".join(f'a{separator}"{text}"\n' for text in numbers)
    return read_sheet(written(f"image{separator}x\n{rows}"))


@pytest.mark.parametrize(
    ("separator", "text", "expected"),
    [
        (";", "12,5", 12.5),
        (";", "1,234", 1.234),
        (";", "0.1", 0.1),
        (";", "1.234", 1.234),
        (",", "12,5", 12.5),
        (",", "1.234", 1.234),
        ("\t", "62,5 %", 62.5),
        ("\t", "-1e-3", -0.001),
    ],
)
def test_decimal_signs(written: Written, separator: str, text: str, expected: float) -> None:
    assert sheet_of(written, separator, text).number(text) == expected


@pytest.mark.parametrize(
    ("separator", "numbers"),
    [
        (",", ["1,234"]),
        ("\t", ["1,234", "7"]),
        (";", ["1.234", "12,5"]),
        (";", ["1.234,5"]),
        (",", ["1,234.5"]),
    ],
)
def test_what_could_be_two_numbers_is_refused(
    written: Written, separator: str, numbers: list[str]
) -> None:
    sheet = sheet_of(written, separator, *numbers)
    with pytest.raises(AmbiguousNumberError, match="a separator of thousands or a decimal sign"):
        sheet.number(numbers[0])


@pytest.mark.parametrize("text", ["", "x", "1_000", "1,2,3", "1.2.3", "--1"])
def test_what_is_no_number_is_said(written: Written, text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        sheet_of(written, ";", "1").number(text)
