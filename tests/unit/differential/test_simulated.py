"""Counts with known truth, many times over: 95 % limits hold it about 95 times of 100."""

from __future__ import annotations

import numpy as np
import pytest

from cellcount.differential.compute import differential
from cellcount.differential.figures import Confusion, Rules, Sample, TypeRows
from cellcount.differential.limits import Limits, Method, Unmixing
from cellcount.differential.profile import Profile

TRUTH = {
    "segmented_neutrophils": 0.55, "lymphocytes": 0.28, "monocytes": 0.08, "eosinophils": 0.05,
    "blasts": 0.04,
}  # fmt: skip


def holds(limits: Limits | None, percent: float) -> bool:
    assert limits is not None
    assert limits.high is not None
    return limits.low <= percent <= limits.high


@pytest.mark.parametrize("method", ["wilson", "clopper-pearson"])
def test_limits_hold_the_truth(blood: Profile, method: Method) -> None:
    rng = np.random.default_rng(5)
    types = [TypeRows(name, name, (name,)) for name in TRUTH]
    held = []
    for total in (100, 400):
        for drawn in rng.multinomial(total, list(TRUTH.values()), size=60):
            counts = dict(zip(TRUTH, drawn.tolist(), strict=True))
            found = differential(counts, blood, types, rules=Rules(method))
            held += [
                holds(found.figure("class", name).limits, 100 * share)
                for name, share in TRUTH.items()
            ]
    low, high = (0.93, 0.975) if method == "wilson" else (0.94, 0.99)
    assert low < np.mean(held) < high


def test_clusters_fool_the_binomial_but_not_the_fields(blood: Profile) -> None:
    """Lymphocytes on every other kind of field: only drawing fields again sees how they lie."""
    rng = np.random.default_rng(6)
    types = [TypeRows(name, name, (name,)) for name in ("lymphocytes", "segmented_neutrophils")]
    wilson, drawn = [], []
    for _ in range(80):
        share = rng.beta(1.5, 3.5, size=40)  # 30 % on average
        lymphocytes = rng.binomial(10, share)
        per_field = np.stack([lymphocytes, 10 - lymphocytes], axis=1)
        counts = {"lymphocytes": int(lymphocytes.sum()), "segmented_neutrophils": 0}
        counts["segmented_neutrophils"] = 400 - counts["lymphocytes"]
        sample = Sample(fields=40, per_field=per_field)
        row = differential(counts, blood, types, sample=sample).figure("class", "lymphocytes")
        wilson.append(holds(row.limits, 30.0))
        drawn.append(holds(row.bootstrap, 30.0))
    assert np.mean(wilson) < 0.9 < np.mean(drawn)


def test_adjusted_figures_hold_the_truth_that_confusions_hide(blood: Profile) -> None:
    rng = np.random.default_rng(7)
    names = ("lymphocytes", "monocytes", "nucleated_red_cells")
    truth, rates = (
        np.array([0.6, 0.15, 0.25]),
        np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0, 0.9]]),
    )
    types = [TypeRows(name, name, (name,)) for name in names]
    plain, adjusted = [], []
    for _ in range(60):
        validated = np.stack([rng.multinomial(150, row) for row in rates])
        given = rng.multinomial(600, truth @ rates)
        rules = Rules(confusion=Confusion(names, validated, "a validation"))
        counts = dict(zip(names, given.tolist(), strict=True))
        row = differential(counts, blood, types, rules=rules).figure("class", "monocytes")
        assert row.adjusted is not None
        plain.append(holds(row.limits, 20.0))  # 15 of the 75 that are no red cells
        adjusted.append(holds(row.adjusted.limits, 20.0))
    assert np.mean(plain) < 0.7
    assert np.mean(adjusted) > 0.88


@pytest.mark.parametrize(("cells", "validated"), [(30, 60), (400, 300)])
def test_adjusted_limits_hold_the_truth_of_rare_types_and_of_few_cells(
    cells: int, validated: int
) -> None:
    """Drawing the observed shares again held the shares of 1 and 2 % in half of such slides."""
    rng = np.random.default_rng(8)
    types = 8
    rates = np.full((types, types), 0.08 / 7)
    np.fill_diagonal(rates, 0.92)
    truth = np.array([0.6, 0.25, 0.08, 0.04, 0.02, 0.01, 0, 0])
    held = []
    for _ in range(40):
        confusion = np.stack([rng.multinomial(validated, row) for row in rates])
        unmixing = Unmixing(rng.multinomial(cells, truth @ rates), confusion, draws=200)
        for i in range(6):
            found = unmixing.share(np.arange(types) == i, np.ones(types, np.bool_))
            assert found is not None
            held.append(found[1].low <= truth[i] <= (found[1].high or 0))
    assert np.mean(held) > 0.92
    assert np.mean(held[5::6]) > 0.85, "1 %"


def test_one_type_alone_or_absent_has_limits_that_hold() -> None:
    """Samples of 30 cells of which most have no cell of a rare type, or no other cell."""
    rng = np.random.default_rng(9)
    confusion = np.diag([5_000] * 5)
    for share in (0.03, 0.97):
        others = np.full(4, (1 - share) / 4)
        held = []
        for given in rng.multinomial(30, [share, *others], size=200):
            unmixing = Unmixing(given, confusion, draws=300)
            found = unmixing.share(np.arange(5) == 0, np.ones(5, np.bool_))
            assert found is not None
            held.append(found[1].low <= share <= (found[1].high or 0))
        assert np.mean(held) > 0.93
