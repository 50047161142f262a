"""Manifest CSVs as people and spreadsheets write them, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.errors import UsageError
from cellcount.images.find import find_images
from cellcount.images.manifest import ManifestRow, read_manifest
from tests.workbooks import Cell, write_ods, write_xlsx


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_all_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "path,slide,specimen,stain,um_per_px,wbc_10e9_per_l,accession\n"
        "s1/a.tif,S1,P7,Giemsa,0.0645,6.2,26-17\n"
        "s1/b.tif,,,,,,\n",
    )
    assert read_manifest(path) == [
        ManifestRow(tmp_path / "s1/a.tif", "S1", "P7", "Giemsa", 0.0645, 6.2, "26-17"),
        ManifestRow(tmp_path / "s1/b.tif"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "path;um_per_px\r\na.tif;0,1\r\n",  # a German spreadsheet
        "\ufeffpath;um_per_px\na.tif;0.1\n",
        "\ufeffPath , UM_per_px ,,\n\n a.tif , 0.1 ,,\n,,,\n",
        '"path","um_per_px"\n"a.tif","0.1"',
        "um_per_px,path\n1e-1,a.tif\n",
    ],
)
def test_spellings_of_the_same_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    assert read_manifest(written(tmp_path, text)) == [
        ManifestRow(tmp_path / "a.tif", um_per_px=0.1)
    ]


def test_paths_with_strange_characters(tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    for name in ("é,ü.tif", "two\nlines.tif", "=1.tif", " edge .tif ", "s1/win.tif"):
        (tmp_path / name).touch()
    text = 'path\n"é,ü.tif"\n"two\nlines.tif"\n=1.tif\n" edge .tif "\ns1\\win.tif\n'
    names = [str(row.path.relative_to(tmp_path)) for row in read_manifest(written(tmp_path, text))]
    assert names == ["é,ü.tif", "two\nlines.tif", "=1.tif", " edge .tif ", "s1/win.tif"]


def test_unknown_columns_are_ignored_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    said: list[str] = []
    text = "path,Patient age,slide,remarks\na.tif,44,s,fine\n"
    rows = read_manifest(written(tmp_path, text), said.append)
    assert rows == [ManifestRow(tmp_path / "a.tif", slide="s")]
    assert said == ["columns that are not known and ignored: patient age, remarks"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path' in its first line"),
        ("image,slide\na.tif,s\n", "no column 'path' in its first line"),
        ("path,slyde\na.tif,s\n", "unknown column 'slyde', did you mean 'slide'?"),
        ("path,um_per_pixel\na.tif,1\n", "did you mean 'um_per_px'?"),
        ("path,path\na.tif,b\n", "column 'path' is there twice"),
        ("slide\ns\n", "no column 'path'"),
        ("path\n", "lists no images"),
        ("path,slide\n,s\n", "row 2, column path is empty"),
        ("path\na.tif\nb.tif,c\n", "row 3 has 2 cells, the header has 1"),
        ("path,um_per_px\na.tif,0.1\n\nb.tif,fast\n",
         "row 4, column um_per_px is 'fast', expected a number from 0.005 to 10"),
        ("path,um_per_px\na.tif,40\n", "row 2, column um_per_px is '40', expected"),
        ("path,um_per_px\na.tif,nan\n", "row 2, column um_per_px is 'nan', expected"),
        ("path,wbc_10e9_per_l\na.tif,-1\n", "row 2, column wbc_10e9_per_l is '-1', expected"),
        ("path,wbc_10e9_per_l\na.tif,inf\n", "column wbc_10e9_per_l is 'inf', expected"),
        ("path,um_per_px\na.tif,'0,1'\n", "row 2 has 3 cells"),
        ('path\n"a.tif\n', "is not a CSV file"),
        (b"path\n\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is no text; save it as 'CSV UTF-8'"),
        ('path,um_per_px\na.tif,"1,234"\n', "column um_per_px: '1,234' could have a separator"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_row_and_column(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        read_manifest(written(tmp_path, text))


def test_an_unreadable_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["list.xlsx", "list.ods"])
def test_a_manifest_of_a_spreadsheet_program(name: str, tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["path", "slide", "um_per_px"], [], ["a.tif", "Ü1", 0.0645]]
    write = write_xlsx if name.endswith("xlsx") else write_ods
    path = write(tmp_path / name, {"fields": rows})
    assert read_manifest(path) == [ManifestRow(tmp_path / "a.tif", "Ü1", um_per_px=0.0645)]
    (tmp_path / "a.tif").touch()
    assert [ref.slide for ref in find_images([str(path)]).refs] == ["Ü1"]
