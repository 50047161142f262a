"""Time of `analyze` when several jobs share the processors, and beside a busy process.

    python -m benchmarks.busy [--fields 40] [--jobs 1 2 3 4] [--repeats 3] [--active]

Renders fields of 640x480 px with red cells of 105 px, then runs 1 to 4 jobs at once, each with
outputs of its own, and one job beside a process that computes without pause. Prints the seconds
per job and the throughput of all jobs together over that of one. ``--active`` measures the waiting
of OpenMP's own default, too. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.speed import rendered_fields

_SPIN = "while True: pass"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.busy``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--active", action="store_true")
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args(arguments)
    policies = {"passive (cellcount's)": "", **({"active": "ACTIVE"} if options.active else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render(folder / "fields", options.fields)
        table = Table("waiting", "jobs", "beside", "s per job", "throughput of all over one job's")
        for policy, value in policies.items():
            one = min(run_jobs(folder, 1, options.engine, value) for _ in range(options.repeats))
            for jobs in options.jobs:
                best = min(
                    run_jobs(folder, jobs, options.engine, value) for _ in range(options.repeats)
                )
                table.add_row(policy, f"{jobs}", "", f"{best:.1f}", f"{jobs * one / best:.0%}")
            spinning = subprocess.Popen([sys.executable, "-c", _SPIN])
            try:
                best = min(
                    run_jobs(folder, 1, options.engine, value) for _ in range(options.repeats)
                )
            finally:
                spinning.kill()
                spinning.wait()
            table.add_row(policy, "1", "a busy process", f"{best:.1f}", f"{one / best:.0%}")
    Console().print(f"{options.fields} fields, {len(os.sched_getaffinity(0))} processors")
    Console().print(table)


def render(folder: Path, fields: int) -> None:
    """Render the fields that every job counts, as one microscope would show them."""
    folder.mkdir()
    for i, pixels in enumerate(rendered_fields(fields)):
        Image.fromarray(pixels).save(folder / f"field-{i:03d}.png")


def run_jobs(folder: Path, jobs: int, engine: str, policy: str) -> float:
    """Seconds until all of ``jobs`` jobs, started at once, have ended."""
    environment: Mapping[str, str] = {
        **os.environ,
        **({"OMP_WAIT_POLICY": policy} if policy else {}),
    }
    start = time.perf_counter()
    running = []
    for job in range(jobs):
        command = [
            sys.executable, "-m", "cellcount", "analyze", str(folder / "fields"),
            "--classifier", "none", "--engine", engine, "--fresh",
            "--out", str(folder / f"job-{job}" / "counts.csv"),
        ]  # fmt: skip
        (folder / f"job-{job}").mkdir(exist_ok=True)
        running.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
    for process in running:
        if process.wait():
            raise SystemExit(f"a job failed with exit code {process.returncode}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
