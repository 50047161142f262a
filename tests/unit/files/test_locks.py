"""Two runs never write one file, whatever their other outputs are called."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import pytest

from cellcount.errors import OutputError
from cellcount.files.locks import locked

HOLD = """
import sys
from pathlib import Path
from cellcount.files.locks import locked
with locked(map(Path, sys.argv[1:])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return tmp_path / "cells.csv"


@pytest.fixture
def other(cells: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds that table."""
    command = [sys.executable, "-c", HOLD, str(cells)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_told_who_the_first_is(
    cells: Path, other: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    said = f"cells.csv is being written by process {other.pid} on {gethostname()}, started 2"
    for name in (cells, tmp_path / "link" / "cells.csv"):
        with pytest.raises(OutputError, match=said), locked([tmp_path / "counts.csv", name]):
            pytest.fail("locked twice")
    assert not (tmp_path / "counts.csv.lock").exists(), "what was locked before is let go"
    with locked([tmp_path / "other.csv"]):
        assert (tmp_path / "other.csv.lock").exists()


def test_a_killed_run_blocks_nobody(cells: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    lock = cells.with_name("cells.csv.lock")
    assert str(other.pid) in lock.read_text()
    with locked([cells]):
        assert f'"pid": {os.getpid()}' in lock.read_text()
    assert not lock.exists()


def test_a_run_that_ends_leaves_nothing(cells: Path, other: subprocess.Popen[str]) -> None:
    other.communicate("")
    assert list(cells.parent.iterdir()) == []


def test_what_is_no_lock_is_left_as_it_is(cells: Path, tmp_path: Path) -> None:
    lock, letter = cells.with_name("cells.csv.lock"), tmp_path / "letter.txt"
    lock.write_text("dear colleague")
    with pytest.raises(OutputError, match="is not a lock of cellcount"), locked([cells]):
        pytest.fail("locked")
    assert lock.read_text() == "dear colleague"
    lock.rename(letter)
    lock.symlink_to(letter)
    with pytest.raises(OutputError, match="cannot use"), locked([cells]):
        pytest.fail("locked")
    assert letter.read_text() == "dear colleague"


def test_who_may_wait_goes_on_as_soon_as_the_other_ends(
    cells: Path, other: subprocess.Popen[str]
) -> None:
    threading.Timer(0.2, other.kill).start()
    with locked([cells], wait_s=30):
        assert f'"pid": {os.getpid()}' in cells.with_name("cells.csv.lock").read_text()
    assert list(cells.parent.iterdir()) == []


def test_where_no_file_can_be_locked_the_work_goes_on(
    cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked([cells]):
        cells.write_text("written")
    assert [path.name for path in cells.parent.iterdir()] == ["cells.csv"]
