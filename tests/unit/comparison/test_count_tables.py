"""Long and wide tables of differentials, as programs, people and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.comparison.count_tables import (
    CountedUnit,
    CountTable,
    Share,
    read_count_table,
)
from cellcount.differential.row_names import plain
from cellcount.errors import UsageError
from cellcount.files.text import escape_text


def table(tmp_path: Path, text: str, name: str = "t.csv", **options: object) -> CountTable:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return read_count_table(path, **options)  # type: ignore[arg-type]


LONG = """level,specimen,slide,kind,row,name,n,denominator,of,percent
slide,P,a,class,lymphocytes,lymphocytes,30,100,nucleated cells,30.0000
slide,P,a,class,blasts,blasts,,100,nucleated cells,
slide,P,a,group,neutrophils,neutrophils,60,100,nucleated cells,60.0000
slide,P,a,measure,me_ratio,M:E,60,,,
slide,P,b,class,lymphocytes,lymphocytes,1,3,nucleated cells,33.3333
specimen,P,,class,lymphocytes,lymphocytes,31,103,nucleated cells,30.0971
run,,,class,lymphocytes,lymphocytes,31,,,
"""


def test_our_long_table(tmp_path: Path) -> None:
    read = table(tmp_path, LONG)
    assert read.units("slide") == {
        CountedUnit("P", "a"): {"lymphocytes": Share.of(30, 100), "neutrophils": Share.of(60, 100)},
        CountedUnit("P", "b"): {"lymphocytes": Share.of(1, 3)},
    }
    # The specimen's own row, not the sum of its slides.
    assert read.units("specimen") == {CountedUnit("P"): {"lymphocytes": Share.of(31, 103)}}
    assert "blasts" not in read.classes  # not assessed is not 0


def test_a_second_row_of_the_same_class_is_refused(tmp_path: Path) -> None:
    text = "slide,row,n,denominator,percent\na,x,1,10,10\na,x,2,10,20\n"
    with pytest.raises(UsageError, match="line 3: a second x of the same slide"):
        table(tmp_path, text)


def test_assessed_cells_are_mentioned(tmp_path: Path) -> None:
    text = "slide,row,n,denominator,of,percent\na,x,1,10,assessed cells,10\n"
    assert any("assessed cells" in note for note in table(tmp_path, text).notes)


def test_wide_counts(tmp_path: Path) -> None:
    """NRBC stay outside of the denominator; a field of spaces is not 0."""
    read = table(tmp_path, "slide,NEU,LYM,NRBC\na,60,35,5\nb,50, ,0\n")
    assert read.units("slide") == {
        CountedUnit("", "a"): {"NEU": Share.of(60, 95), "LYM": Share.of(35, 95)},
        CountedUnit("", "b"): {"NEU": Share.of(50, 50)},
    }
    assert "not part of the denominator: NRBC" in read.notes
    outside = table(tmp_path, "slide,NEU,LYM,odd\na,60,35,5\n", outside=["odd"])
    assert outside.units("slide")[CountedUnit("", "a")]["NEU"] == Share.of(60, 95)


def test_wide_counts_with_their_number(tmp_path: Path) -> None:
    read = table(tmp_path, "slide,n,NEU,LYM\na,200,150,50\nb,100,70,30\n")
    assert read.units("slide")[CountedUnit("", "a")]["NEU"] == Share.of(150, 200)
    assert "they add up to n" in read.notes[0]


def test_wide_percentages_of_a_german_spreadsheet(tmp_path: Path) -> None:
    """Byte-order mark, semicolons, decimal commas, percent signs, empty columns, remarks."""
    text = "\ufeffSlide;n;NEU;LYM;remark;;\nä 1;200;62,5 %;37,5;;;\nb;400;50;50;clotted;;\n;;;;;;\n"
    read = table(tmp_path, text)
    assert read.units("slide") == {
        CountedUnit("", "ä 1"): {"NEU": Share(62.5, 125, 200), "LYM": Share(37.5, 75, 200)},
        CountedUnit("", "b"): {"NEU": Share(50, 200, 400), "LYM": Share(50, 200, 400)},
    }
    assert "column 'remark' holds no number and is left out" in read.notes


def test_wide_percentages_of_nobody_knows_how_many(tmp_path: Path) -> None:
    read = table(tmp_path, "specimen,NEU,LYM\nP,62.5,37.5\n")
    assert read.units("specimen")[CountedUnit("P")]["NEU"] == Share(62.5)
    assert "without a column n" in read.notes[0]
    assert "about 100 cells" in table(tmp_path, "slide,NEU,LYM\na,62,38\n").notes[0]


def test_what_could_be_both_must_be_told(tmp_path: Path) -> None:
    text = "slide,n,NEU\na,200,60\n"
    with pytest.raises(UsageError, match="--values"):
        table(tmp_path, text)
    told = table(tmp_path, text, values="counts").units("slide")[CountedUnit("", "a")]["NEU"]
    assert told == Share.of(60, 200)
    assert (
        table(tmp_path, text, values="percent").units("slide")[CountedUnit("", "a")]["NEU"].count
        == 120
    )


def test_two_observers_are_pooled(tmp_path: Path) -> None:
    read = table(tmp_path, "slide,NEU,LYM\na,60,40\na,130,70\nb,9,1\n")
    assert read.units("slide")[CountedUnit("", "a")]["NEU"] == Share.of(190, 300)
    assert read.several("slide") == [CountedUnit("", "a")]


def test_text_that_a_spreadsheet_would_run_comes_back(tmp_path: Path) -> None:
    slide = "=HYPERLINK(1)"
    read = table(tmp_path, f"slide,NEU,LYM\n{escape_text(slide)},3,4\n")
    assert list(read.units("slide")) == [CountedUnit("", slide)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header and a row per slide or specimen"),
        ("slide,NEU\n", "has no rows; expected a header and a row per slide or specimen"),
        ("NEU,LYM\n1,2\n", "column slide or specimen"),
        ("slide,remark\na,nice\n", "no class with a number"),
        ("slide,NEU,NEU\na,1,2\n", "'NEU' is there twice"),
        ("slide,NEU\na,3\nb,many\n", "line 3, column NEU: 'many' is no number"),
        ("slide,NEU\na,-3\nb,2\n", "'-3' is no number from 0"),
        ("slide,n,NEU\na,2.5,3\n", "'2.5' is not a whole number"),
        ("slide,NEU\na,3,4\n", "line 2: 3 fields, the header has 2"),
        ('slide,NEU\n"a,3\n', "not a CSV file"),
        ("slide,row,percent\na,x,120\n", "'120' is no number from 0 to 100"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table(tmp_path, text)


def test_more_of_a_class_than_cells(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NEU is 20 of n = 10"):
        table(tmp_path, "slide,n,NEU\na,10,20\n", values="counts")


def test_older_encodings_are_read_and_what_is_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("slide,NEU\nä,1\n".encode("latin-1"))
    assert read_count_table(path).rows[0].slide == "ä"
    path.write_bytes(b"PK\x03\x04\xff\0\0\0")
    with pytest.raises(UsageError, match="it is no text"):
        read_count_table(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_count_table(tmp_path / "none.csv")


def test_names_are_compared_plainly() -> None:
    assert plain("Segmented Neutrophils") == plain("segmented_neutrophil")
    assert plain("NEU (%)") == "neu"
    assert plain("bands") != plain("blasts")
