"""Tables for spreadsheets with a decimal comma: written, read back, and kept after a review."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from cellcount import cli
from cellcount.control.known_cells import read_known_cells
from cellcount.outputs.columns import SLIDES_COLUMNS, TYPED_CELLS_COLUMNS
from cellcount.outputs.review_tables import CORRECTIONS_COLUMNS
from tests.tables import check_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

#: Numbers with decimals, and a text that looks like one.
FLOATS = {c.name for c in (*TYPED_CELLS_COLUMNS, *SLIDES_COLUMNS) if c.dtype == "float"}
MANIFEST = "path,slide,specimen\nslides/a/1.png,1.5,P.1\nslides/c.bmp,2.5,P.1\n"


@pytest.fixture
def typed(slides: Path, run: Run, colour_weights: Path, classifier_plugins: Path) -> Run:
    """``typed("o", "--csv-separator", ";")``: a typed run with every table, below a folder."""
    Path("m.csv").write_text(MANIFEST)
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)

    def analyze(folder: str, *options: str) -> tuple[int, str, str]:
        tables = [f(folder) for f in ("{}/counts.csv".format, "{}/cells.csv".format)]
        names = ("--out", tables[0], "--cells", tables[1], "--slides", f"{folder}/slides.csv")
        return run("m.csv", *names, *typing, *options)

    return analyze


def cellcount(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def with_points(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v.replace(",", ".") if k in FLOATS else v for k, v in row.items()} for row in rows]


FORMS = [
    (["--csv-separator", ";"], ";", ","),
    (["--csv-separator", ";", "--csv-decimal", "point"], ";", "."),
    (["--csv-separator", "tab"], "\t", "."),
    (["--csv-separator", "tab", "--csv-decimal", "comma"], "\t", ","),
    (["--csv-decimal", "point"], ",", "."),
]


def test_only_separator_and_decimal_sign_differ(typed: Run, rows: Rows) -> None:
    assert typed("o")[0] == 0
    plain = {name: rows(f"o/{name}.csv") for name in ("cells", "slides")}
    for options, separator, decimal in FORMS:
        assert typed("o", *options)[0] == 0
        for name, expected in plain.items():
            written = rows(f"o/{name}.csv", separator)
            assert with_points(written) == expected
            numbers = [v for row in written for k, v in row.items() if k in FLOATS and v]
            assert numbers
            assert all(re.fullmatch(rf"-?\d+(\{decimal}\d+)?", v) for v in numbers)
        slides = {row["slide"] for row in rows("o/slides.csv", separator)}
        assert slides == {"", "1.5", "2.5"}
        assert all(decimal in row["focus"] for row in rows("o/counts.csv", separator))
        record = json.loads(Path("o/counts.run.json").read_text())
        assert record["settings"]["csv_decimal"] == {",": "comma", ".": "point"}[decimal]
        assert record["speed"]["images"] == 0  # another form needs no new analysis


def test_a_spreadsheet_of_a_decimal_comma_country_reads_the_numbers(typed: Run) -> None:
    typed("o")
    plain, known = pandas.read_csv("o/cells.csv"), read_known_cells(Path("o/cells.csv"), ["wbc"])
    typed("o", "--csv-separator", ";", "--csv-bom")
    columns = ["x_min_px", "y_max_px", "score"]
    ours = pandas.read_csv("o/cells.csv", sep=";", decimal=",", thousands=".", encoding="utf-8-sig")
    pandas.testing.assert_frame_equal(ours[columns], plain[columns])
    assert Path("o/cells.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_known_cells(Path("o/cells.csv"), ["wbc"]) == known


def test_a_comma_is_not_both_separator_and_decimal_sign(slides: Path, run: Run) -> None:
    code, _, err = run(slides, "--out", "o.csv", "--csv-decimal", "comma")
    assert code == 2
    assert "add --csv-separator ';' or --csv-separator tab" in err
    assert not Path("o.csv").exists()


def test_a_review_keeps_the_form_of_the_run(typed: Run, rows: Rows) -> None:
    typed("o", "--csv-separator", ";", "--csv-bom")
    before = Path("o/cells.csv").read_text("utf-8-sig")
    cellcount("review", "export", "o/counts.csv", "--all", "--out", "look")
    table = Path("look/corrections.csv")
    assert check_table(table, CORRECTIONS_COLUMNS) == []
    lines = table.read_text("utf-8-sig").splitlines()
    probability = lines[0].split(";").index("type_prob")
    assert any("," in line.split(";")[probability] for line in lines[1:])
    with table.open(encoding="utf-8-sig", newline="") as file:
        listed = list(csv.DictReader(file, delimiter=";"))
    with open("filled.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "corrected_type": "lymphocyte"} for row in listed)
    cellcount("review", "apply", "o/counts.csv", "filled.csv", "--reviewer", "A")
    after = Path("o/cells.csv").read_text("utf-8-sig")
    assert after.count(";A;") == len(listed)
    assert [line.split(";")[2:6] for line in after.splitlines()] == [
        line.split(";")[2:6] for line in before.splitlines()
    ]
    assert check_table(Path("o/cells.csv"), TYPED_CELLS_COLUMNS) == []


SHEET = "slide;n;A;B;C\n" + "".join(f"S{i};200;{50 + i},5;{30 - i},25;{19},25\n" for i in range(8))


@pytest.mark.parametrize(
    ("options", "sheet", "start", "number"),
    [
        ((), SHEET, "class;", r"-?\d+(,\d+)?(e-\d+)?"),
        ((), SHEET.replace(",", "."), "class;", r"-?\d+(\.\d+)?(e-\d+)?"),
        (("--csv-separator", ","), SHEET, "class,", r"-?\d+(\.\d+)?(e-\d+)?"),
        (("--csv-decimal", "point"), SHEET, "class;", r"-?\d+(\.\d+)?(e-\d+)?"),
        (("--csv-separator", "tab"), SHEET, "class\t", r"-?\d+(\.\d+)?(e-\d+)?"),
        (
            ("--csv-bom",),
            SHEET.replace(",", ".").replace(";", ","),
            "\ufeffclass,",
            r"-?\d+(\.\d+)?",
        ),
    ],
)
def test_comparisons_are_written_as_the_table_that_they_are_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    sheet: str,
    start: str,
    number: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ours.csv").write_text(sheet)
    Path("theirs.csv").write_text(SHEET)
    cellcount("evaluate", "counts", "ours.csv", "theirs.csv", "--csv", "o.csv", *options)
    text = Path("o.csv").read_text()
    assert text.startswith(start)
    with open("o.csv", encoding="utf-8-sig", newline="") as file:
        rows: list[dict[str, str]] = list(csv.DictReader(file, delimiter=start[-1]))
    found = [row["mean_reference"] for row in rows]
    assert len(found) == 3
    assert all(re.fullmatch(number, v) for v in found)


def test_repeated_counts_keep_the_form_of_their_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"P;{run};{50 + run},5;{49 - run},5" for run in range(1, 6)]
    Path("t.csv").write_text("\n".join(["specimen;run;A;B", *lines, ""]))
    cellcount("evaluate", "repeatability", "t.csv", "--csv", "o.csv", "--values", "percent")
    lines = Path("o.csv").read_text().splitlines()
    assert lines[0].startswith("specimen;class;")
    mean = lines[0].split(";").index("mean_percent")
    assert [line.split(";")[mean] for line in lines[1:]] == ["53,5", "46,5"]
