"""Statistics of two methods that count the same specimens: agreement, bias and regression lines.

Shapes: N specimens; x from the reference method, y from the one under test, float (N,).

Bland and Altman 1999, Stat Methods Med Res 8:135. Passing and Bablok 1983, J Clin Chem Clin Biochem
21:709. Deming: Linnet 1993, Clin Chem 39:424. Intraclass correlation: Shrout and Fleiss 1979,
Psychol Bull 86:420. Rümke 1985: limits of a differential's percentages from the binomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellcount.differential.limits import Limits, share_limits

Values = NDArray[np.float64]
_BOTH = 0.975  # upper quantile of two-sided 95 %


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line y = intercept + slope x with 95 % limits, None where they are undefined."""

    slope: float
    intercept: float
    slope_limits: Limits | None
    intercept_limits: Limits | None


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Differences y - x.

    Attributes:
        bias: their mean.
        bias_limits: 95 % limits of the mean (t).
        sd: standard deviation of the differences.
        low, high: limits of agreement, bias ± 1.96 sd.
        low_limits, high_limits: 95 % limits of these.
    """

    bias: float
    bias_limits: Limits
    sd: float
    low: float
    high: float
    low_limits: Limits
    high_limits: Limits


def bland_altman(x: Values, y: Values) -> BlandAltman | None:
    """Bias and limits of agreement; None of fewer than three specimens."""
    n = len(x)
    if n < 3:
        return None
    difference = y - x
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t, z = float(stats.t.ppf(_BOTH, n - 1)), float(stats.norm.ppf(_BOTH))
    of_bias = t * sd / np.sqrt(n)
    of_limit = t * sd * np.sqrt(1 / n + z * z / (2 * (n - 1)))

    def around(value: float, half: float) -> Limits:
        return Limits(float(value - half), float(value + half))

    low, high = bias - z * sd, bias + z * sd
    return BlandAltman(
        bias,
        around(bias, of_bias),
        sd,
        low,
        high,
        around(low, of_limit),
        around(high, of_limit),
    )


def passing_bablok(x: Values, y: Values) -> Line | None:
    """Fit a line that is robust to outliers and symmetric in x and y (Passing and Bablok).

    Slopes of all pairs of points; those of exactly -1 and of equal points are left out, and the
    median is shifted by the number of slopes below -1. Points of equal x have an infinite slope,
    taken as positive whatever their order, as mcr does: it mirrors the slope 0 of equal y.

    Returns:
        None of fewer than three specimens, or where ties or a falling relation leave no slope;
        without limits where there are too few slopes for 95 %.
    """
    n = len(x)
    if n < 3:
        return None
    slopes = _slopes(x, y)
    count, shift = len(slopes), int((slopes < -1).sum())

    def at(rank: int) -> float:
        """Slope number ``rank``, counted from 1 before the shift; none outside the list."""
        inside = rank >= 1 and rank + shift <= count
        return float(slopes[rank + shift - 1]) if inside else float("nan")

    slope = (at((count + 1) // 2) + at(count // 2 + 1)) / 2
    if not np.isfinite(slope):
        return None
    spread = float(stats.norm.ppf(_BOTH)) * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first = round((count - spread) / 2)
    low, high = at(first), at(count - first + 1)
    intercept = float(np.median(y - slope * x))
    if not np.isfinite([low, high]).all():
        return Line(slope, intercept, None, None)
    intercepts = Limits(float(np.median(y - high * x)), float(np.median(y - low * x)))
    return Line(slope, intercept, Limits(low, high), intercepts)


def _slopes(x: Values, y: Values) -> Values:
    """Sorted slopes of the pairs of points, infinite ones included."""
    i, j = np.triu_indices(len(x), 1)
    # Percentages are rarely exact in binary: what differs by rounding alone is equal.
    tiny = 1e-9 * max(float(np.abs(x).max()), float(np.abs(y).max()))
    dx, dy = x[j] - x[i], y[j] - y[i]
    upright, level = np.abs(dx) <= tiny, np.abs(dy) <= tiny
    slopes = np.divide(dy, dx, out=np.full(len(dx), np.inf), where=~upright)
    slopes[level & ~upright] = 0
    return np.sort(slopes[~(upright & level) & (np.abs(dx + dy) > tiny)])


def deming(x: Values, y: Values, error_ratio: float = 1.0) -> Line | None:
    """Fit a line that allows for errors in both methods (Deming), with jackknife limits.

    Args:
        x, y: the methods.
        error_ratio: λ, variance of the errors of x over that of y; 1 is orthogonal regression.

    Returns:
        None with fewer than three specimens or no spread; without limits where the line hangs on
        a single specimen.
    """
    n = len(x)
    whole = _deming(x, y, error_ratio) if n >= 3 else None
    if whole is None:
        return None
    kept = ~np.eye(n, dtype=bool)
    parts = [_deming(x[keep], y[keep], error_ratio) for keep in kept]
    if any(part is None for part in parts):
        return Line(*whole, None, None)
    pseudo = n * np.array(whole) - (n - 1) * np.array(parts, float)  # (N, 2)
    half = stats.t.ppf(_BOTH, n - 2) * pseudo.std(axis=0, ddof=1) / np.sqrt(n)
    slope, intercept = whole
    return Line(
        slope,
        intercept,
        Limits(float(slope - half[0]), float(slope + half[0])),
        Limits(float(intercept - half[1]), float(intercept + half[1])),
    )


def _deming(x: Values, y: Values, error_ratio: float) -> tuple[float, float] | None:
    u, q = float(((x - x.mean()) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    p = float(((x - x.mean()) * (y - y.mean())).sum())
    if abs(p) <= 1e-12 * np.sqrt(u * q):
        return None
    gap = error_ratio * q - u
    slope = (gap + np.sqrt(gap * gap + 4 * error_ratio * p * p)) / (2 * error_ratio * p)
    return float(slope), float(y.mean() - slope * x.mean())


def pearson_r(x: Values, y: Values) -> float | None:
    """Pearson's correlation; None without spread."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def rmse(x: Values, y: Values) -> float | None:
    """Root of the mean squared difference."""
    return float(np.sqrt(((y - x) ** 2).mean())) if len(x) else None


