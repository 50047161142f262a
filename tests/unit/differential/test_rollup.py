"""Fields become slides, specimens and a run; each level counts the right fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.cells import with_reviews
from cellcount.core.records import (
    UNCLASSIFIED,
    CellClass,
    Cells,
    CellTypes,
    Detections,
    ImageRef,
    ImageResult,
    Review,
    Status,
)
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import Profile
from cellcount.differential.rollup import FieldCounts, field_counts, roll_up, unit_differential

CLASSES = (CellClass("wbc", "white cell", "white cells"), CellClass("platelet", "p", "platelets"))
TYPES = (
    TypeRows("neutrophil", "neutrophils", ("band_forms", "segmented_neutrophils")),
    TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
)


def field(
    image: str,
    slide: str,
    specimen: str = "",
    counts: tuple[int, int, int] = (0, 0, 0),
    *,
    status: Status = "done",
    wbc: float | None = None,
) -> FieldCounts:
    ref = ImageRef(Path(image), image, slide, specimen, wbc_10e9_per_l=wbc)
    objects = np.array([sum(counts), 4])
    return FieldCounts(ref, status, np.array(counts), objects, 1000.0)


@pytest.fixture
def result() -> ImageResult:
    """Four cells: neutrophil, lymphocyte, one left open, and an untyped platelet."""
    said = CellTypes(
        np.array([0, 1, 1, -1]),
        np.array([0.9, 0.8, 0.4, 0], np.float32),
        np.array([1, 0, 0, -1]),
        np.zeros(4, np.float32),
        np.array([True, True, False, False]),
    )
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (4, 1))
    found = Detections(boxes, np.ones(4, np.float32), np.array([0, 0, 0, 1]))
    ref = ImageRef(Path("a.png"), "a.png", "s")
    cells = Cells(found, np.zeros(4, np.bool_), said)
    return ImageResult(ref, "done", "", 100, 50, 0.2, 1.0, cells)


def test_one_field(result: ImageResult) -> None:
    found = field_counts(result, 2, ["neutrophil", "lymphocyte"])
    assert found.status == "done"
    assert found.types.tolist() == [1, 1, 1]
    assert found.objects.tolist() == [3, 1]
    assert found.area_um2 == pytest.approx(100 * 50 * 0.04)
    unknown = field_counts(replace(result, um_per_px=None), 2, ["neutrophil", "lymphocyte"])
    assert unknown.area_um2 is None
    failed = ImageResult(result.ref, "failed", "broken")
    assert field_counts(failed, 2, ["neutrophil", "lymphocyte"]).status == "failed"


def test_cells_that_a_person_labelled_are_known(result: ImageResult, blood: Profile) -> None:
    said = {i: Review(type_id, "A. Smith", "2026-01-01T00:00:00+00:00", "") for i, type_id in (
        (1, "blasts"), (2, "lymphocyte"), (0, UNCLASSIFIED),
    )}  # fmt: skip
    ids = ["neutrophil", "lymphocyte", "blasts"]
    found = field_counts(with_reviews(replace(result, reviewed=said), ids), 2, ids)
    assert found.types.tolist() == [0, 1, 1, 1]
    assert found.reviewed is not None
    assert found.reviewed.tolist() == [0, 1, 1]
    types = (*TYPES, TypeRows("blasts", "blasts", ("blasts",), searched=False))
    rules = Rules(confusion=Confusion(("neutrophil", "lymphocyte"), np.diag([50, 50]), "val"))
    plain = replace(found, types=np.array([2, 0, 0, 0]), reviewed=None)
    units = roll_up([found, replace(plain, ref=replace(plain.ref, slide="t"))])
    slide, other, run = (unit_differential(u, blood, types, CLASSES, rules) for u in units)
    lymphocytes = slide.figure("class", "lymphocytes")
    assert (lymphocytes.percent, lymphocytes.n, slide.total) == (50.0, 1, 2)
    assert lymphocytes.adjusted is not None
    assert lymphocytes.adjusted.value == pytest.approx(50)
    assert "2 cells that a person labelled" in {a.id: a.text for a in slide.advice}["adjusted"]
    assert other.figure("class", "lymphocytes").adjusted is not None, "blasts were on another one"
    assert run.figure("class", "lymphocytes").n == 1


def test_slides_specimens_and_the_run(blood: Profile) -> None:
    fields = [
        field("a/1", "a", "p1", (3, 1, 0)),
        field("a/2", "a", "p1", (2, 2, 1)),
        field("b/1", "b", "p1", (10, 0, 0)),
        field("c/1", "c", "", (1, 0, 0)),
        field("d/1", "a", "p2", (0, 5, 0)),
    ]
    units = roll_up(fields)
    named = [(u.level, u.specimen, u.slide, len(u.fields)) for u in units]
    assert named == [
        ("slide", "p1", "a", 2),
        ("slide", "p1", "b", 1),
        ("slide", "", "c", 1),
        ("slide", "p2", "a", 1),
        ("specimen", "p1", "", 3),
        ("specimen", "p2", "", 1),
        ("run", "", "", 5),
    ]
    found = {
        n: unit_differential(u, blood, TYPES, CLASSES) for n, u in zip(named, units, strict=True)
    }
    totals = [d.total for d in found.values()]
    assert totals == [8, 10, 1, 5, 18, 5, 24]
    specimen = found["specimen", "p1", "", 3]
    assert specimen.figure("group", "neutrophils").n == 15
    assert specimen.figure("outside", "unclassified").n == 1
    assert specimen.figure("object", "platelet").n == 12
    run = found["run", "", "", 5]
    assert run.figure("group", "neutrophils").n == 16
    assert all(f.value is None for f in run.figures)
    assert [a.id for a in run.advice] == ["counts_only"]


def test_failed_fields_are_left_out_and_said(blood: Profile) -> None:
    unit = roll_up([field("1", "s", "", (4, 6, 0)), field("2", "s", status="failed")])[0]
    found = unit_differential(unit, blood, TYPES, CLASSES)
    assert found.total == 10
    assert found.figure("object", "wbc").denominator == 1
    left_out = {a.id: a.text for a in found.advice}["fields_left_out"]
    assert left_out == "fields that are not in it: 1 failed"
    analysed = found.figure("measure", "fields_analysed")
    assert (analysed.n, analysed.denominator, analysed.note) == (1, 2, "1 failed, 0 excluded")
    nothing = roll_up([field("2", "s", status="failed")])[0]
    empty = unit_differential(nothing, blood, TYPES, CLASSES)
    assert {f.assessment for f in empty.figures} == {"not counted"}
    assert roll_up([])[0].level == "run"
    assert unit_differential(roll_up([])[0], blood, TYPES, CLASSES).total is None


def test_fields_are_drawn_again_from_ten_on(blood: Profile) -> None:
    def rows(count: int) -> list[FieldCounts]:
        return [field(f"{i:02}", "s", "", (i % 3, 2, 0)) for i in range(count)]

    few, enough = (unit_differential(roll_up(rows(n))[0], blood, TYPES, CLASSES) for n in (9, 10))
    assert few.figure("class", "lymphocytes").bootstrap is None
    assert "few_fields" in {a.id for a in few.advice}
    limits = enough.figure("class", "lymphocytes").bootstrap
    assert limits is not None
    assert limits.high is not None
    assert limits.low < (enough.figure("class", "lymphocytes").value or 0) < limits.high
    again = unit_differential(roll_up(rows(10))[0], blood, TYPES, CLASSES)
    assert again.figures == enough.figures, "the same draws every time"


def test_the_white_cell_count_of_a_specimen_is_one(blood: Profile) -> None:
    fields = [field("1", "s", "p", (5, 5, 0), wbc=8.0), field("2", "t", "p", (5, 5, 0), wbc=8.0)]
    specimen = next(u for u in roll_up(fields) if u.level == "specimen")
    found = unit_differential(specimen, blood, TYPES, CLASSES)
    assert found.figure("measure", "anc").value == pytest.approx(4.0)
    fields[1] = field("2", "t", "p", (5, 5, 0), wbc=9.0)
    specimen = next(u for u in roll_up(fields) if u.level == "specimen")
    found = unit_differential(specimen, blood, TYPES, CLASSES)
    assert "8, 9" in {a.id: a.text for a in found.advice}["wbc_differs"]
