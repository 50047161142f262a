"""Method comparison against brute force, worked examples and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import cohen_kappa_score

from cellcount.comparison.agreement import (
    agreement_at,
    bland_altman,
    deming,
    difference_limits,
    icc_2_1,
    passing_bablok,
    pearson_r,
    rmse,
    rumke_passes,
)

RNG = np.random.default_rng(4)
X = RNG.uniform(5, 70, 41)
Y = 1.08 * X - 1.5 + RNG.normal(0, 2, 41)


def test_bland_altman_by_hand() -> None:
    x, y = np.array([10.0, 20, 30, 40]), np.array([11.0, 19, 33, 43])
    found = bland_altman(x, y)
    assert found is not None
    d = np.array([1.0, -1, 3, 3])
    sd = np.sqrt(((d - 1.5) ** 2).sum() / 3)
    assert found.bias == pytest.approx(1.5)
    assert found.sd == pytest.approx(sd)
    assert found.high == pytest.approx(1.5 + 1.959964 * sd)
    interval = stats.ttest_1samp(d, 0).confidence_interval()
    assert found.bias_limits.low == pytest.approx(interval.low)
    assert found.bias_limits.high == pytest.approx(interval.high)
    assert bland_altman(x[:2], y[:2]) is None


def brute_slope(x: np.ndarray, y: np.ndarray) -> float:
    """The procedure of the paper, step by step."""
    slopes = []
    for a, b in itertools.combinations(range(len(x)), 2):
        dx, dy = x[a] - x[b], y[a] - y[b]
        if dx == 0 and dy == 0:
            continue
        slope = float("inf") if dx == 0 else dy / dx
        if slope != -1:
            slopes.append(slope)
    slopes.sort()
    shift = sum(s < -1 for s in slopes)
    n = len(slopes)
    if n % 2:
        return float(slopes[(n + 1) // 2 + shift - 1])
    return float((slopes[n // 2 + shift - 1] + slopes[n // 2 + shift]) / 2)


def test_passing_bablok_against_brute_force() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 40, 17 + seed % 2).astype(float)
        y = np.round(0.9 * x + 2 + rng.normal(0, 3, len(x)))
        found = passing_bablok(x, y)
        assert found is not None
        assert found.slope == pytest.approx(brute_slope(x, y))
        assert found.intercept == pytest.approx(np.median(y - found.slope * x))


def test_passing_bablok_does_not_know_the_order_of_specimens() -> None:
    """Equal values are the rule among percentages; binary rounding must not tell them apart."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 8, 24) / 2
    y = np.round(x + rng.normal(0, 1, 24), 1)
    found = passing_bablok(x, y)
    assert found is not None
    assert found.slope_limits is not None
    for _ in range(5):
        order = rng.permutation(24)
        assert passing_bablok(x[order], y[order]) == found
    shifted = passing_bablok(x + 0.3, y + 0.3)  # 0.3 is no binary fraction
    assert shifted is not None
    assert shifted.slope == pytest.approx(found.slope)
    assert shifted.slope_limits is not None
    assert shifted.slope_limits.low == pytest.approx(found.slope_limits.low)


def test_giavarina_s_thirty_pairs() -> None:
    """Giavarina 2015, Biochem Med 25:141, table 1, with bias and both lines of agreement."""
    a = [1, 5, 10, 20, 50, 40, 50, 60, 70, 80, 90, 100, 150, 200, 250, 300, 350, 400, 450, 500,
         550, 600, 650, 700, 750, 800, 850, 900, 950, 1000]  # fmt: skip
    b = [8, 16, 30, 24, 39, 54, 40, 68, 72, 62, 122, 80, 181, 259, 275, 380, 320, 434, 479, 587,
         626, 648, 738, 766, 793, 851, 871, 957, 1001, 960]  # fmt: skip
    x, y = np.array(a, float), np.array(b, float)
    line, differences = passing_bablok(x, y), bland_altman(x, y)
    assert line is not None
    assert line.slope_limits is not None
    assert line.intercept_limits is not None
    assert (round(line.slope, 2), round(line.intercept, 2)) == (1.06, 7.08)
    assert line.slope_limits.low == pytest.approx(1.02, abs=5e-3)
    assert line.slope_limits.high == pytest.approx(1.09, abs=5e-3)
    assert line.intercept_limits.low == pytest.approx(-0.30, abs=5e-3)
    assert line.intercept_limits.high == pytest.approx(19.84, abs=5e-3)
    assert differences is not None
    assert differences.bias == pytest.approx(27.17, abs=5e-3)
    assert differences.sd == pytest.approx(34.81, abs=5e-3)


def test_peak_flow_of_bland_and_altman() -> None:
    """Lancet 1986: large and mini meter, 17 subjects; -2.1 (sd 38.8), bias -22.0 to 17.8."""
    large = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    found = bland_altman(np.array(mini, float), np.array(large, float))
    assert found is not None
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias_limits.low == pytest.approx(-22.0, abs=0.1)
    assert found.bias_limits.high == pytest.approx(17.8, abs=0.1)


