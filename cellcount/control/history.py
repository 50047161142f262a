"""Chart, page and verdict of a control log, for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from cellcount.control.control_log import ControlLog
from cellcount.control.drift import Row, comparable, least_sd, watched_values
from cellcount.control.history_charts import (
    Series,
    levey_jennings_figure,
    write_history_page,
    write_history_picture,
)
from cellcount.control.westgard import FEWEST_RUNS
from cellcount.errors import UsageError
from cellcount.files.text import number_of

_WORDS = {"located_percent": "known white cells located, %", "agreed_percent": "types agreed, %"}
_LIMITS = {"located_percent": 95.0}
_HEADS = ("Run", "Time (UTC)", "Result", "Located", "Percent (95 % limits)", "Counts", "Reasons")


def verdict(log: ControlLog) -> str:
    """Say in a sentence whether the log is unchanged."""
    if log.broken:
        return f"The chain is broken: {log.broken}. Runs up to there are shown."
    runs = number_of(len(log.rows), "run")
    return f"The chain of {runs} is sound; its last hash is {log.last_sha256}."


def series_of(rows: Sequence[Row]) -> list[Series]:
    """Every watched value over the runs, with mean and spread for the next run."""
    last = rows[-1]
    counted = [watched_values(row) for row in comparable(rows, last)]
    values = [watched_values(row) for row in rows]
    found = []
    for name in dict.fromkeys(name for one in values for name in one):
        before = [one[name] for one in counted if name in one]
        mean = sd = None
        if len(before) >= FEWEST_RUNS:
            mean = statistics.fmean(before)
            sd = max(statistics.stdev(before), least_sd(name, mean, last))
        words = _WORDS.get(name, f"{name.removeprefix('n_')}, cells")
        found.append(
            Series(words, tuple(one.get(name) for one in values), mean, sd, _LIMITS.get(name))
        )
    return found


def write_history(path: Path, log: ControlLog, source: str) -> None:
    """Draw the runs of a log as PNG or as an HTML page, as the name ends.

    Raises:
        UsageError: it ends otherwise, or there are no runs.
        OutputError: it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".html", ".htm"):
        raise UsageError(f"--out {path}: expected a name that ends in .html or .png")
    if not log.rows:
        raise UsageError(f"{source} has no runs to draw")
    rows = log.rows
    labels = [str(row["time"])[:10] for row in rows]
    passed = [row["result"] == "pass" for row in rows]
    slide = str(rows[-1]["slide"])
    figure = levey_jennings_figure(series_of(rows), labels, passed, f"Control slide {slide}")
    if suffix == ".png":
        write_history_picture(path, figure)
        return
    told = {
        "title": f"Control slide {slide}",
        "verdict": verdict(log),
        "sound": not log.broken,
        "about": _about(rows, source),
        "heads": _HEADS,
        "rows": [_line(row) for row in reversed(rows)],
    }
    write_history_page(path, figure, told)


def _about(rows: Sequence[Row], source: str) -> list[tuple[str, str]]:
    last = rows[-1]
    failed = sum(row["result"] == "fail" for row in rows)
    compared = comparable(rows, last)
    spread = number_of(len(compared), "run")
    if len(compared) < FEWEST_RUNS:
        spread += f"; drift is judged from {FEWEST_RUNS} on"
    return [
        ("Log", source),
        ("Runs", f"{len(rows):,}, {failed:,} failed; the last on {last['time']}: {last['result']}"),
        ("Compared with", spread),
        ("Program", str(last["program"])),
        ("Detector", str(last["detector"])),
        ("Classifier", str(last["classifier"])),
        ("Device", str(last["device"])),
        ("Known cells", f"{last['known']}; list sha256 {last['expected_sha256']}"),
    ]


def _line(row: Row) -> list[str]:
    share, low, high = (
        f"{float(row[f'located_{name}'] or 0):.1f}" for name in ("percent", "low", "high")
    )
    return [
        str(row["run"]),
        str(row["time"])[:16].replace("T", " "),
        str(row["result"]),
        f"{row['located']} of {row['known']}",
        f"{share} ({low}–{high})",
        str(row["counts"]),
        str(row["reasons"]),
    ]
