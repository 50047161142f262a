"""Nothing is lost and nothing doubled, whatever happens to a run.

``pytest -m faults`` tries a few of each fault and kills a run fifty times;
``benchmarks/faults.py`` does it as often as asked.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def suffered(repo_root: Path, *arguments: str) -> str:
    """The table of benchmarks.faults, which must be clean."""
    command = [sys.executable, "-m", "benchmarks.faults", *arguments]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_without_loss(table: str) -> int:
    return table.count(" yes ") + table.count("same cells")


def test_a_run_survives_a_kill_and_a_plugin_that_raises(repo_root: Path) -> None:
    assert rows_without_loss(suffered(repo_root, "kill", "plugin", "--times", "1")) == 2


@pytest.mark.faults
def test_a_run_survives_a_few_of_each_fault(repo_root: Path) -> None:
    names = ["kill", "interrupt", "file-size", "vanish", "change", "plugin", "worker", "memory"]
    assert rows_without_loss(suffered(repo_root, *names, "--times", "2")) == len(names)


@pytest.mark.faults
def test_fifty_kills_lose_and_double_nothing(repo_root: Path) -> None:
    assert rows_without_loss(suffered(repo_root, "kill", "--times", "50")) == 1


@pytest.mark.faults
def test_a_full_and_a_read_only_disk_lose_nothing(repo_root: Path) -> None:
    suffered(repo_root, "disk-full", "--times", "10")
    probe = subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if probe.returncode:
        pytest.skip("a read-only disk needs a tmpfs, and this user may not mount one")
    subprocess.run(["umount", "/mnt"], check=True)
    suffered(repo_root, "read-only", "--times", "5")
