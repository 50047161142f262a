"""People's labels count beside the classifier's cells, and no number contradicts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount.differential.compute import differential
from cellcount.differential.figures import (
    Confusion,
    Estimate,
    Rules,
    Sample,
    TypeRows,
)
from cellcount.differential.profile import Profile, load_profile
from cellcount.models.taxonomy import load_taxonomy
from tests.unit.differential.vocabulary import Taxonomy, Types, Whole, advice


def test_a_reviewer_s_type_counts_but_does_not_assess_its_row(
    blood: Profile, taxonomy: Taxonomy
) -> None:
    types = (*taxonomy("pbc-8"), TypeRows("blast", "blasts", ("blasts",), searched=False))
    found = differential({"lymphocyte": 97, "blast": 3}, blood, types)
    blasts = found.figure("class", "blasts")
    assert (blasts.assessment, blasts.n) == ("not assessed", None)
    assert "a reviewer named 3" in blasts.note
    assert found.total == 100
    assert not found.complete


def reviewed(*rows: str) -> Types:
    """Types that only a reviewer gave."""
    return tuple(TypeRows(row, row.replace("_", " "), (row,), searched=False) for row in rows)


def test_a_reviewer_s_type_of_a_pooled_row_stands_in_the_pool(
    blood: Profile, taxonomy: Taxonomy
) -> None:
    types = (*taxonomy("pbc-8"), *reviewed("segmented_neutrophils"))
    counts = {"neutrophil": 2, "segmented_neutrophils": 1, "lymphocyte": 1}
    found = differential(counts, blood, types, sample=Sample(wbc_10e9_per_l=(8.0,)))
    pool = found.figure("pool", "segmented_neutrophils+band_forms")
    assert (pool.n, pool.denominator, pool.percent, pool.name) == (3, 4, 75.0, "neutrophils")
    assert found.figure("group", "neutrophils").percent == 75.0
    assert found.figure("measure", "anc").n == 3
    row = found.figure("class", "segmented_neutrophils")
    assert (row.assessment, row.n) == ("pooled", None)
    assert row.note.endswith("; a reviewer named 1, counted with them")
    assert "reviewer" not in found.figure("class", "band_forms").note


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["pbc-8", "pbc-13", "wbc-5", "aml-lmu-15"]), st.data())
def test_every_cell_of_the_denominator_stands_once(name: str, data: st.DataObject) -> None:
    """In a row, in a pool, or as a reviewer's in the note of a row that is not assessed."""
    blood = load_profile("peripheral-blood")
    known = tuple(TypeRows(t.id, t.plural, t.rows) for t in load_taxonomy(name).types)
    rows = [row for row in blood.rows if row not in {t.id for t in known}]
    types = (*known, *reviewed(*data.draw(st.sets(st.sampled_from(rows)))))
    counts = {t.id: data.draw(st.integers(0, 5)) for t in types}
    found = differential(counts, blood, types)
    counted = sum(f.n or 0 for f in found.of_kind("class", "pool"))
    noted = [f for f in found.of_kind("class") if f.assessment == "not assessed"]
    named = sum(int(f.note.split("named ")[1].split(",")[0]) for f in noted if "named " in f.note)
    assert counted + named == found.total


def test_a_reviewer_s_type_outside_the_denominator_is_said(
    blood: Profile, marrow: Profile, taxonomy: Taxonomy
) -> None:
    types = (*taxonomy("wbc-5"), *reviewed("smudge_cells", "nucleated_red_cells", "plasma_cells"))
    counts = {"lymphocyte": 5, "smudge_cells": 1, "nucleated_red_cells": 2}
    found = differential(counts, blood, types)
    smudge = found.figure("outside", "smudge_cells")
    assert (smudge.assessment, smudge.n) == ("not assessed", None)
    assert smudge.note == "the classifier cannot name them; a reviewer named 1"
    assert found.figure("measure", "nrbc_per_100").note.endswith("; a reviewer named 2")
    assert "reviewer" not in found.figure("outside", "artefacts").note
    for n, end in ((0, "cannot name them"), (3, "; a reviewer named 3")):
        other = differential({"plasma_cells": n}, blood, [*types[:-1], reviewed("x")[0], types[-1]])
        elsewhere = other.figure("outside", "plasma_cells")
        assert (elsewhere.assessment, elsewhere.n) == ("not assessed", None), "no false zero"
        assert elsewhere.note.startswith("no row of peripheral-blood")
        assert elsewhere.note.endswith(end)


def test_what_reviewers_labelled_is_not_corrected(blood: Profile) -> None:
    known = tuple(TypeRows(row, row, (row,)) for row in ("lymphocytes", "monocytes"))
    confusion = Confusion(
        ("lymphocytes", "monocytes"), np.array([[8000, 2000], [2000, 8000]]), "a validation"
    )
    rules, types = Rules(confusion=confusion), (*known, *reviewed("blasts"))

    def share(counts: dict[str, int], labelled: dict[str, int]) -> Estimate:
        sample = Sample(reviewed=labelled)
        found = differential(counts, blood, types, sample=sample, rules=rules)
        estimate = found.figure("class", "lymphocytes").adjusted
        assert estimate is not None
        assert "undo the classifier's confusions" in advice(found)["adjusted"]
        assert ("that a person labelled" in advice(found)["adjusted"]) == bool(labelled)
        return estimate

    plain = share({"lymphocytes": 56, "monocytes": 44}, {})
    assert plain.value == pytest.approx(60, abs=1e-3)
    half = {"lymphocytes": 56 + 30, "monocytes": 44 + 70}
    some = share(half, {"lymphocytes": 30, "monocytes": 70})
    assert some.value == pytest.approx((60 + 30) / 2, abs=1e-3)
    all_ = share({"lymphocytes": 56, "monocytes": 44}, {"lymphocytes": 56, "monocytes": 44})
    assert all_.value == pytest.approx(56)
    assert all_.limits is not None
    assert all_.limits.low < 50 < 62 < (all_.limits.high or 0), "a sample all the same"
    blasts = share({"lymphocytes": 56, "monocytes": 44, "blasts": 100}, {"blasts": 100})
    assert blasts.value == pytest.approx(30, abs=1e-3)


def test_types_without_a_known_confusion_are_not_adjusted(blood: Profile, whole: Whole) -> None:
    confusion = Confusion(("lymphocytes", "monocytes"), np.array([[90, 10], [10, 90]]), "val")
    rules = Rules(confusion=confusion)
    found = differential({"lymphocytes": 5}, blood, whole(blood), rules=rules)
    assert found.figure("class", "lymphocytes").adjusted is not None
    assert found.figure("class", "blasts").adjusted is None
    other = differential({"lymphocytes": 5, "blasts": 1}, blood, whole(blood), rules=rules)
    assert all(f.adjusted is None for f in other.figures)
    assert "nothing is adjusted: val does not know all" in advice(other)["adjusted"]


def test_more_cells_reviewed_than_counted_are_refused(blood: Profile, whole: Whole) -> None:
    with pytest.raises(ValueError, match="reviewed of"):
        differential({"blasts": 1}, blood, whole(blood), sample=Sample(reviewed={"blasts": 2}))
