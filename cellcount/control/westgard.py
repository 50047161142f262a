"""Westgard's rules, which tell whether a control value has drifted from those of earlier runs.

Westgard, Barry, Hunt and Groth 1981, "A multi-rule Shewhart chart for quality control in clinical
chemistry", Clin Chem 27:493-501. The rule 1_2s only warns; each of the others rejects the run.

A program gives the same value every day until something changes, so its earlier values may have no
spread at all. The standard deviation is therefore taken to be at least one cell, or half a percent
of a count: less than that is no drift.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Fewer earlier runs tell no standard deviation worth the name.
FEWEST_RUNS = 10
WARNING = "1_2s"


@dataclass(frozen=True, slots=True)
class Drift:
    """A value compared with those of earlier runs.

    Attributes:
        mean, sd: of the earlier values; ``sd`` at least what one cell makes.
        z: standard deviations that the value lies above the mean.
        rules: the rules that it breaks.
    """

    mean: float
    sd: float
    z: float
    rules: tuple[str, ...]

    @property
    def rejects(self) -> tuple[str, ...]:
        """The rules that reject the run."""
        return tuple(rule for rule in self.rules if rule != WARNING)


def drift_of(earlier: Sequence[float], value: float, least_sd: float) -> Drift | None:
    """The drift of a value; None with fewer than ``FEWEST_RUNS`` earlier ones.

    Args:
        earlier: values of earlier runs that were in control, the oldest first.
        value: of this run.
        least_sd: what one cell, or the noise of arithmetic, makes of the value.
    """
    if len(earlier) < FEWEST_RUNS:
        return None
    mean = statistics.fmean(earlier)
    sd = max(statistics.stdev(earlier), least_sd)
    scores = [(v - mean) / sd for v in (*earlier[-9:], value)]
    return Drift(mean, sd, scores[-1], broken_rules(scores))


def broken_rules(scores: Sequence[float]) -> tuple[str, ...]:
    """The rules that the last of some z-scores breaks, with those before it."""
    return tuple(name for name, breaks in _RULES.items() if breaks(scores))


def _beyond(count: int, limit: float) -> Callable[[Sequence[float]], bool]:
    """Return whether the last so many values lie beyond a limit, all on one side of the mean."""

    def breaks(scores: Sequence[float]) -> bool:
        last = scores[-count:]
        above, below = all(z > limit for z in last), all(z < -limit for z in last)
        return len(last) == count and (above or below)

    return breaks


def _range(scores: Sequence[float]) -> bool:
    """Return whether the last two values lie beyond 2 SD on different sides."""
    last = scores[-2:]
    return len(last) == 2 and max(last) > 2 and min(last) < -2


_RULES: dict[str, Callable[[Sequence[float]], bool]] = {
    WARNING: _beyond(1, 2),
    "1_3s": _beyond(1, 3),
    "2_2s": _beyond(2, 2),
    "R_4s": _range,
    "4_1s": _beyond(4, 1),
    "10_x": _beyond(10, 0),
}
