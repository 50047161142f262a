"""Statistics of counts: shares with limits, ratios, thresholds, corrections.

Everything takes whole numbers of cells and works on none of them: what is undefined is None, never
0 / 0. Sources stand with each formula; ``docs`` and the report name them too.

Shapes: F fields, K classes or types, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Method = Literal["wilson", "clopper-pearson"]

#: Fewer fields do not show how cells cluster.
FEWEST_FIELDS = 10
#: Beyond this many cells a share near a threshold is not worth counting on for.
MOST_CELLS = 5000
_DRAWN_AT_ONCE = 100
#: Steps that move no share by more end the search for a mixture; draws need be less exact.
_STILL, _NEARLY_STILL = 1e-9, 1e-6
_MOST_STEPS = 500


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
    if method == "wilson":
        return _wilson(count / total, total, confidence)
    from scipy import stats  # takes a second to import, which no run by default needs

    interval = stats.binomtest(count, total).proportion_ci(confidence, "exact")
    return Limits(float(interval.low), float(interval.high))


def _wilson(share: float, total: int, confidence: float) -> Limits:
    """Wilson's limits of a share, by Newcombe 1998, Stat Med 17:857, as scipy computes them."""
    z = float(special.ndtri(0.5 + 0.5 * confidence))
    over = 2 * (total + z**2)
    middle = (2 * total * share + z**2) / over
    half = z / over * sqrt(4 * total * share * (1 - share) + z**2)
    return Limits(
        0.0 if share == 0 else middle - half,
        1.0 if share == 1 else middle + half,
    )


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
    low = special.gammaincinv(count, tail) if count else 0.0
    high = special.gammaincinv(count + 1, 1 - tail)
    return Limits(float(low / fields), float(high / fields))


def straddles(limits: Limits | None, threshold: float) -> bool:
    """Return whether the limits leave open on which side of the threshold the share lies."""
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
        from scipy import stats

        tail, count = (1 - confidence) / 2, share * total
        low = stats.beta.ppf(tail, count, total - count + 1) if count > 0 else 0.0
        high = stats.beta.ppf(1 - tail, count + 1, total - count) if count < total else 1.0
        return Limits(float(low), float(high))
    return _wilson(share, total, confidence)


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


class Unmixing:
    """Shares corrected for the classifier's confusions, with limits that know both samples.

    The shares are those that best explain the counts through the confusion matrix (expectation
    maximisation of the multinomial mixture; Forman 2008, Data Min Knowl Disc 17:164, compares
    such methods). Counts and the rows of the matrix are drawn from their posteriors, so that the
    spread of the draws is that of both samples, and no share is certain because a sample had none
    of it, or nothing else.

    The priors are Jeffreys' (1946, Proc R Soc A 186:453): half a cell for every entry of the
    matrix, and for either side of the share that is asked, however many types there are (Berger
    and Bernardo 1992, Biometrika 79:25). A side without any cell has a whole one, for Jeffreys'
    limits are too narrow there (Brown, Cai and DasGupta 2001, Stat Sci 16:101, section 4.1.1).

    Args:
        counts: cells that the classifier gave each type, (K,).
        confusion: cells of a validation set, rows true, columns given, (K, K); each row has some.
        draws: D.
        confidence: of the limits.
        seed: of the draws.

    Raises:
        ValueError: a type was never validated.
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        confusion: NDArray[np.int64],
        *,
        draws: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        validated = confusion.sum(axis=1)
        if (validated == 0).any():
            raise ValueError("expected some validated cells of each type")
        self.counts, self.draws, self.confidence, self.seed = counts, draws, confidence, seed
        rng = np.random.default_rng(seed)
        self._rates = _simplex(rng.standard_gamma(confusion + 0.5, (draws, *confusion.shape)))
        self._shares = np.zeros(len(counts))
        if counts.sum():
            rates = (confusion / validated[:, None])[None]
            self._shares = _mixtures(_simplex(counts[None]), rates, _STILL)[0]

    def share(
        self,
        part: NDArray[np.bool_],
        whole: NDArray[np.bool_],
        known: tuple[int, int, int] = (0, 0, 0),
    ) -> tuple[float, Limits] | None:
        """The share of some types, from 0 to 1, and its limits; None of no cells.

        Args:
            part: the types, (K,).
            whole: what they are a share of, themselves among it, (K,).
            known: cells besides, whose type is certain: in the part, in the rest of the whole,
                outside it. They are cells of the same sample, so they are drawn as well.
        """
        sides = [part, whole & ~part, ~whole]
        value = _part_of_whole(self.counts.sum() * self._shares[None], sides, np.array([known]))
        if np.isnan(value[0]):
            return None
        shape = [*(self.counts + _prior(sides, self.counts, known)), *known]
        again = np.random.default_rng(self.seed + 1).standard_gamma(shape, (self.draws, len(shape)))
        given, certain = again[:, : len(part)], again[:, len(part) :]
        shares = _mixtures(_simplex(given), self._rates, _NEARLY_STILL)
        sampled = _part_of_whole(shares * given.sum(axis=1, keepdims=True), sides, certain)
        (limits,) = percentile_limits(sampled[~np.isnan(sampled), None], self.confidence)
        found, high = float(value[0]), 1.0 if limits.high is None else limits.high
        return found, Limits(min(limits.low, found), max(high, found))


def _prior(
    sides: Sequence[NDArray[np.bool_]],
    counts: NDArray[np.int64],
    known: Sequence[int],
) -> NDArray[np.float64]:
    """Cells added to each type, (K,): half a one to every side, one to a side that has none."""
    added = np.zeros(len(counts))
    for side, certain in zip(sides, known, strict=True):
        if side.any():
            added[side] = (0.5 if counts[side].sum() + certain else 1.0) / side.sum()
    return added


def _simplex(numbers: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(numbers / numbers.sum(axis=-1, keepdims=True))


def _part_of_whole(
    cells: NDArray[np.float64], sides: Sequence[NDArray[np.bool_]], known: NDArray[Any]
) -> NDArray[np.float64]:
    """First side's share of the first two, (D,), NaN of nothing; cells (D, K), known (D, 3)."""
    part, rest = (cells[:, side].sum(axis=1) + known[:, i] for i, side in enumerate(sides[:2]))
    whole = part + rest
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def percentile_limits(sampled: NDArray[np.float64], confidence: float = 0.95) -> list[Limits]:
    """Limits of each of K numbers from draws of them, (D, K)."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(sampled, [tail, 100 - tail], axis=0)
    return [Limits(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _mixtures(
    observed: NDArray[np.float64], rates: NDArray[np.float64], still: float
) -> NDArray[np.float64]:
    """Most likely shares of the true types (D, K), for each draw of its own.

    Args:
        observed: shares given each type, (D, K).
        rates: P(given | true), rows true, (D, K, K).
        still: a draw is done when a step moves none of its shares by more.
    """
    shares = np.full(observed.shape, 1 / observed.shape[1])
    going = np.arange(len(observed))  # draws that still move
    for _ in range(_MOST_STEPS):
        before = shares[going]
        seen = np.matmul(before[:, None], rates)[:, 0]
        surplus = np.divide(observed, seen, out=np.zeros_like(seen), where=seen > 0)
        after = _simplex(before * np.matmul(rates, surplus[..., None])[..., 0])
        shares[going] = after
        moving = np.abs(after - before).max(axis=1) > still
        if not moving.any():
            break
        if moving.mean() < 0.8:  # copying the rest costs more than it saves
            going, observed, rates = going[moving], observed[moving], rates[moving]
    return shares
