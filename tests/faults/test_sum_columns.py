"""A column of sums in a manual sheet is no class of cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cellcount.comparison.count_tables import CountTable, read_count_table
from cellcount.errors import UsageError
from tests.workbooks import Cell, write_xlsx

COUNTS = [(112 + i, 58 - i, 21, 9 + i % 3) for i in range(8)]
HEADER = "slide,Neutrophils,Lymphocytes,Monocytes,Eosinophils"


def read(folder: Path, header: str, rows: Sequence[Sequence[float]]) -> CountTable:
    path = folder / "manual.csv"
    lines = [f"S{i}," + ",".join(map(str, row)) for i, row in enumerate(rows)]
    path.write_text("\n".join([header, *lines]), "utf-8")
    return read_count_table(path)


def neutrophils(table: CountTable, at: int = 0) -> float:
    return table.rows[at].shares["Neutrophils"].percent


@pytest.mark.parametrize(
    "name",
    ["Total", "SUM", "Summe", "n (gesamt)", "Σ", "Total cells", "Cells counted", "Kontrolle"],
)
def test_totals_are_left_out_by_name_or_arithmetic(tmp_path: Path, name: str) -> None:
    table = read(tmp_path, f"{HEADER},{name}", [(*row, sum(row)) for row in COUNTS])
    assert list(table.classes) == ["Neutrophils", "Lymphocytes", "Monocytes", "Eosinophils"]
    assert neutrophils(table) == pytest.approx(100 * 112 / sum(COUNTS[0]))
    assert any(repr(name) in note and "left out" in note for note in table.notes)


def test_a_total_in_front_and_one_that_includes_what_is_outside(tmp_path: Path) -> None:
    rows = [(sum(row) + 5, *row, 5) for row in COUNTS]
    header = HEADER.replace("slide,", "slide,Total,") + ",NRBC"
    table = read(tmp_path, header, rows)
    assert neutrophils(table) == pytest.approx(100 * 112 / sum(COUNTS[0]))


@pytest.mark.parametrize(
    "name",
    ["Total", "Итого", "合計", "总计", "Razem", "Összesen", "TOPLAM", "Σύνολο", "Totaal (n)"],
)
def test_totals_of_equally_many_cells_are_known_by_name(tmp_path: Path, name: str) -> None:
    rows = [(112 + i, 58 - i, 21, 9, 200) for i in range(8)]
    table = read(tmp_path, f"{HEADER},{name}", rows)
    assert list(table.classes) == ["Neutrophils", "Lymphocytes", "Monocytes", "Eosinophils"]
    assert neutrophils(table) == 56


@pytest.mark.parametrize("name", ["Total", "Sum %", "Kontrolle"])
def test_percentages_with_a_column_of_hundreds(tmp_path: Path, name: str) -> None:
    rows = [(56.5, 30.1, 8.9, 4.5, 100), (60.0, 27.0, 9.0, 4.1, 100), (50, 40, 6, 4, 100)]
    table = read(tmp_path, f"{HEADER},{name}", rows)
    assert neutrophils(table) == 56.5
    assert table.rows[0].shares["Neutrophils"].total is None


def test_percentages_with_their_number_of_cells(tmp_path: Path) -> None:
    rows = [(56.5, 30.0, 9.0, 4.5, 200), (60.0, 27.0, 9.0, 4.0, 400)]
    table = read(tmp_path, f"{HEADER},Total cells", rows)
    share = table.rows[1].shares["Neutrophils"]
    assert (share.percent, share.total) == (60.0, 400)
    assert "column 'Total cells' is taken as the number of cells, like n" in table.notes


def test_a_total_that_is_none_is_refused_with_both_numbers(tmp_path: Path) -> None:
    rows = [(*row, sum(row) + (i == 3)) for i, row in enumerate(COUNTS)]
    with pytest.raises(UsageError, match="'Total' is called a sum and is none: it states 201 "):
        read(tmp_path, f"{HEADER},Total", rows)


def test_subtotals_are_left_out_by_name_or_by_the_number_of_cells(tmp_path: Path) -> None:
    header = "slide,Segmented,Bands,Neutrophils{},Lymphocytes{}"
    rows = [(50 + i, 5 + i % 2, 55 + i + i % 2, 40 - i) for i in range(6)]
    named = read(tmp_path, header.format(" total", ""), rows)
    assert list(named.classes) == ["Segmented", "Bands", "Lymphocytes"]
    counted = [(*row, row[0] + row[1] + row[3]) for row in rows]
    known = read(tmp_path, header.format("", ",n"), counted)
    assert list(known.classes) == ["Segmented", "Bands", "Lymphocytes"]
    with pytest.raises(UsageError, match="the sum of Segmented and Bands: it may be their subtot"):
        read(tmp_path, header.format("", ""), rows)


@pytest.mark.parametrize(
    "rows",
    [
        [(50, 25, 15, 10)] * 4,  # half of the cells, in every row alike
        [(50, 25, 15, 10), (60, 30, 20, 10)],  # in two rows by chance
        [(60, 30, 6, 4), (55, 35, 5, 5), (70, 22, 5, 3)],
    ],
)
def test_classes_stay_classes(tmp_path: Path, rows: Sequence[Sequence[float]]) -> None:
    assert len(read(tmp_path, HEADER, rows).classes) == 4


def test_total_protein_is_no_total(tmp_path: Path) -> None:
    table = read(tmp_path, "slide,Total neutrophils,Lymphocytes", [(60, 40), (55, 45)])
    assert len(table.classes) == 2


def test_percent_cells_of_a_workbook_are_percentages(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [
        [*HEADER.split(",")],
        ["S0", 0.565, 0.3, 0.09, 0.045],
        ["S1", 0.6, 0.27, 0.09, 0.04],
    ]
    table = read_count_table(write_xlsx(tmp_path / "t.xlsx", {"manual": rows}))
    assert neutrophils(table) == pytest.approx(56.5)
    assert "values are shares that add up to 1, read as percentages" in table.notes
