"""Every number that the field names, to the digit; and that no zero is a false one."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cellcount.differential.compute import counts_only, differential
from cellcount.differential.figures import (
    Figure,
    Rules,
    Sample,
    TypeRows,
)
from cellcount.differential.limits import Limits
from cellcount.differential.profile import Profile, load_profile
from tests.unit.differential.vocabulary import Taxonomy, Whole, advice


def rounded(figure: Figure, digits: int = 1) -> tuple[float, float, float]:
    assert figure.value is not None
    assert figure.limits is not None
    assert figure.limits.high is not None
    numbers = (figure.value, figure.limits.low, figure.limits.high)
    return tuple(round(n, digits) for n in numbers)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("n", "total", "low", "high"),
    [(20, 100, 13.3, 28.9), (100, 500, 16.7, 23.7), (200, 1000, 17.6, 22.6)],
)
def test_20_percent(
    blood: Profile, whole: Whole, n: int, total: int, low: float, high: float
) -> None:
    found = differential({"lymphocytes": n, "monocytes": total - n}, blood, whole(blood))
    row = found.figure("class", "lymphocytes")
    assert rounded(row) == (20.0, low, high)
    assert (row.n, row.denominator, row.of, row.unit) == (n, total, "white cells", "%")
    assert row.method == "wilson"


def test_no_blasts_among_100_are_0_to_3_7_percent_of_a_classifier_that_can_name_them(
    blood: Profile, whole: Whole
) -> None:
    found = differential({"lymphocytes": 100}, blood, whole(blood))
    assert rounded(found.figure("class", "blasts")) == (0.0, 0.0, 3.7)
    assert rounded(found.figure("measure", "blasts_of_all")) == (0.0, 0.0, 3.7)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 300), st.integers(1, 700))
def test_both_methods_against_their_definitions(n: int, others: int) -> None:
    marrow = load_profile("bone-marrow")
    types = [TypeRows(row, row, (row,)) for row in marrow.rows]
    counts, total = {"lymphocytes": n, "monocytes": others}, n + others
    exact = differential(counts, marrow, types, rules=Rules("clopper-pearson"))
    row = exact.figure("class", "lymphocytes")
    low = 0.0 if n == 0 else 100 * stats.beta.ppf(0.025, n, total - n + 1)
    high = 100.0 if n == total else 100 * stats.beta.ppf(0.975, n + 1, total - n)
    assert row.limits == Limits(pytest.approx(low), pytest.approx(high))  # type: ignore[arg-type]
    assert row.method == "clopper-pearson"
    z, p = 1.959963984540054, n / total
    middle = (p + z * z / 2 / total) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / 4 / total**2)
    wilson = differential(counts, marrow, types).figure("class", "lymphocytes").limits
    assert wilson is not None
    assert wilson.low == pytest.approx(100 * (middle - half), abs=1e-9)
    assert wilson.high == pytest.approx(100 * (middle + half), abs=1e-9)


def test_the_same_marrow_has_9_or_22_5_percent_of_blasts(marrow: Profile, whole: Whole) -> None:
    counts = {"erythroblasts": 300, "blasts": 45, "lymphocytes": 155}
    found = differential(counts, marrow, whole(marrow))
    of_all = found.figure("measure", "blasts_of_all")
    assert rounded(of_all)[0] == 9.0
    assert (of_all.denominator, of_all.of) == (500, "nucleated cells")
    without = found.figure("measure", "blasts_of_non_erythroid")
    assert rounded(without)[0] == 22.5
    assert (without.n, without.denominator, without.of) == (45, 200, "non-erythroid cells")


@pytest.mark.parametrize(
    ("myeloid", "erythroid", "printed"), [(210, 90, (2.3, 1.8, 3.0)), (21, 9, (2.3, 1.1, 5.0))]
)
def test_limits_of_the_ratio(
    marrow: Profile,
    whole: Whole,
    myeloid: int,
    erythroid: int,
    printed: tuple[float, float, float],
) -> None:
    counts = {"segmented_neutrophils": myeloid, "erythroblasts": erythroid}
    ratio = differential(counts, marrow, whole(marrow)).figure("measure", "me_ratio_icsh")
    assert rounded(ratio) == printed


def test_one_marrow_two_conventions(marrow: Profile, whole: Whole) -> None:
    counts = {"segmented_neutrophils": 170, "monocytes": 60, "erythroblasts": 100}
    found = differential(counts, marrow, whole(marrow))
    names = [f.id for f in found.of_kind("measure") if f.id.startswith("me_")]
    assert names == ["me_ratio_icsh", "me_ratio_without_monocytes"], "the profile's own first"
    icsh, without = (found.figure("measure", name) for name in names)
    assert (rounded(icsh)[0], rounded(without)[0]) == (2.3, 1.7)
    assert icsh.note == "the convention of this profile"
    assert (icsh.n, without.n, icsh.denominator) == (230, 170, 100)


def test_no_erythroblast_leaves_the_ratio_open_upwards(marrow: Profile, whole: Whole) -> None:
    found = differential({"blasts": 50}, marrow, whole(marrow))
    ratio = found.figure("measure", "me_ratio_icsh")
    assert ratio.value is None
    assert ratio.limits is not None
    assert ratio.limits.high is None
    assert 10 < ratio.limits.low < 50
    assert "undefined" in ratio.note


def test_rows_of_the_marrow_stand_in_the_order_of_icsh(marrow: Profile, whole: Whole) -> None:
    found = differential({}, marrow, whole(marrow))
    assert [f.id for f in found.of_kind("class")] == [
        *("blasts", "promyelocytes", "myelocytes", "metamyelocytes", "band_forms"),
        *("segmented_neutrophils", "eosinophils", "basophils", "mast_cells", "monocytes"),
        *("lymphocytes", "plasma_cells", "erythroblasts"),
    ]


def test_groups_lineages_and_what_stays_outside(marrow: Profile, whole: Whole) -> None:
    counts = {
        "band_forms": 10, "segmented_neutrophils": 20, "promyelocytes": 1, "myelocytes": 2,
        "metamyelocytes": 3, "lymphocytes": 5, "plasma_cells": 4, "erythroblasts": 15, "blasts": 0,
        "monocytes": 30, "mast_cells": 10, "smudge_cells": 7, "megakaryocytes": 3, "artefacts": 9,
    }  # fmt: skip
    found = differential(counts, marrow, whole(marrow))
    assert found.total == 100
    assert {f.id: f.n for f in found.of_kind("group")} == {
        "neutrophils": 30, "immature_granulocytes": 6, "erythroid": 15, "lymphoid": 9,
    }  # fmt: skip
    lineages = {f.id: (f.n, f.percent) for f in found.of_kind("lineage")}
    assert lineages == {
        "erythropoiesis": (15, 15.0), "granulopoiesis": (36, 36.0), "lymphopoiesis": (9, 9.0),
        "monopoiesis": (30, 30.0), "others": (16, None),
    }  # fmt: skip
    outside = {f.id: f.n for f in found.of_kind("outside") if f.n}
    assert outside == {"smudge_cells": 7, "megakaryocytes": 3, "artefacts": 9}
    assert all(f.value is None and f.denominator is None for f in found.of_kind("outside"))
    assert sum(f.n or 0 for f in found.of_kind("class")) == 100


def test_what_a_blood_classifier_cannot_name_is_not_assessed(
    blood: Profile, taxonomy: Taxonomy
) -> None:
    counts = {"neutrophil": 60, "lymphocyte": 30, "monocyte": 10}
    found = differential(counts, blood, taxonomy("pbc-8"))
    blasts = found.figure("class", "blasts")
    assert blasts.assessment == "not assessed"
    assert (blasts.n, blasts.denominator, blasts.value, blasts.limits) == (None,) * 4
    assert not found.complete
    shares = [f for f in found.of_kind("class", "pool", "group", "lineage") if f.value is not None]
    assert len(shares) > 6
    assert {f.of for f in shares} == {"assessed cells"}
    withheld = found.figure("measure", "blasts_of_all")
    assert (withheld.assessment, withheld.value, withheld.n) == ("withheld", None, None)
    assert withheld.note == "withheld: the classifier does not name blasts"
    assert "cannot name blasts" in advice(found)["of_assessed_cells"]


def test_rows_that_are_not_told_apart_are_counted_once_together(
    blood: Profile, taxonomy: Taxonomy
) -> None:
    counts = {"neutrophil": 60, "ig": 5, "lymphocyte": 35}
    found = differential(counts, blood, taxonomy("pbc-8"))
    bands = found.figure("class", "band_forms")
    assert (bands.assessment, bands.n, bands.value) == ("pooled", None, None)
    pool = found.figure("pool", "segmented_neutrophils+band_forms")
    assert (pool.n, pool.percent) == (60, 60.0)
    assert found.figure("group", "neutrophils").n == 60
    assert found.figure("group", "immature_granulocytes").n == 5
    assert sum(f.n or 0 for f in found.of_kind("class", "pool")) == found.total == 100
    order = [f.id for f in found.of_kind("class", "pool")]
    assert order[:3] == ["segmented_neutrophils", "segmented_neutrophils+band_forms", "band_forms"]


def test_a_stage_that_is_sometimes_left_open_is_said(blood: Profile, taxonomy: Taxonomy) -> None:
    counts = {"band_neutrophil": 4, "neutrophil": 6, "segmented_neutrophil": 90}
    found = differential(counts, blood, taxonomy("pbc-13"))
    bands = found.figure("class", "band_forms")
    assert (bands.assessment, bands.n) == ("assessed", 4)
    assert "not split" in bands.note
    assert found.figure("pool", "segmented_neutrophils+band_forms").n == 6
    assert found.figure("group", "neutrophils").n == 100


def test_part_of_a_group_is_not_the_group(marrow: Profile, taxonomy: Taxonomy) -> None:
    """Seven types without myelocytes: no promyelocytes are no 0 % of immature granulocytes."""
    found = differential({"blast": 50, "lymphocyte": 50}, marrow, taxonomy("mll-7"))
    group = found.figure("group", "immature_granulocytes")
    assert (group.assessment, group.n, group.value) == ("not assessed", None, None)
    for name in ("me_ratio_icsh", "me_ratio_without_monocytes", "blasts_of_non_erythroid"):
        assert found.figure("measure", name).assessment == "withheld"
    row = found.figure("class", "blasts")
    assert (row.n, row.percent, row.of) == (50, 50.0, "assessed cells")
    assert "any lineage, not a myeloblast" in row.note


def test_mll_s_21_types_lack_mast_cells(marrow: Profile, taxonomy: Taxonomy) -> None:
    found = differential({"blast": 5, "erythroblast": 5}, marrow, taxonomy("mll-21"))
    assert not found.complete
    assert "mast cells" in found.figure("measure", "me_ratio_icsh").note


def test_types_known_by_name_only_fill_no_row(blood: Profile) -> None:
    found = differential({"a": 7}, blood, [TypeRows("a", "a cells"), TypeRows("b", "b cells")])
    assert {f.assessment for f in found.of_kind("class")} == {"not assessed"}
    assert found.total == 0
    assert found.figure("outside", "a").n == 7
    assert "empty" in advice(found)


def test_one_cell_is_in_the_singular(blood: Profile, whole: Whole) -> None:
    said = advice(differential({"lymphocytes": 1}, blood, whole(blood)))
    assert said["few_cells"].startswith("1 cell counted, fewer than the 100")
    text = " ".join(said.values())
    assert "of 1 white cell leave" in text
    assert not re.search(r"\b1 (white )?cells", text)


def test_nrbc_per_100_white_cells_and_the_corrected_count(blood: Profile, whole: Whole) -> None:
    counts = {"segmented_neutrophils": 120, "lymphocytes": 80, "nucleated_red_cells": 40}
    found = differential(counts, blood, whole(blood), sample=Sample(wbc_10e9_per_l=(12.0,)))
    nrbc = found.figure("measure", "nrbc_per_100")
    assert (nrbc.n, nrbc.denominator, nrbc.value, nrbc.unit) == (40, 200, 20.0, "per 100")
    assert found.total == 200, "they stay outside"
    assert found.figure("measure", "wbc_corrected").value == pytest.approx(10.0)
    assert found.figure("measure", "wbc").value == 12.0
    anc = found.figure("measure", "anc")
    assert anc.value == pytest.approx(0.6 * 12.0)
    assert anc.limits is not None
    share = found.figure("group", "neutrophils")
    assert share.limits is not None
    assert anc.limits.low == pytest.approx(share.limits.low * 0.12)
    assert share.absolute_10e9_per_l is not None
    assert share.absolute_10e9_per_l.value == anc.value
    assert "given white cell count" in advice(found)["nrbc"]


def test_a_laboratory_whose_analyzer_counts_nrbc_gets_corrected_absolute_counts(
    blood: Profile, whole: Whole
) -> None:
    assert blood.absolute is not None
    rule = dataclasses.replace(blood.absolute, analyzer_counts_nrbc=True)
    own = dataclasses.replace(blood, absolute=rule)
    counts = {"segmented_neutrophils": 120, "lymphocytes": 80, "nucleated_red_cells": 40}
    found = differential(counts, own, whole(own), sample=Sample(wbc_10e9_per_l=(12.0,)))
    assert found.figure("measure", "anc").value == pytest.approx(0.6 * 10.0)
    assert "corrected" in found.figure("measure", "anc").note


def test_no_or_several_white_cell_counts_give_no_absolute_counts(
    blood: Profile, whole: Whole
) -> None:
    for given_counts in ((), (5.0, 6.0)):
        sample = Sample(wbc_10e9_per_l=given_counts)
        found = differential({"lymphocytes": 50}, blood, whole(blood), sample=sample)
        assert all(f.absolute_10e9_per_l is None for f in found.figures)
        assert ("wbc_differs" in advice(found)) == bool(given_counts)


def test_platelets_per_field_and_their_estimate(blood: Profile) -> None:
    sample = Sample(fields=10, objects={"platelet": 100}, area_um2=10 * 38_000.0)
    found = differential({}, blood, (), sample=sample)
    per_field = found.figure("object", "platelet")
    assert (per_field.value, per_field.denominator) == (10.0, 10)
    low, high = stats.chi2.ppf([0.025, 0.975], [200, 202]) / 2 / 10
    assert per_field.limits is not None
    assert (per_field.limits.low, per_field.limits.high) == pytest.approx((low, high))
    assert found.figure("measure", "platelet_estimate").value == pytest.approx(150.0)
    unknown = Sample(fields=10, objects={"platelet": 100})
    figure = differential({}, blood, (), sample=unknown).figure("measure", "platelet_estimate")
    assert (figure.assessment, figure.value) == ("withheld", None)


def test_without_a_classifier_there_is_no_differential(blood: Profile) -> None:
    found = differential({}, blood, (), sample=Sample(fields=3, objects={"wbc": 0}))
    assert found.total is None
    assert found.of_kind("class", "pool", "group", "lineage", "outside") == ()
    assert "no differential" in advice(found)["no_classifier"]


def test_advice_at_a_threshold(blood: Profile, whole: Whole) -> None:
    def at(blasts: int, others: int, rules: Rules | None = None) -> dict[str, str]:
        counts = {"blasts": blasts, "lymphocytes": others}
        return advice(differential(counts, blood, whole(blood), rules=rules))

    assert not any(name.startswith("blasts_near") for name in at(60, 40))
    text = at(24, 76)["blasts_near_20"]
    assert "blasts 24.0 % (16.7–33.2) of 100 white cells" in text
    z = stats.norm.ppf(0.975)  # Wilson's limits turn the score test round
    needed = math.ceil(z * z * 0.2 * 0.8 / 0.04**2)
    assert f"about {needed} white cells in all would settle it" in text
    assert "more counting will not settle this" in at(20, 80)["blasts_near_20"]
    assert "more counting will not settle this" in at(1190, 4810)["blasts_near_20"]
    exact = at(24, 76, Rules("clopper-pearson"))["blasts_near_20"]
    needed = int(exact.split("about ")[1].split()[0])
    low = [stats.beta.ppf(0.025, 0.24 * n, 0.76 * n + 1) for n in (needed - 1, needed)]
    assert low[0] < 0.2 <= low[1]


def test_cells_against_the_targets(marrow: Profile, whole: Whole) -> None:
    few = differential({"lymphocytes": 299}, marrow, whole(marrow))
    assert "few_cells" in advice(few)
    counted = few.figure("measure", "cells_counted")
    assert (counted.n, counted.denominator) == (299, 300)
    one_slide = differential({"lymphocytes": 500}, marrow, whole(marrow))
    assert "few_slides" in advice(one_slide)
    note = one_slide.figure("measure", "cells_counted").note
    assert note.startswith("reaches 300")
    assert "not yet 500 on 2 slides" in note
    both = differential(
        {"lymphocytes": 500}, marrow, whole(marrow), sample=Sample(fields=20, slides=2)
    )
    assert "few_slides" not in advice(both)
    assert both.figure("measure", "cells_counted").note.startswith("reaches 500")


def test_many_unclassified_cells_are_said_and_enter_nothing(blood: Profile, whole: Whole) -> None:
    found = differential({"lymphocytes": 80, "unclassified": 20}, blood, whole(blood))
    assert found.total == 80
    assert found.figure("outside", "unclassified").n == 20
    assert "unclassified 20 of 100 typed cells, more than 10 %" in advice(found)["unclassified"]


@pytest.mark.parametrize("cells", [0, 1, 100_000])
def test_any_number_of_cells(marrow: Profile, whole: Whole, cells: int) -> None:
    types = whole(marrow)
    per_field = np.zeros((20, len(types)), np.int64)
    per_field[:, 0] = cells // 20
    sample = Sample(fields=20, per_field=per_field, objects={"wbc": cells})
    found = differential({"blasts": cells}, marrow, types, sample=sample)
    blasts = found.figure("class", "blasts")
    assert (blasts.n, found.total) == (cells, cells)
    assert blasts.value == (100.0 if cells else None)
    assert (blasts.limits is None) == (cells == 0)
    assert (blasts.bootstrap is None) == (cells < 20)
    if not cells:
        assert "none of the nucleated cells" in advice(found)["empty"]


def test_fields_that_all_failed_are_not_counted(blood: Profile, whole: Whole) -> None:
    found = differential({}, blood, whole(blood), sample=Sample(fields=0, failed=3, excluded=1))
    assert found.total is None
    assert {f.assessment for f in found.figures} == {"not counted"}
    assert all(f.n is None and f.value is None for f in found.figures)
    assert advice(found) == {
        "empty": "there are no counts, for no field was analysed: 3 failed, 1 excluded"
    }


def test_a_run_has_counts_only(blood: Profile, whole: Whole) -> None:
    found = counts_only(differential({"lymphocytes": 7}, blood, whole(blood)))
    assert found.figure("class", "lymphocytes").n == 7
    assert all(f.value is None and f.limits is None for f in found.figures)
    assert found.of_kind("measure") == ()


def test_a_forced_profile_is_said_first(marrow: Profile, taxonomy: Taxonomy) -> None:
    found = differential({"lymphocyte": 9}, marrow, taxonomy("pbc-8"), rules=Rules(forced=True))
    assert found.advice[0].id == "forced"


def test_counts_of_other_types_and_negative_ones_are_refused(blood: Profile) -> None:
    for counts in ({"x": 1}, {"a": -1}):
        with pytest.raises(ValueError, match="expected 0 or more of a"):
            differential(counts, blood, [TypeRows("a", "a", ("blasts",))])
