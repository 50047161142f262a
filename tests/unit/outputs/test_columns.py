"""Text and numbers survive the way through a CSV; what is wrong in a table is said."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount.core.records import CellClass
from cellcount.errors import OutputError
from cellcount.files.text import escape_text, unescape_text
from cellcount.outputs.columns import (
    CELLS_COLUMNS,
    REVIEW_COLUMNS,
    TYPED_CELLS_COLUMNS,
    Column,
    counts_columns,
)
from tests.tables import check_table, markdown, read_table

TWO = (Column("name", "text", "", "a name"), Column("size", "int", "px", "a size"))
any_text = st.text(st.characters()) | st.text(
    st.sampled_from(list("=+-@'\t\r\n\x1b\x7f\\udx5c1b89\udc80é;,\""))
)


@settings(deadline=None)
@given(any_text)
def test_any_text_comes_back(text: str) -> None:
    escaped = escape_text(text)
    assert unescape_text(escaped) == text
    assert not escaped.startswith(("=", "+", "-", "@"))
    assert not any(unicodedata.category(character) == "Cc" for character in escaped)
    escaped.encode("utf-8")


@settings(deadline=None)
@given(texts=st.lists(any_text, min_size=1, max_size=5), separator=st.sampled_from([",", ";"]))
def test_any_text_comes_back_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], separator: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    lines = [separator.join([TWO[0].write(text), TWO[1].write(7)]) for text in texts]
    path.write_bytes("\n".join([f"name{separator}size", *lines, ""]).encode())
    table = read_table(path, TWO)
    assert table["name"].tolist() == texts
    assert table["size"].tolist() == [7] * len(texts)
    assert check_table(path, TWO) == []


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("-a", "'-a"),
        ("@a", "'@a"),
        ("'a", "''a"),
        ("a=b", "a=b"),
        ("caf\udce9.png", "caf\\udce9.png"),
        ("\\udce9", "\\x5cudce9"),
        ("C:\\data\\ümlaut", "C:\\data\\ümlaut"),
        ("a\x1b[2J\n\x9f.png", "a\\x1b[2J\\x0a\\x9f.png"),
        ("\t=1", "\\x09=1"),
        ("\\x1b", "\\x5cx1b"),
        ("C:\\xray", "C:\\xray"),
        ("", ""),
    ],
)
def test_how_text_is_written(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped
    assert unescape_text(escaped) == text


def test_how_values_are_written() -> None:
    def column(dtype: str, form: str = "") -> Column:
        return Column("x", dtype, "", "", form)  # type: ignore[arg-type]

    assert column("float", ".4g").write(1.23456) == "1.235"
    assert column("float", ".2f").write(float("nan")) == ""
    assert column("int").write(None) == ""
    assert column("int").write(3) == "3"
    assert column("bool").write(value=True) == "true"
    assert column("bool").write(value=False) == "false"
    assert column("text").write('a "b"; c,d') == '"a ""b""; c,d"'
    assert column("int").read("") is None
    assert column("text").read("") == ""


def test_types_of_a_table_read_back(tmp_path: Path, blood: list[CellClass]) -> None:
    path = tmp_path / "counts.csv"
    columns = counts_columns(blood)
    header = ";".join(c.name for c in columns)
    path.write_text(
        f"\ufeff{header}\n"
        "a.png;s;;p 1;done;;640;480;0.0625;1.5;0.9;210;0.1;0.3;40;18.5;5;12;10;2;0\n"
        "b.png;s;;p 1;failed;it is empty;;;;;;;;;;;;;;;\n",
        encoding="utf-8",
    )
    for table in (read_table(path, columns), read_table(path)):  # by name as well
        assert table["n_rbc"].dtype == pd.Int64Dtype()
        assert table["n_rbc"].tolist() == [10, pd.NA]
        assert table["um_per_px"].iloc[0] == 0.0625
        assert table["um_per_px"].isna().tolist() == [False, True]
        assert table["reason"].tolist() == ["", "it is empty"]
    assert check_table(path, columns) == []


def test_wrong_tables_are_told_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    columns = (*TWO, Column("status", "text", "", "", choices=("done", "failed")))
    path.write_text('name,size,status\n"a\nb",1,done\nc,x,done\nd,2\ne,3,dnoe\n')
    assert check_table(path, columns) == [
        "line 4, column size: 'x' is no int",
        "line 5: 2 fields, expected 3",
        "line 6, column status: 'dnoe' is none of done, failed",
    ]
    assert len(check_table(path, columns, most=1)) == 1
    with pytest.raises(OutputError, match="line 4, column size: 'x' is no int"):
        read_table(path, columns)
    path.write_text("name,length\na,1\n")
    (problem,) = check_table(path, TWO)
    assert "missing: size; unknown: length" in problem
    with pytest.raises(OutputError, match="missing: size"):
        read_table(path, TWO)
    path.write_text("size,name\n1,a\n")
    assert "in this order" in check_table(path, TWO)[0]


def test_what_is_no_table_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(OutputError, match="cannot read"):
        check_table(path, TWO)
    path.write_bytes(b"name,size\n\xff,1\n")
    with pytest.raises(OutputError, match="cannot read"):
        check_table(path, TWO)
    path.write_bytes(b"")
    assert "missing: name, size" in check_table(path, TWO)[0]


def test_columns_are_those_promised(blood: list[CellClass]) -> None:
    counts = counts_columns(blood)
    assert ",".join(c.name for c in counts) == (
        "image,slide,specimen,profile,status,reason,width_px,height_px,um_per_px,scale_factor,focus,"
        "exposure,clipped_percent,stain_balance,stained_percent,cells_per_mpx,edge_percent,cells,"
        "n_rbc,n_wbc,n_platelet"
    )
    assert "nucleated objects" in counts[-2].meaning
    assert ",".join(c.name for c in CELLS_COLUMNS) == (
        "image,cell,x_min_px,y_min_px,x_max_px,y_max_px,label,score,edge,profile"
    )
    assert [c.name for c in REVIEW_COLUMNS] == ["reviewed_type", "reviewer", "reviewed_at"]


def test_a_classifier_adds_columns_at_the_end(
    tmp_path: Path, blood: list[CellClass], types: list[CellClass]
) -> None:
    columns = counts_columns(blood, types)
    assert columns[: -len(types) - 1] == counts_columns(blood)
    assert [c.name for c in columns[-4:]] == [
        *("type_neutrophil", "type_monocyte", "type_band_cell", "type_unclassified")
    ]
    assert columns[-2].meaning.startswith("cells typed as band cells, ")
    *plain, profile = CELLS_COLUMNS
    assert TYPED_CELLS_COLUMNS[: len(plain)] == tuple(plain)
    assert TYPED_CELLS_COLUMNS[-1] == profile
    assert [c.name for c in TYPED_CELLS_COLUMNS[len(plain) :]] == [
        *("type", "type_prob", "type_2", "type_2_prob", "needs_review"),
        *("reviewed_type", "reviewer", "reviewed_at", "profile"),
    ]
    path = tmp_path / "t.csv"
    path.write_text("type,type_2,type_2_prob,needs_review,type_ig\na,,,,\nb,c,0.5,true,3\n")
    table = read_table(path)  # by name: type_2 is a text, type_ig a number
    assert table["type_2"].tolist() == ["", "c"]
    assert table["type_2_prob"].iloc[1] == 0.5
    assert table["needs_review"].tolist() == [pd.NA, True]
    assert table["type_ig"].dtype == pd.Int64Dtype()


def test_markdown_has_a_row_per_column() -> None:
    lines = markdown((*TWO, Column("c", "float", "µm", "a | b"))).splitlines()
    assert lines[0] == "| column | type | unit | meaning |"
    assert lines[2:] == [
        "| `name` | text |  | a name |",
        "| `size` | int | px | a size |",
        "| `c` | float | µm | a \\| b |",
    ]


def test_another_reader_sees_the_same_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    names = ['a,"b"', "c\r\nd", "e;f", " g "]
    seen = ['a,"b"', "c\\x0d\\x0ad", "e;f", " g "]
    path.write_bytes("".join(f"{TWO[0].write(n)};1\n" for n in names).encode())
    with path.open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file, delimiter=";")] == seen
