"""slides.csv holds what the differential says, reads back, and is the same every time."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellcount.core.records import CellClass, ImageRef
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import load_profile
from cellcount.differential.rollup import FieldCounts, roll_up
from cellcount.outputs.columns import SLIDES_COLUMNS
from cellcount.outputs.slides import write_differentials
from cellcount.settings import CsvForm
from tests.tables import check_table, read_table

TYPES = (
    TypeRows("neutrophil", "neutrophils", ("band_forms", "segmented_neutrophils")),
    TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
    TypeRows("erythroblast", "erythroblasts", ("nucleated_red_cells",)),
)


def counting(rules: Rules | None = None, types: tuple[TypeRows, ...] = TYPES) -> Counting:
    return Counting(
        load_profile("peripheral-blood"),
        types,
        (CellClass("wbc", "white cell", "white cells"),),
        rules or Rules(),
        {"classifier": "mine 1, sha256 0"},
    )


@pytest.fixture
def fields() -> list[FieldCounts]:
    """Twelve fields of one slide with 60 neutrophils, 40 lymphocytes and 12 NRBC; one failed."""
    counts = [(5, n, 1, 0) for n in (0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2)]
    found = [
        FieldCounts(
            ImageRef(Path("x"), f"{i:02}", "s;1", "=p", wbc_10e9_per_l=10.0),
            status="done",
            types=np.array(row),
            objects=np.array([sum(row)]),
        )
        for i, row in enumerate(counts)
    ]
    nothing = np.zeros(4, np.int64)
    failed = FieldCounts(
        ImageRef(Path("y"), "y", "broken"), status="failed", types=nothing, objects=nothing[:1]
    )
    return [*found, failed]


def rows_of(path: Path) -> pd.DataFrame:
    assert check_table(path, SLIDES_COLUMNS) == []
    return read_table(path, SLIDES_COLUMNS)


def one(table: pd.DataFrame, level: str, kind: str, row: str) -> pd.Series[Any]:
    found = table[(table["level"] == level) & (table["kind"] == kind) & (table["row"] == row)]
    return found.iloc[0]


def test_numbers_are_those_of_the_differential(tmp_path: Path, fields: list[FieldCounts]) -> None:
    path = tmp_path / "slides.csv"
    write_differentials(path, fields, counting(), CsvForm())
    table = rows_of(path)
    assert table["level"].unique().tolist() == ["slide", "specimen", "run"]
    unit = roll_up(fields)[0]
    found = counting().of(unit)
    for figure in found.figures:
        row = one(table, "slide", figure.kind, figure.id)
        assert (row["slide"], row["specimen"]) == ("s;1", "=p")
        assert row["assessment"] == figure.assessment
        for name, value in (("n", figure.n), ("denominator", figure.denominator)):
            assert (row[name] is pd.NA) == (value is None)
            assert value is None or row[name] == value
        assert np.isnan(row["percent"]) == (figure.percent is None)
        if figure.limits is not None:
            assert row["ci_low"] == pytest.approx(figure.limits.low, abs=5e-5)
    lymphocytes = one(table, "slide", "class", "lymphocytes")
    assert (lymphocytes["n"], lymphocytes["denominator"]) == (40, 100)
    assert [round(float(lymphocytes[c]), 1) for c in ("percent", "ci_low", "ci_high")] == [
        *(40.0, 30.9, 49.8)
    ]
    assert lymphocytes["bootstrap_low"] < 40 < lymphocytes["bootstrap_high"]
    assert lymphocytes["absolute_10e9_per_l"] == 4.0
    assert (lymphocytes["of"], lymphocytes["method"]) == ("assessed cells", "wilson")
    assert one(table, "slide", "measure", "nrbc_per_100")["value"] == 12.0
    assert one(table, "slide", "measure", "anc")["value"] == 6.0
    corrected = one(table, "slide", "measure", "wbc_corrected")["value"]
    assert corrected == pytest.approx(1000 / 112, abs=5e-5)


def test_what_is_unknown_is_empty_and_never_0(tmp_path: Path, fields: list[FieldCounts]) -> None:
    path = tmp_path / "slides.csv"
    write_differentials(path, fields, counting(), CsvForm())
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    unknown = [r for r in rows if r["assessment"] not in ("assessed", "")]
    assert {r["assessment"] for r in unknown} == {
        *("pooled", "not assessed", "withheld", "not counted")
    }
    numbers = [
        c.name
        for c in SLIDES_COLUMNS
        if c.dtype in ("int", "float") and not c.name.startswith("fields_")
    ]
    assert all(r[name] == "" for r in unknown for name in numbers)
    broken = [r for r in rows if r["slide"] == "broken"]
    assert {r["kind"] for r in broken} >= {"class", "advice"}
    assert any("no field was analysed: 1 failed" in r["note"] for r in broken)
    run = [r for r in rows if r["level"] == "run"]
    assert all(r["percent"] == r["value"] == "" for r in run)
    assert any(r["n"] == "40" for r in run)


def test_the_table_says_how_it_was_counted(tmp_path: Path, fields: list[FieldCounts]) -> None:
    path = tmp_path / "slides.csv"
    confusion = Confusion(
        ("neutrophil", "lymphocyte", "erythroblast"), np.eye(3, dtype=np.int64) * 50, "val"
    )
    write_differentials(
        path, fields, counting(Rules("clopper-pearson", 0.9, confusion, forced=True)), CsvForm(";")
    )
    table = rows_of(path)
    assert table["profile"].unique().tolist() == ["peripheral-blood 1.0 (forced)"]
    about = table[table["kind"] == "about"].set_index("row")["note"]
    assert about["limits"] == "90 %, clopper-pearson"
    assert about["adjusted_by"] == "val"
    assert about["classifier"] == "mine 1, sha256 0"
    assert "smudge cells" in about["outside_the_denominator"]
    assert about["not_assessed"].endswith("blasts")
    assert "not for diagnosis" in about["use"]
    lymphocytes = one(table, "slide", "class", "lymphocytes")
    assert lymphocytes["confidence"] == 0.9
    assert lymphocytes["adjusted_percent"] == pytest.approx(40, abs=0.01)
    assert lymphocytes["adjusted_low"] < 40 < lymphocytes["adjusted_high"]
    assert one(table, "slide", "advice", "forced")["note"]
    assert one(table, "run", "advice", "forced")["note"]


def test_the_same_bytes_every_time_and_without_anything(
    tmp_path: Path, fields: list[FieldCounts]
) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path in paths[:2]:
        write_differentials(path, iter(fields), counting(), CsvForm())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    write_differentials(paths[2], [], counting(types=()), CsvForm())
    assert rows_of(paths[2])["level"].unique().tolist() == ["run"]
