"""What a count says and what it leaves open: shares with limits, ratios, thresholds, corrections.

Everything takes whole numbers of cells and works on none of them: what is undefined is None, never
0 / 0. Sources stand with each formula; ``docs`` and the report name them too.

Shapes: F fields, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Method = Literal["wilson", "clopper-pearson"]

#: Fewer fields do not show how cells cluster.
FEWEST_FIELDS = 10
#: Beyond this many cells a share near a threshold is not worth counting on for.
MOST_CELLS = 5000
_DRAWN_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """A confidence interval; None where it has no bound."""

    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two counts, with limits; None where the denominator is empty."""

    value: float | None
    limits: Limits | None


def share_limits(
    count: int, total: int, *, method: Method = "wilson", confidence: float = 0.95
) -> Limits | None:
    """Limits of the share ``count / total``, from 0 to 1; None of no cells.

    Wilson 1927, J Am Stat Assoc 22:209; Clopper and Pearson 1934, Biometrika 26:404.

    Raises:
        ValueError: not 0 <= count <= total.
    """
    if not 0 <= count <= total:
        raise ValueError(f"count is {count} of {total}, expected 0 to {total}")
    if total == 0:
        return None
    named: Literal["wilson", "exact"] = "wilson" if method == "wilson" else "exact"
    interval = stats.binomtest(count, total).proportion_ci(confidence, named)
    return Limits(float(interval.low), float(interval.high))


def ratio(above: int, below: int, *, confidence: float = 0.95) -> Ratio:
    """``above : below``, like myeloid to erythroid.

    Limits by the odds transform of Wilson's limits on above / (above + below). Without any cell
    below, the ratio and its upper limit are undefined, and the lower limit is finite.
    """
    limits = share_limits(above, above + below, confidence=confidence)
    if limits is None or limits.high is None:
        return Ratio(None, None)
    low = limits.low / (1 - limits.low)
    if below == 0:
        return Ratio(None, Limits(low, None))
    return Ratio(above / below, Limits(low, limits.high / (1 - limits.high)))


def mean_limits(count: int, fields: int, *, confidence: float = 0.95) -> Limits | None:
    """Limits of the mean per field of things that fall at random; None of no field.

    Exact limits of a Poisson count: Garwood 1936, Biometrika 28:437.

    Raises:
        ValueError: a number below 0.
    """
    if count < 0 or fields < 0:
        raise ValueError(f"count is {count} on {fields} fields, expected no number below 0")
    if fields == 0:
        return None
    tail = (1 - confidence) / 2
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(1 - tail, 2 * count + 2) / 2
    return Limits(float(low / fields), float(high / fields))


def straddles(limits: Limits | None, threshold: float) -> bool:
    """Whether the limits leave open on which side of the threshold the share lies."""
    if limits is None:
        return True
    return limits.low < threshold and (limits.high is None or threshold <= limits.high)