def test_deming_of_pearson_s_points() -> None:
    """Pearson 1901, Phil Mag 2:559: the best-fitting line has slope -0.5456, intercept 5.784."""
    x = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
    y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
    line = deming(x, y)
    assert line is not None
    assert line.slope == pytest.approx(-0.5456, abs=5e-5)
    assert line.intercept == pytest.approx(5.784, abs=5e-4)


def test_a_line_that_hangs_on_one_specimen_has_no_limits() -> None:
    x, y = np.array([0.0, 0, 0, 0, 4]), np.array([0.0, 1, 0, 1, 5])
    found = deming(x, y)
    assert found is not None
    assert found.slope_limits is None


def test_passing_bablok_is_symmetric_and_ignores_an_outlier() -> None:
    there, back = passing_bablok(X, Y), passing_bablok(Y, X)
    assert there is not None
    assert back is not None
    assert there.slope == pytest.approx(1 / back.slope, rel=1e-5)
    assert there.slope_limits is not None
    assert there.slope_limits.low < 1.08 < (there.slope_limits.high or 0)
    spoiled = Y.copy()
    spoiled[3] = 400
    robust = passing_bablok(X, spoiled)
    assert robust is not None
    assert robust.slope == pytest.approx(there.slope, abs=0.03)


def test_passing_bablok_limits_cover_the_truth() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        true = rng.uniform(5, 60, 30)
        line = passing_bablok(true + rng.normal(0, 2, 30), true + rng.normal(0, 2, 30))
        assert line is not None
        assert line.slope_limits is not None
        assert line.slope_limits.high is not None
        covered += line.slope_limits.low <= 1 <= line.slope_limits.high
    assert 180 <= covered <= 199


def test_deming_minimises_the_weighted_distances() -> None:
    for error_ratio in (1.0, 0.25, 3.0):
        line = deming(X, Y, error_ratio)
        assert line is not None

        def distance(b: np.ndarray, ratio: float = error_ratio) -> float:
            return float((((Y - b[0] - b[1] * X) ** 2) / (1 + ratio * b[1] ** 2)).sum())

        best = optimize.minimize(distance, [0.0, 1.0], method="Nelder-Mead", tol=1e-10).x
        assert line.slope == pytest.approx(best[1], rel=1e-4)
        assert line.intercept == pytest.approx(best[0], abs=2e-3)
        assert line.slope_limits is not None
        assert line.slope_limits.low < line.slope < (line.slope_limits.high or 0)


def test_no_spread_has_no_line() -> None:
    flat = np.full(5, 3.0)
    assert deming(flat, flat) is None
    assert passing_bablok(flat, flat) is None
    assert pearson_r(flat, flat) is None
    assert deming(X[:2], Y[:2]) is None


def test_correlation_and_error() -> None:
    assert pearson_r(X, Y) == pytest.approx(stats.pearsonr(X, Y).statistic)
    assert rmse(np.array([1.0, 2]), np.array([4.0, 6])) == pytest.approx(np.sqrt(12.5))
    assert rmse(np.array([]), np.array([])) is None


def test_icc_of_shrout_and_fleiss() -> None:
    """Their table 2, four judges and six targets: ICC(2,1) is 0.29."""
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    assert icc_2_1(ratings) == pytest.approx(0.29, abs=0.005)
    assert icc_2_1(ratings[:1]) is None


def test_agreement_at_a_threshold() -> None:
    found = agreement_at(X, Y, 20.0)
    assert found.both + found.only_x + found.only_y + found.neither == len(X)
    assert found.kappa == pytest.approx(cohen_kappa_score(X >= 20, Y >= 20))
    assert found.positive is not None
    assert found.positive[0] == pytest.approx(((X >= 20) & (Y >= 20)).sum() / (X >= 20).sum())
    alike = agreement_at(np.full(4, 1.0), np.full(4, 1.0), 20.0)
    assert alike.kappa is None
    assert alike.positive is None
    assert alike.overall is not None
    assert alike.overall[0] == 1


def test_rumke() -> None:
    """20 of 100 by hand: 12.7 to 29.2 % by the exact binomial."""
    assert rumke_passes(20, 100, 13) is True
    assert rumke_passes(20, 100, 29) is True
    assert rumke_passes(20, 100, 12.5) is False
    assert rumke_passes(20, 100, 29.5) is False
    assert rumke_passes(0, 0, 5) is None


def test_newcombe_s_own_example() -> None:
    """56/70 less 48/80, method 10: 0.0524 to 0.3339."""
    found = difference_limits(48, 80, 56, 70)
    assert found is not None
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)
    assert difference_limits(0, 0, 1, 2) is None
