"""Westgard's rules on sequences worked out by hand, and the drift of a program that is exact."""

from __future__ import annotations

import pytest

from cellcount.control.westgard import FEWEST_RUNS, broken_rules, drift_of


@pytest.mark.parametrize(
    ("scores", "rules"),
    [
        ([0.0], ()),
        ([1.9], ()),
        ([2.1], ("1_2s",)),
        ([-3.1], ("1_2s", "1_3s")),
        ([2.1, 2.2], ("1_2s", "2_2s")),
        ([2.1, -2.2], ("1_2s", "R_4s")),
        ([2.1, 0.0, 2.2], ("1_2s",)),
        ([1.1, 1.2, 1.3, 1.4], ("4_1s",)),
        ([-1.1, -1.2, -1.3, -1.4], ("4_1s",)),
        ([1.1, 1.2, -1.3, 1.4], ()),
        ([0.1] * 10, ("10_x",)),
        ([0.1] * 9, ()),
        ([0.0] * 10, ()),  # on the mean is on neither side
        ([-0.1] * 9 + [0.1], ()),
    ],
)
def test_rules(scores: list[float], rules: tuple[str, ...]) -> None:
    assert broken_rules(scores) == rules


def test_too_few_runs_tell_nothing() -> None:
    assert drift_of([100.0] * (FEWEST_RUNS - 1), 0.0, 1.0) is None
    assert drift_of([100.0] * FEWEST_RUNS, 0.0, 1.0) is not None


def test_an_exact_program_has_the_spread_of_one_cell() -> None:
    same = drift_of([98.0] * 12, 98.0, 1.0)
    assert same is not None
    assert (same.z, same.rules) == (0.0, ())
    less = drift_of([98.0] * 12, 94.0, 1.0)
    assert less is not None
    assert (less.mean, less.sd, less.z) == (98.0, 1.0, -4.0)
    assert less.rejects == ("1_3s",)
    warned = drift_of([98.0] * 12, 95.5, 1.0)
    assert warned is not None
    assert (warned.rules, warned.rejects) == (("1_2s",), ())


def test_mean_and_spread_are_those_of_the_earlier_values() -> None:
    found = drift_of([10, 12, 14, 10, 12, 14, 10, 12, 14, 12], 15.0, 0.5)
    assert found is not None
    assert found.mean == 12.0
    assert found.sd == pytest.approx((24 / 9) ** 0.5)  # six times 2² over n - 1
    assert found.z == pytest.approx(3 / (24 / 9) ** 0.5)
