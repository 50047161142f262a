"""Processors that a job may use, by affinity, container and scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellcount.core import processors

MACHINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 processors whose control groups lie in a folder of the test."""
    monkeypatch.setattr(processors, "_affinity", lambda: 16)
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_all_of_the_affinity_may_be_used() -> None:
    assert processors.usable_processors() == 16


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("400000 100000", 4), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 16)],
)
def test_the_quota_of_a_container_counts(machine: Path, quota: str, usable: int) -> None:
    put(machine / "own", "0::/\n")
    put(machine / "cgroup/cpu.max", quota + "\n")
    assert processors.usable_processors() == usable


def test_the_smallest_quota_on_the_way_up_counts(machine: Path) -> None:
    put(machine / "own", "0::/system.slice/job\n")
    put(machine / "cgroup/system.slice/cpu.max", "300000 100000")
    put(machine / "cgroup/system.slice/job/cpu.max", "max 100000")
    assert processors.usable_processors() == 3


def test_control_groups_of_the_first_version_count_too(machine: Path) -> None:
    put(machine / "own", "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n")
    put(machine / "cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n")
    put(machine / "cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert processors.usable_processors() == 2


def test_an_unlimited_group_of_the_first_version_is_no_limit(machine: Path) -> None:
    put(machine / "own", "4:cpu:/\n")
    put(machine / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    put(machine / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert processors.usable_processors() == 16


def test_the_share_of_a_slurm_task_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    assert processors.usable_processors() == 5


@pytest.mark.parametrize("text", ["", "nonsense", "0::", "x:y"])
def test_what_cannot_be_read_is_no_limit(machine: Path, text: str) -> None:
    put(machine / "own", text)
    put(machine / "cgroup/cpu.max", "x y z")
    assert processors.usable_processors() == 16


def test_a_number_of_threads_that_a_person_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    processors.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_products_of_numpy_take_one_thread_unless_a_person_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    processors.limit_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    processors.limit_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


@pytest.mark.skipif(MACHINE < 2, reason="needs two processors")
def test_torch_takes_as_many_threads_as_the_task_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    program = "import cellcount, torch; print(torch.get_num_threads())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.split() == [b"1"]


def test_a_library_that_is_told_its_threads_gets_those_asked_for_else_the_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert processors.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert processors.threads() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert processors.threads() == 3
