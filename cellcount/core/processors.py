"""Number of processors that a job may use, which on shared machines is less than there are.

OpenMP, and so torch, follows the affinity of the process but neither the processor quota of a
container nor a Slurm job without task affinity. Threads beyond a quota make a job slower, since the
kernel stops all of them once the quota of a period is used up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_processors() -> int:
    """The least of affinity, container quota and Slurm's share of a task; 1 or more."""
    allowed = [_affinity(), *_quotas(_CGROUPS, _OWN_CGROUP)]
    if (of_task := os.environ.get("SLURM_CPUS_PER_TASK", "")).isdecimal():
        allowed.append(float(of_task))
    return max(1, math.ceil(min(allowed)))


def limit_threads() -> None:
    """Keep libraries that are loaded later to the processors that may be used.

    OpenMP gets their number unless OMP_NUM_THREADS is set. The matrix products of numpy are small,
    and threads of OpenBLAS that wait for the next one keep processors from the model: it gets one
    thread, unless OPENBLAS_NUM_THREADS is set.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    usable = usable_processors()
    if usable < _affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable))


def threads() -> int:
    """Return the threads for a library to use: OMP_NUM_THREADS, else the usable processors."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else usable_processors()


def _affinity() -> float:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Processors that each control group above this process may use, where they are limited.

    Args:
        root: where control groups are mounted.
        own: file of lines ``hierarchy:controllers:path``, of this process.
    """
    try:
        lines = own.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        # Inside a container the path may be the host's, and the container's own group the root.
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if (quota := _quota(group)) is not None:
                yield quota
            if group == base:
                break


def _quota(group: Path) -> float | None:
    """Processors of one control group of version 2 or 1, None where it has no limit."""
    try:
        if (version_2 := group / "cpu.max").is_file():
            quota, period = version_2.read_text("utf-8").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text("utf-8").strip()
            period = (group / "cpu.cfs_period_us").read_text("utf-8").strip()
        processors = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return processors if processors > 0 else None
