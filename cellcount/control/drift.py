"""Values of a control run that are watched, and their drift against earlier runs of the slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cellcount.control.westgard import FEWEST_RUNS, Drift, drift_of
from cellcount.outputs.columns import Value

Row = Mapping[str, Value]

_SHARES = {"located_percent": "known", "agreed_percent": "typed"}
_NOISE = 0.005  # of a count: rounding on another processor moves a few cells of thousands


@dataclass(frozen=True, slots=True)
class Watched:
    """One value of a run with its drift; None where there are too few earlier runs."""

    name: str
    value: float
    drift: Drift | None


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts as they stand in a log."""
    return "; ".join(f"{name}={count}" for name, count in counts.items())


def counts_of(text: Value) -> dict[str, int]:
    """Return the counts that `counts_text` was given."""
    parts = (part.partition("=") for part in str(text or "").split("; ") if part)
    return {name: int(count) for name, _, count in parts}


def watched_values(row: Row) -> dict[str, float]:
    """Name → value of everything in a row that may drift."""
    shares = {name: row.get(name) for name in _SHARES}
    values = {name: float(value) for name, value in shares.items() if value is not None}
    counts = {f"n_{name}": float(n) for name, n in counts_of(row.get("counts")).items()}
    return values | counts


def comparable(rows: Sequence[Row], row: Row) -> list[Row]:
    """Earlier runs that a run is compared with: passed, of the same known cells, since the
    baseline.
    """
    first = int(row.get("baseline") or 1)
    return [
        one
        for one in rows
        if one["result"] == "pass"
        and one["expected_sha256"] == row["expected_sha256"]
        and int(one["run"] or 0) >= first
    ]


def watch(rows: Sequence[Row], row: Row) -> list[Watched]:
    """The values of a run against those of earlier comparable runs."""
    earlier = [watched_values(one) for one in comparable(rows, row)]
    found = []
    for name, value in watched_values(row).items():
        before = [values[name] for values in earlier if name in values]
        found.append(Watched(name, value, drift_of(before, value, least_sd(name, value, row))))
    return found


def drift_text(watched: Sequence[Watched]) -> str:
    """The rules that were broken, as they stand in a log."""
    return "; ".join(
        f"{one.name} {' '.join(one.drift.rules)} {one.drift.z:+.1f} SD"
        for one in watched
        if one.drift is not None and one.drift.rules
    )


def runs_needed(rows: Sequence[Row], row: Row) -> int:
    """Runs that are missing before drift can be judged."""
    return max(0, FEWEST_RUNS - len(comparable(rows, row)))


def least_sd(name: str, value: float, row: Row) -> float:
    """Return the change of a value that a single cell causes."""
    if name in _SHARES:
        total = int(row.get(_SHARES[name]) or 0)
        return 100 / max(1, total)
    return max(1.0, _NOISE * value)