def icc_2_1(ratings: Values) -> float | None:
    """ICC(2,1): absolute agreement of single ratings, raters drawn at random.

    Args:
        ratings: (N, raters).
    """
    n, k = ratings.shape
    if n < 2 or k < 2 or np.ptp(ratings) == 0:
        return None
    grand = ratings.mean()
    rows = k * ((ratings.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((ratings.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    total = ((ratings - grand) ** 2).sum()
    error = (total - rows * (n - 1) - columns * (k - 1)) / ((n - 1) * (k - 1))
    denominator = rows + (k - 1) * error + k * (columns - error) / n
    return float((rows - error) / denominator) if denominator else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Both methods on one side of a threshold or not: counts, shares with limits, Cohen's kappa.

    Attributes:
        both, only_x, only_y, neither: specimens at or above the threshold.
        overall, positive, negative: shares of agreement: of all, of those positive by x, of those
            negative by x; None of none.
        kappa: Cohen's; None where both methods put all specimens on one side.
    """

    both: int
    only_x: int
    only_y: int
    neither: int
    overall: tuple[float, Limits] | None
    positive: tuple[float, Limits] | None
    negative: tuple[float, Limits] | None
    kappa: float | None


def agreement_at(x: Values, y: Values, threshold: float) -> Agreement:
    """Agreement on which specimens are at or above the threshold."""
    above_x, above_y = x >= threshold, y >= threshold
    both, neither = int((above_x & above_y).sum()), int((~above_x & ~above_y).sum())
    only_x, only_y = int((above_x & ~above_y).sum()), int((~above_x & above_y).sum())
    n = len(x)
    chance = 0.0
    if n:
        chance = (
            (both + only_x) * (both + only_y) + (neither + only_y) * (neither + only_x)
        ) / n**2
    kappa = ((both + neither) / n - chance) / (1 - chance) if n and chance < 1 else None
    return Agreement(
        both,
        only_x,
        only_y,
        neither,
        _share(both + neither, n),
        _share(both, both + only_x),
        _share(neither, neither + only_y),
        kappa,
    )


def _share(count: int, total: int) -> tuple[float, Limits] | None:
    limits = share_limits(count, total)
    return None if limits is None else (count / total, limits)


def rumke_passes(count: int, total: int, percent: float) -> bool | None:
    """Return whether a percentage is within a manual count's 95 % binomial limits; None of none."""
    limits = share_limits(count, total, method="clopper-pearson")
    if limits is None or limits.high is None:
        return None
    return limits.low <= percent / 100 <= limits.high


def difference_limits(count_x: int, total_x: int, count_y: int, total_y: int) -> Limits | None:
    """95 % limits of share y minus share x from both samples' sizes.

    Newcombe 1998, Stat Med 17:873, method 10: square and add the distances to Wilson's limits.
    """
    x, y = share_limits(count_x, total_x), share_limits(count_y, total_y)
    if x is None or y is None or x.high is None or y.high is None:
        return None
    p, q = count_x / total_x, count_y / total_y
    below = np.hypot(q - y.low, x.high - p)
    above = np.hypot(y.high - q, p - x.low)
    return Limits(float(q - p - below), float(q - p + above))
