"""One field from command to table, beside the bare import of torch and torchvision.

    python benchmarks/start_up.py [--engine torchvision|openvino] [--repeats 5]

Everything is measured in turn, so that a busy moment of the machine strikes all alike. Seconds are
the least over the repeats; those of the processor hold on a busy machine too. The first round, in
which files come from the disk, is not counted.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

FIELD = Path(__file__).parents[1] / "sample_data" / "slide-A" / "field-1.jpg"
BARE = "import of torch and torchvision"


class Cost(NamedTuple):
    """Seconds of one process: passed, and spent by processors."""

    passed: float
    processor: float


def cost_of(command: list[str]) -> Cost:
    """Run a command and return its cost."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    passed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(passed, used)


def commands(arguments: argparse.Namespace, out: Path) -> dict[str, list[str]]:
    """The bare import, and ``analyze`` with and without types."""
    count = [sys.executable, "-m", "cellcount", "analyze", str(FIELD), "--out", str(out)]
    count += ["--fresh", "--engine", arguments.engine]
    return {
        BARE: [sys.executable, "-c", "import torch, torchvision"],
        "analyze": count,
        "analyze, no types": [*count, "--classifier", "none"],
    }


def show(costs: dict[str, list[Cost]]) -> None:
    """Print seconds, and their ratio to the bare import."""
    table = Table("what")
    for column in ("seconds", "bare import = 1", "processor seconds", "bare import = 1"):
        table.add_column(column, justify="right")
    least = {what: Cost(*map(min, zip(*own, strict=True))) for what, own in costs.items()}
    for what, cost in least.items():
        table.add_row(
            what,
            f"{cost.passed:.2f}",
            f"{cost.passed / least[BARE].passed:.2f}",
            f"{cost.processor:.2f}",
            f"{cost.processor / least[BARE].processor:.2f}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="torchvision")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = commands(arguments, Path(folder) / "counts.csv")
        costs: dict[str, list[Cost]] = {what: [] for what in measured}
        for _ in range(arguments.repeats + 1):
            for what, command in measured.items():
                costs[what].append(cost_of(command))
    show({what: own[1:] for what, own in costs.items()})


if __name__ == "__main__":
    main()
