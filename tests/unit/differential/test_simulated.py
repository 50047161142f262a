"""Counts with known truth, many times over: 95 % limits hold it about 95 times of 100."""

from __future__ import annotations

import numpy as np
import pytest

from cellcount.counting import Limits, Method
from cellcount.differential.compute import differential
from cellcount.differential.figures import Confusion, Rules, Sample, TypeRows
from cellcount.profiles.profile import Profile

Types = tuple[TypeRows, ...]
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
