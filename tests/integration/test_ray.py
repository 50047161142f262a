"""The Ray runner on a real cluster of two nodes on this machine: the rows of the local runner."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves files and sockets to the end of the process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Run = Callable[..., tuple[int, str, str]]
TABLES = ("--cells", "cells.csv", "--annotated", "drawn")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes of one processor each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def workers() -> dict[int, bytes]:
    """Processes that are our actors: pid → what they do."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"ray::Analyst"):
                found[int(entry.name)] = line
    return found


def outputs(folder: Path) -> dict[str, bytes]:
    names = ["counts.csv", "cells.csv", *(p.as_posix() for p in Path("drawn").rglob("*.png"))]
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def many(slides: Path) -> Path:
    """More images than workers take at once, one of them broken."""
    one = (slides / "a/1.png").read_bytes()
    for number in range(12):
        (slides / f"a/more-{number:02d}.png").write_bytes(one)
    (slides / "a/bad.png").write_bytes(b"")
    return slides


def test_the_rows_of_the_local_runner_also_when_a_worker_is_killed(
    many: Path, run: Run, address: str
) -> None:
    assert run(many, "--out", "counts.csv", *TABLES)[0] == 1
    expected = outputs(Path())
    for name in expected:
        Path(name).unlink()
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 1200
        while not killed and time.monotonic() < until:
            busy = [pid for pid, line in workers().items() if b"analyze" in line]
            if busy:
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    cluster = ("--runner", "ray", "--ray-address", address)
    code, out, err = run(many, "--out", "counts.csv", "--fresh", *TABLES, *cluster)
    killer.join()
    assert (code, len(killed)) == (1, 1), out + err
    assert outputs(Path()) == expected
    assert workers() == {}  # actors end with the run

    # What is done is not done again, whoever did it.
    code, _, err = run(many, "--out", "counts.csv", *TABLES)
    assert "17 of 18 images done before" in err
    assert outputs(Path()) == expected


def test_no_cluster_is_said(many: Path, run: Run) -> None:
    code, _, err = run(many, "--out", "o.csv", "--runner", "ray", "--ray-address", "127.0.0.1:1")
    assert code == 3
    assert "no Ray cluster at 127.0.0.1:1" in err
