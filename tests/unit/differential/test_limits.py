"""Statistics of counts against the numbers that the field prints, and against other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cellcount.differential.limits import (
    Limits,
    Unmixing,
    cells_to_settle,
    corrected_wbc,
    field_bootstrap,
    mean_limits,
    ratio,
    share_limits,
    straddles,
)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(20, 100, 13.3, 28.9), (100, 500, 16.7, 23.7), (200, 1000, 17.6, 22.6)],
)
def test_limits_of_20_percent_as_printed(count: int, total: int, low: float, high: float) -> None:
    limits = share_limits(count, total)
    assert limits is not None
    assert limits.high is not None
    assert (round(100 * limits.low, 1), round(100 * limits.high, 1)) == (low, high)


def test_no_blasts_among_100_are_0_to_3_7_percent() -> None:
    limits = share_limits(0, 100)
    assert limits == Limits(0.0, pytest.approx(0.037, abs=5e-4))  # type: ignore[arg-type]


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_limits_against_their_definitions(counted: tuple[int, int]) -> None:
    count, total = counted
    p, z = count / total, stats.norm.ppf(0.975)
    root = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    wilson = share_limits(count, total)
    assert wilson is not None
    assert wilson.low == pytest.approx(
        (p + z * z / 2 / total - root) / (1 + z * z / total), abs=1e-9
    )
    assert wilson.high == pytest.approx(
        (p + z * z / 2 / total + root) / (1 + z * z / total), abs=1e-9
    )
    exact = share_limits(count, total, method="clopper-pearson")
    assert exact is not None
    low = 0.0 if count == 0 else stats.beta.ppf(0.025, count, total - count + 1)
    high = 1.0 if count == total else stats.beta.ppf(0.975, count + 1, total - count)
    assert exact.low == pytest.approx(low, abs=1e-9)
    assert exact.high == pytest.approx(high, abs=1e-9)


def test_nothing_counted_has_no_limits_and_nonsense_is_refused() -> None:
    assert share_limits(0, 0) is None
    assert share_limits(0, 0, method="clopper-pearson") is None
    with pytest.raises(ValueError, match="count is 3 of 2"):
        share_limits(3, 2)


def test_a_ratio_by_the_odds_of_its_share() -> None:
    found = ratio(230, 100)
    share = share_limits(230, 330)
    assert share is not None
    assert share.high is not None
    assert found.value == pytest.approx(2.3)
    assert found.limits is not None
    assert found.limits.low == pytest.approx(share.low / (1 - share.low))
    assert found.limits.high == pytest.approx(share.high / (1 - share.high))
    assert found.limits.low < 2.3 < (found.limits.high or 0)


def test_ratios_at_the_ends() -> None:
    none_below = ratio(50, 0)
    assert none_below.value is None
    assert none_below.limits is not None
    assert none_below.limits.high is None
    assert 5 < none_below.limits.low < 50
    none_above = ratio(0, 50)
    assert none_above.value == 0
    assert none_above.limits is not None
    assert none_above.limits.low == 0
    assert ratio(0, 0) == ratio(0, 0).__class__(None, None)


def test_how_many_cells_settle_a_threshold() -> None:
    needed = cells_to_settle(24, 100, 0.20)
    assert needed is not None
    share = 0.24
    for total, open_ in ((needed, False), (needed - 1, True)):
        limits = stats.binomtest(round(share * total), total).proportion_ci(method="wilson")
        z = stats.norm.ppf(0.975)
        low = (
            share
            + z * z / 2 / total
            - z * math.sqrt(share * (1 - share) / total + z * z / 4 / total**2)
        ) / (1 + z * z / total)
        assert (low < 0.20) == open_
        assert limits.low == pytest.approx(low, abs=2e-3)
    assert cells_to_settle(20, 100, 0.20) is None, "more counting will not settle this"
    assert cells_to_settle(60, 100, 0.20) == 100, "it is settled"
    assert cells_to_settle(0, 0, 0.20) is None


def test_straddling() -> None:
    assert straddles(share_limits(20, 100), 0.20)
    assert not straddles(share_limits(60, 100), 0.20)
    assert straddles(None, 0.2)
    assert straddles(Limits(0.1, None), 0.2)


def test_white_cells_without_the_nucleated_red_ones() -> None:
    assert corrected_wbc(12.0, 20.0) == pytest.approx(10.0)
    assert corrected_wbc(8.0, 0.0) == 8.0


def test_drawing_fields_again_is_the_multinomial_where_cells_do_not_cluster() -> None:
    rng = np.random.default_rng(1)
    counts = rng.multinomial(25, [0.6, 0.3, 0.1], size=200)
    found = field_bootstrap(counts, np.array([True, True, True]))
    assert found is not None
    for column, limits in enumerate(found):
        wilson = share_limits(int(counts[:, column].sum()), int(counts.sum()))
        assert wilson is not None
        assert wilson.high is not None
        assert limits.high is not None
        assert limits.low == pytest.approx(wilson.low, abs=0.006)
        assert limits.high == pytest.approx(wilson.high, abs=0.006)


def test_clusters_widen_the_limits_of_drawn_fields() -> None:
    even = np.tile([5, 5], (40, 1))
    clustered = np.array([[10, 0], [0, 10]] * 20)
    every = np.array([True, True])
    first, second = (field_bootstrap(c, every) for c in (even, clustered))
    assert first is not None
    assert second is not None
    assert first[0] == Limits(0.5, 0.5)
    assert second[0].high is not None
    assert second[0].high - second[0].low > 0.25


def test_too_few_fields_and_empty_fields_have_no_bootstrap() -> None:
    every = np.array([True])
    assert field_bootstrap(np.ones((9, 1), np.int64), every) is None
    assert field_bootstrap(np.zeros((12, 1), np.int64), every) is None


def test_cells_outside_the_denominator_are_related_to_it() -> None:
    counts = np.tile([8, 2, 5], (12, 1))
    found = field_bootstrap(counts, np.array([True, True, False]))
    assert found is not None
    assert found[2] == Limits(0.5, 0.5), "5 per 10 cells of the denominator"


def one_of(types: int, which: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """One type, and all of them."""
    return np.arange(types) == which, np.ones(types, np.bool_)


def test_known_confusions_are_undone() -> None:
    confusion = np.array([[90, 10, 0], [5, 90, 5], [0, 20, 80]]) * 40
    true = np.array([0.7, 0.2, 0.1])
    counts = np.round(10_000 * true @ (confusion / confusion.sum(1, keepdims=True))).astype(
        np.int64
    )
    unmixing = Unmixing(counts, confusion, draws=200)
    found = [unmixing.share(*one_of(3, i)) for i in range(3)]
    for value, one in zip(true, found, strict=True):
        assert one is not None
        assert one[0] == pytest.approx(value, abs=2e-3)
        assert one[1].high is not None
        assert one[1].low < value < one[1].high
    assert sum(one[0] for one in found if one) == pytest.approx(1)
    of_two = unmixing.share(np.array([False, True, False]), np.array([False, True, True]))
    assert of_two is not None
    assert of_two[0] == pytest.approx(2 / 3, abs=5e-3)
    assert unmixing.share(*one_of(3)) == found[0], "the same draws every time"


def test_a_small_validation_set_widens_the_limits() -> None:
    counts = np.array([700, 300])
    widths = []
    for size in (1, 50):
        found = Unmixing(counts, np.array([[18, 2], [3, 17]]) * size, draws=300).share(*one_of(2))
        assert found is not None
        assert found[1].high is not None
        widths.append(found[1].high - found[1].low)
    assert widths[0] > 1.8 * widths[1]


@pytest.mark.parametrize("types", [2, 8, 21])
@pytest.mark.parametrize(("count", "total"), [(0, 30), (30, 30), (0, 1), (1, 1), (12, 30)])
def test_limits_of_few_cells_are_not_narrower_than_their_number_allows(
    types: int, count: int, total: int
) -> None:
    """With next to no confusion, limits are about those of Wilson, however many types there are."""
    counts = np.zeros(types, np.int64)
    counts[:2] = count, total - count
    found = Unmixing(counts, 50_000 * np.eye(types, dtype=np.int64)).share(*one_of(types))
    wilson = share_limits(count, total)
    assert found is not None
    assert found[0] == pytest.approx(count / total)
    assert wilson is not None
    assert (found[1].low == 0) == (count == 0)
    assert (found[1].high == 1) == (count == total)
    if total > 1:
        assert found[1].low == pytest.approx(wilson.low, abs=0.02)
        assert found[1].high == pytest.approx(wilson.high, abs=0.02)
    else:  # wider still: Beta(3/2, 1), its 2.5 % being 0.025 ** (2 / 3)
        uncertain = found[1].low if count else 1 - (found[1].high or 0)
        assert uncertain == pytest.approx(0.025 ** (2 / 3), abs=0.03)


def test_cells_of_known_type_are_added_and_not_corrected() -> None:
    confusion = np.array([[80, 20], [20, 80]]) * 100
    counts = np.array([560, 440])  # 60 % of the first type
    unmixing = Unmixing(counts, confusion)
    part, whole = one_of(2)
    found = unmixing.share(part, whole, (200, 300, 9))
    assert found is not None
    assert found[0] == pytest.approx((600 + 200) / 1500, abs=1e-6)
    all_known = Unmixing(np.zeros(2, np.int64), confusion).share(part, whole, (20, 80, 0))
    wilson = share_limits(20, 100)
    assert all_known is not None
    assert wilson is not None
    assert all_known[0] == 0.2
    assert all_known[1].low == pytest.approx(wilson.low, abs=0.02), "still a sample"
    assert all_known[1].high == pytest.approx(wilson.high, abs=0.02)


def test_what_was_never_validated_or_counted_cannot_be_corrected() -> None:
    with pytest.raises(ValueError, match="validated cells of each type"):
        Unmixing(np.array([5, 5]), np.array([[5, 0], [0, 0]]))
    nothing = Unmixing(np.zeros(2, np.int64), np.array([[5, 0], [0, 5]]))
    assert nothing.share(*one_of(2)) is None


def test_exact_cells_to_settle_against_the_beta_distribution() -> None:
    needed = cells_to_settle(24, 100, 0.20, method="clopper-pearson")
    assert needed is not None
    low = [stats.beta.ppf(0.025, 0.24 * n, 0.76 * n + 1) for n in (needed - 1, needed)]
    assert low[0] < 0.20 <= low[1]
    wilson = cells_to_settle(24, 100, 0.20)
    assert wilson is not None
    assert needed > wilson, "exact limits are wider"
    assert cells_to_settle(20, 100, 0.20, method="clopper-pearson") is None


@pytest.mark.parametrize("count", [0, 1, 7, 100_000])
def test_limits_of_a_mean_are_where_poisson_tails_are_2_5_percent(count: int) -> None:
    limits = mean_limits(count, 4)
    assert limits is not None
    assert limits.high is not None
    assert stats.poisson.cdf(count, 4 * limits.high) == pytest.approx(0.025, rel=1e-6)
    if count:
        assert stats.poisson.sf(count - 1, 4 * limits.low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert limits.low == 0


def test_no_field_has_no_mean_and_nonsense_is_refused() -> None:
    assert mean_limits(0, 0) is None
    with pytest.raises(ValueError, match="count is -1 on 2 fields"):
        mean_limits(-1, 2)