def cells_to_settle(
    count: int,
    total: int,
    threshold: float,
    *,
    most: int = MOST_CELLS,
    method: Method = "wilson",
    confidence: float = 0.95,
) -> int | None:
    """Cells in all after which the limits would no longer straddle the threshold.

    The share seen so far is taken to stay. None where even ``most`` cells would not settle it;
    ``total`` where it is settled already.
    """
    if total == 0:
        return None
    if not straddles(share_limits(count, total, method=method, confidence=confidence), threshold):
        return total

    def still_open(cells: int) -> bool:
        return straddles(_limits_of_share(count / total, cells, method, confidence), threshold)

    low, high = total, most
    if high < low or still_open(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if still_open(middle):
            low = middle
        else:
            high = middle
    return high


def _limits_of_share(share: float, total: int, method: Method, confidence: float) -> Limits:
    """Limits of a share of ``total`` cells that need not be a whole number of them."""
    if method == "clopper-pearson":
        tail, count = (1 - confidence) / 2, share * total
        low = stats.beta.ppf(tail, count, total - count + 1) if count > 0 else 0.0
        high = stats.beta.ppf(1 - tail, count + 1, total - count) if count < total else 1.0
        return Limits(float(low), float(high))
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return Limits(float(middle - half), float(middle + half))


def corrected_wbc(wbc_10e9_per_l: float, nrbc_per_100: float) -> float:
    """White cell count without the nucleated red cells that an analyzer counts as white.

    WBC × 100 / (100 + NRBC per 100 WBC).
    """
    return wbc_10e9_per_l * 100 / (100 + nrbc_per_100)


def field_bootstrap(
    counts: NDArray[np.int64],
    in_denominator: NDArray[np.bool_],
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Limits] | None:
    """Limits of each class's share when fields are drawn again, which shows how cells cluster.

    Args:
        counts: cells per field and class, (F, K).
        in_denominator: which classes the shares are of, (K,).
        draws: bootstrap samples.
        confidence: of the percentile interval.
        seed: of the draws.

    Returns:
        K limits, or None with fewer than ``FEWEST_FIELDS`` fields or no cell in the denominator.
    """
    fields = len(counts)
    if fields < FEWEST_FIELDS or not counts[:, in_denominator].sum():
        return None
    rng = np.random.default_rng(seed)
    alike = np.full(fields, 1 / fields)
    # In parts, because a slide may have very many fields; the numbers drawn are the same.
    parts = [min(_DRAWN_AT_ONCE, draws - at) for at in range(0, draws, _DRAWN_AT_ONCE)]
    drawn = np.concatenate([rng.multinomial(fields, alike, size=n) @ counts for n in parts])
    totals = drawn[:, in_denominator].sum(axis=1)
    shares = drawn[totals > 0] / totals[totals > 0, None]
    return percentile_limits(shares, confidence)


def adjusted_shares(
    counts: NDArray[np.int64],
    confusion: NDArray[np.int64],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[NDArray[np.float64], list[Limits]]:
    """Shares corrected for the classifier's confusions, with limits that know both samples.

    Arguments are those of `adjusted_draws`.

    Returns:
        Shares (K,) that add up to 1, and their limits, percentiles of the draws.

    Raises:
        ValueError: no cells, or a class was never validated.
    """
    shares, sampled = adjusted_draws(counts, confusion, draws=draws, seed=seed)
    return shares, percentile_limits(sampled, confidence)


def adjusted_draws(
    counts: NDArray[np.int64],
    confusion: NDArray[np.int64],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares corrected for the classifier's confusions, and the same from samples drawn again.

    The shares are those that best explain the counts through the confusion matrix (expectation
    maximisation of the multinomial mixture; Forman 2008, Data Min Knowl Disc 17:164, compares
    such methods). Counts and the rows of the confusion matrix are drawn again, so that the spread
    of the draws is that of both samples.

    Args:
        counts: cells given each class, (K,).
        confusion: cells of a validation set, rows true, columns given, (K, K); each row has some.
        draws: bootstrap samples, D.
        seed: of the draws.

    Returns:
        Shares (K,) and (D, K), each with a sum of 1.

    Raises:
        ValueError: no cells, or a class was never validated.
    """
    validated = confusion.sum(axis=1)
    if not counts.sum() or (validated == 0).any():
        raise ValueError("expected some counted cells and some validated cells of each class")
    rng = np.random.default_rng(seed)
    again = rng.multinomial(counts.sum(), counts / counts.sum(), size=draws)  # (D, K)
    rows = [
        rng.multinomial(n, row / n, size=draws) / n
        for n, row in zip(validated, confusion, strict=True)
    ]
    sampled = _mixtures(again, np.stack(rows, axis=1))
    return _mixtures(counts[None], (confusion / validated[:, None])[None])[0], sampled


def percentile_limits(sampled: NDArray[np.float64], confidence: float = 0.95) -> list[Limits]:
    """Limits of each of K numbers from draws of them, (D, K)."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(sampled, [tail, 100 - tail], axis=0)
    return [Limits(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _mixtures(counts: NDArray[np.int64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Most likely shares of the true classes (D, K), for each draw of its own.

    Args:
        counts: cells given each class, (D, K).
        rates: P(given | true), rows true, (D, K, K).
    """
    shares = np.full(counts.shape, 1 / counts.shape[1])
    observed = counts / counts.sum(axis=1, keepdims=True)
    for _ in range(500):
        seen = np.matmul(shares[:, None], rates)[:, 0]  # (D, K)
        surplus = np.divide(observed, seen, out=np.zeros_like(seen), where=seen > 0)
        updated = shares * np.matmul(rates, surplus[..., None])[..., 0]
        updated /= updated.sum(axis=1, keepdims=True)
        if np.abs(updated - shares).max() < 1e-9:
            return np.asarray(updated)
        shares = updated
    return np.asarray(shares)
