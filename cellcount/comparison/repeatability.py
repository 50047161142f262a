"""Repeatability of counts of one specimen: variance within run, between runs and between days.

Shapes: N counts of one specimen; y float (N,).

Nested analysis of variance for designs of any size (Searle, Casella and McCulloch 1992, Variance
Components, section 3): day, run within day, count within run. A negative estimate is 0, as CLSI
EP05 does it. Limits: chi-squared for the variance within run, Satterthwaite 1946, Biometrics Bull
2:110, for the total.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellcount.comparison.agreement import Values
from cellcount.comparison.count_tables import CountRow, CountTable, Level, Share
from cellcount.differential.limits import Limits
from cellcount.errors import UsageError

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spread:
    """A standard deviation with 95 % limits, in the units of y; limits None with no freedom."""

    sd: float
    limits: Limits | None
    freedom: float


@dataclass(frozen=True, slots=True)
class Components:
    """Components of the variance of N repeated counts; None where the design cannot tell.

    Attributes:
        counts, runs, days: how many.
        mean: of y.
        between_day, between_run, within_run: standard deviations of the parts.
        total: of one count on any day, with limits; the root of the sum of the parts' squares.
        within_limits: 95 % limits of ``within_run``.
        notes: which parts the design cannot tell apart.
    """

    counts: int
    runs: int
    days: int
    mean: float
    between_day: float | None
    between_run: float | None
    within_run: float | None
    total: Spread | None
    within_limits: Limits | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeatability:
    """One class of one specimen, counted again and again.

    Attributes:
        unit: the specimen or slide.
        id, name: the class, also in words.
        components: of its percentages.
        counting_sd: what counting so many cells explains by itself, from the binomial; None
            where their number is not known.
    """

    unit: str
    id: str
    name: str
    components: Components
    counting_sd: float | None


def repeatability(table: CountTable) -> list[Repeatability]:
    """Variance components of every class of every specimen that was counted more than once.

    Raises:
        UsageError: the table has neither ``run`` nor ``day``, or nothing was counted twice.
    """
    if not any(row.run or row.day for row in table.rows):
        raise UsageError(
            f"{table.path} has no column run or day; expected a row per repeated count (and "
            "class), with the run and day it was made in"
        )
    level: Level = "specimen" if any(row.specimen for row in table.rows) else "slide"
    found = []
    for unit, rows in table.rows_of(level).items():
        for id_, name in table.classes.items():
            counted = [row for row in rows if id_ in row.shares]
            if len(counted) > 1:
                found.append(_repeated(unit.slide or unit.specimen, id_, name, counted))
    if not found:
        raise UsageError(
            f"{table.path}: no {level} was counted more than once; repeated counts have the same "
            f"{level}, and rows of their own"
        )
    return found


def _repeated(unit: str, id_: str, name: str, rows: Sequence[CountRow]) -> Repeatability:
    shares = [row.shares[id_] for row in rows]
    y = np.array([share.percent for share in shares])
    days = [row.day for row in rows] if any(row.day for row in rows) else None
    runs = [row.run for row in rows] if any(row.run for row in rows) else None
    return Repeatability(unit, id_, name, components(y, days, runs), _counting_sd(shares))


def _counting_sd(shares: Sequence[Share]) -> float | None:
    """Root of the mean binomial variance, in percentage points, at the pooled share."""
    if any(share.count is None or not share.total for share in shares):
        return None
    totals = np.array([share.total for share in shares], float)
    pooled = sum(share.count or 0 for share in shares) / totals.sum()
    return float(100 * np.sqrt((pooled * (1 - pooled) / totals).mean()))


def components(
    y: Values, days: Sequence[str] | None = None, runs: Sequence[str] | None = None
) -> Components:
    """Variance components of repeated counts of one specimen.

    Args:
        y: the counts.
        days, runs: when each was made; None where it was not noted. Runs are numbered within
            their day: run 1 of another day is another run.
    """
    n = len(y)
    day = _coded(days or [""] * n)
    run = _coded(list(zip(day.tolist(), runs or [""] * n, strict=True)))
    factors, notes = [], []
    if days is not None and day.max() > 0:
        factors.append(("day", day))
    if runs is not None and run.max() > day.max():
        factors.append(("run", run))
    elif runs is not None and factors:
        notes.append("one run per day: what varies between runs is between days here")
    if factors and factors[-1][1].max() + 1 == n:  # one count each: nothing is left within them
        name, _ = factors.pop()
        notes.append(f"one count per {name}: what varies between {name}s is within run here")
    for name, given in (("day", days), ("run", runs)):
        if given is None:
            notes.append(f"no column {name}: what varies between {name}s is in the other parts")
    squares, freedom = _mean_squares(y, [codes for _, codes in factors])
    parts, weights = _solved(squares, [codes for _, codes in factors], n)
    named = dict(zip([name for name, _ in factors], parts[:-1], strict=True))
    within = parts[-1] if freedom[-1] > 0 else None
    return Components(
        counts=n,
        runs=int(run.max()) + 1,
        days=int(day.max()) + 1,
        mean=float(y.mean()),
        between_day=_root(named.get("day")),
        between_run=_root(named.get("run")),
        within_run=_root(within),
        total=None if within is None else _total(parts, weights * squares, freedom),
        within_limits=None if within is None else _sd_limits(within, freedom[-1]),
        notes=tuple(notes),
    )


def _coded(labels: Sequence[object]) -> Codes:
    """Labels as numbers from 0, in the order of their first appearance."""
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], np.int64)


def _mean_squares(y: Values, factors: Sequence[Codes]) -> tuple[Values, Values]:
    """Mean squares and degrees of freedom, from the outermost factor to the counts within."""
    means = [np.full(len(y), y.mean())]
    levels = [1]
    for codes in factors:
        means.append((np.bincount(codes, y) / np.bincount(codes))[codes])
        levels.append(int(codes.max()) + 1)
    means.append(y)
    levels.append(len(y))
    sums = np.array([((b - a) ** 2).sum() for a, b in itertools.pairwise(means)])
    freedom = np.diff(levels).astype(float)
    return np.divide(sums, freedom, out=np.zeros_like(sums), where=freedom > 0), freedom


def _solved(squares: Values, factors: Sequence[Codes], n: int) -> tuple[Values, Values]:
    """Variances of the parts, outermost first, 0 for negative ones; weights of the total.

    Expected mean squares are a triangular system in the variances: the entry of factor f in the
    mean square of factor g, at or above it, is (Σ n_f² / n_of(f within g) - Σ n_f² / n_of(f
    within the factor above g)) / degrees of freedom of g.
    """
    nested = [np.zeros(n, np.int64), *factors, np.arange(n)]
    size = len(nested) - 1
    freedom = [nested[g + 1].max() - nested[g].max() for g in range(size)]
    expected = np.zeros((size, size))
    for g in range(size):
        for f in range(g, size):
            inner = _spread_of(nested[f + 1], nested[g + 1]) - _spread_of(nested[f + 1], nested[g])
            expected[g, f] = inner / freedom[g] if freedom[g] else float(f == g)
    inverse = np.linalg.inv(expected)
    return np.maximum(inverse @ squares, 0.0), inverse.sum(axis=0)


def _spread_of(inner: Codes, outer: Codes) -> float:
    """Σ of n_inner² / n_outer over the levels of ``inner``, each within its level of ``outer``."""
    sizes = np.bincount(inner)
    holder = np.zeros(len(sizes), np.int64)
    holder[inner] = outer
    return float((sizes**2 / np.bincount(outer)[holder]).sum())


def _total(parts: Values, terms: Values, freedom: Values) -> Spread:
    """Standard deviation of one count, with Satterthwaite's degrees of freedom."""
    variance = float(parts.sum())
    below = float((terms**2 / freedom).sum())
    degrees = variance**2 / below if below > 0 else float(freedom[-1])
    return Spread(float(np.sqrt(variance)), _sd_limits(variance, degrees), degrees)


def _sd_limits(variance: float, freedom: float) -> Limits | None:
    if freedom <= 0:
        return None
    low, high = stats.chi2.ppf([0.975, 0.025], freedom)
    return Limits(
        float(np.sqrt(variance * freedom / low)), float(np.sqrt(variance * freedom / high))
    )


def _root(variance: float | None) -> float | None:
    return None if variance is None else float(np.sqrt(variance))
