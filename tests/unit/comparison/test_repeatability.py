"""Variance components against a published example, quadratic forms and simulation."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cellcount.comparison.count_tables import read_count_table
from cellcount.comparison.repeatability import components, repeatability
from cellcount.errors import UsageError

# Snedecor and Cochran, Statistical Methods: calcium in turnip greens, four plants, three leaves of
# each, two determinations of each leaf.
TURNIPS = [
    [[3.28, 3.09], [3.52, 3.48], [2.88, 2.80]],
    [[2.46, 2.44], [1.87, 1.92], [2.19, 2.19]],
    [[2.77, 2.66], [3.74, 3.44], [2.55, 2.55]],
    [[3.78, 3.87], [4.07, 4.12], [3.31, 3.31]],
]


def flat(design: list[list[list[float]]]) -> tuple[np.ndarray, list[str], list[str]]:
    rows = [
        (value, str(i), str(j))
        for i, day in enumerate(design)
        for j, run in enumerate(day)
        for value in run
    ]
    values, days, runs = zip(*rows, strict=True)
    return np.array(values), list(days), list(runs)


def test_turnip_greens() -> None:
    """Published components: 0.3652 between plants, 0.1611 leaves, 0.0067 determinations."""
    found = components(*flat(TURNIPS))
    assert found.between_day is not None
    assert found.between_run is not None
    assert found.within_run is not None
    assert found.between_day**2 == pytest.approx(0.3652, abs=5e-4)
    assert found.between_run**2 == pytest.approx(0.1611, abs=5e-4)
    assert found.within_run**2 == pytest.approx(0.0067, abs=5e-5)
    assert found.total is not None
    assert found.total.sd**2 == pytest.approx(0.3652 + 0.1611 + 0.0067, abs=1e-3)
    assert (found.counts, found.runs, found.days) == (24, 12, 4)
    assert found.notes == ()


def test_an_unbalanced_design_against_quadratic_forms() -> None:
    """Each sum of squares is y'Ay, and its expectation the sum of variance x trace(A Z Z')."""
    design = [[[1.0, 2.0, 4.0], [3.0]], [[5.0, 5.5]], [[2.0], [2.5, 3.5], [9.0, 7.0, 8.0, 6.5]]]
    y, days, runs = flat(design)
    keys = list(zip(days, runs, strict=True))
    z_day = np.array([[d == k for k in sorted(set(days))] for d in days], float)
    z_run = np.array([[r == k for k in sorted(set(keys))] for r in keys], float)
    n = len(y)

    def projection(z: np.ndarray) -> np.ndarray:
        return np.asarray(z @ np.linalg.pinv(z))

    spaces = [projection(np.ones((n, 1))), projection(z_day), projection(z_run), np.eye(n)]
    forms = [b - a for a, b in itertools.pairwise(spaces)]
    structures = [z_day @ z_day.T, z_run @ z_run.T, np.eye(n)]
    expected = np.array([[np.trace(a @ v) for v in structures] for a in forms])
    truth = np.linalg.solve(expected, [y @ a @ y for a in forms])
    found = components(y, days, runs)
    parts = [found.between_day, found.between_run, found.within_run]
    assert [p**2 for p in parts if p is not None] == pytest.approx(np.maximum(truth, 0))


def test_limits_cover_the_truth() -> None:
    rng = np.random.default_rng(7)
    days = [str(d) for d in range(10) for _ in range(4)]
    runs = [str(r) for _ in range(10) for r in (1, 1, 2, 2)]
    within, total = 0, 0
    for _ in range(300):
        day, run = rng.normal(0, 2, 10), rng.normal(0, 1, 20)
        y = np.repeat(day, 4) + np.repeat(run, 2) + rng.normal(0, 1.5, 40)
        found = components(y, days, runs)
        assert found.within_limits is not None
        assert found.within_limits.high is not None
        assert found.total is not None
        assert found.total.limits is not None
        assert found.total.limits.high is not None
        within += found.within_limits.low <= 1.5 <= found.within_limits.high
        truth = np.sqrt(4 + 1 + 2.25)
        total += found.total.limits.low <= truth <= found.total.limits.high
    assert 275 <= within <= 296
    assert 268 <= total <= 297


def test_one_factor_is_a_plain_analysis_of_variance() -> None:
    y = np.array([5.0, 6, 7, 9, 8, 10, 4, 4, 5])
    runs = ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    found = components(y, None, runs)
    groups = [y[:3], y[3:6], y[6:]]
    within = float(np.mean([g.var(ddof=1) for g in groups]))
    between = float(stats.tvar([g.mean() for g in groups])) - within / 3
    assert found.within_run == pytest.approx(np.sqrt(within))
    assert found.between_run == pytest.approx(np.sqrt(between))
    assert found.between_day is None
    assert any("no column day" in note for note in found.notes)


def test_a_design_that_cannot_tell_says_so() -> None:
    found = components(np.array([3.0, 5, 4, 8]), None, ["1", "2", "3", "4"])
    assert found.between_run is None
    assert found.within_run == pytest.approx(np.std([3, 5, 4, 8], ddof=1))
    assert any("one count per run" in note for note in found.notes)
    single = components(np.array([3.0, 5, 4, 8]), ["1", "1", "2", "2"], ["1", "1", "1", "1"])
    assert any("one run per day" in note for note in single.notes)


def test_equal_counts_have_no_spread() -> None:
    found = components(np.full(8, 12.5), list("11112222"), list("11221122"))
    assert found.within_run == 0
    assert found.total is not None
    assert found.total.sd == 0


def test_a_table_of_replicates(tmp_path: Path) -> None:
    """Specimens apart; counting alone is the binomial's standard deviation."""
    path = tmp_path / "r.csv"
    lines = ["specimen,day,run,NEU,LYM"]
    counts = {"A": [60, 62, 58, 60, 66, 64], "B": [20, 20, 22, 18, 25, 15]}
    for specimen, values in counts.items():
        for i, value in enumerate(values):
            lines.append(f"{specimen},{i // 2},1,{value},{100 - value}")
    path.write_text("\n".join(lines) + "\n")
    found = {(one.unit, one.id): one for one in repeatability(read_count_table(path))}
    assert list(found) == [("A", "NEU"), ("A", "LYM"), ("B", "NEU"), ("B", "LYM")]
    assert found["A", "NEU"].counting_sd == pytest.approx(
        100 * stats.binom(100, 370 / 600).std() / 100
    )
    assert found["A", "NEU"].components.within_run == pytest.approx(np.sqrt((2 + 2 + 2) / 3))
    alone = tmp_path / "alone.csv"
    alone.write_text("specimen,day,NEU,LYM\nA,1,3,4\nB,1,3,4\n")
    with pytest.raises(UsageError, match="no specimen was counted more than once"):
        repeatability(read_count_table(alone))
