"""The control log: only ever appended to, and every change shows."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.control.control_log import (
    CONTROL_COLUMNS,
    append_to_log,
    check_sound,
    read_control_log,
)
from cellcount.errors import OutputError
from cellcount.outputs.columns import Value
from tests.tables import check_table

Change = Callable[[list[bytes]], list[bytes]]


def row(run: int, **values: Value) -> dict[str, Value]:
    known: dict[str, Value] = {
        "run": run, "time": f"2026-01-{run:02d}T08:00:00+00:00", "slide": "=evil, \"x\"\nnext",
        "result": "pass", "known": 20, "located": 20, "located_percent": 100.0,
        "counts": "rbc=100; wbc=20", "expected_sha256": "e", "baseline": 1,
    }  # fmt: skip
    return known | values


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "control.csv"
    last = read_control_log(path).last_sha256
    for run in range(1, 5):
        last = append_to_log(path, row(run), last)
    return path


def test_rows_come_back_and_the_chain_holds(log: Path) -> None:
    found = read_control_log(log)
    assert found.broken == ""
    check_sound(log, found)
    assert [r["run"] for r in found.rows] == [1, 2, 3, 4]
    assert {r["slide"] for r in found.rows} == {'=evil, "x" next'}
    assert check_table(log, CONTROL_COLUMNS) == []
    assert "'=evil" in log.read_text("utf-8")  # no spreadsheet runs it


def test_the_hash_is_what_the_documentation_says(log: Path) -> None:
    """Recomputed by hand, from the bytes of the file."""
    lines = log.read_bytes().split(b"\n")
    last = hashlib.sha256(lines[0]).hexdigest().encode()
    for line in lines[1:5]:
        body, digest = line[:-65], line[-64:]
        assert digest == hashlib.sha256(last + b"\n" + body).hexdigest().encode()
        last = digest


def test_appending_leaves_every_earlier_byte(log: Path) -> None:
    before = log.read_bytes()
    append_to_log(log, row(5), read_control_log(log).last_sha256)
    assert log.read_bytes()[: len(before)] == before
    with pytest.raises(OutputError, match="another run was added"):
        append_to_log(log, row(6), hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize(
    ("change", "run"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b",20,20,", b",20,19,"), *lines[3:]], 2),
        (lambda lines: lines[:1] + lines[2:], 1),  # the first is taken out
        (lambda lines: lines[:3] + lines[4:], 3),  # one in the middle
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 2),  # two change places
        (lambda lines: [*lines[:4], lines[1], *lines[4:]], 4),  # one is put in
        (lambda lines: [*lines[:4], lines[4][:-10]], 4),  # cut off
    ],
)
def test_every_change_shows(log: Path, change: Change, run: int) -> None:
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join(change(lines)))
    found = read_control_log(log)
    assert f"run {run} " in found.broken
    assert len(found.rows) == run - 1
    before = log.read_bytes()
    with pytest.raises(OutputError, match="begin another one with --log"):
        append_to_log(log, row(9), found.last_sha256)
    assert log.read_bytes() == before


def test_a_foreign_file_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("image,cells\na,1\n", "utf-8")
    with pytest.raises(OutputError, match="is no log of controls"):
        append_to_log(path, row(1), "")
    assert path.read_text("utf-8") == "image,cells\na,1\n"


APPEND = """
import sys
from pathlib import Path
from cellcount.control.control_log import append_to_log, read_control_log
from cellcount.errors import OutputError
path, added = Path(sys.argv[1]), 0
while added < 5:
    log = read_control_log(path)
    try:
        append_to_log(path, {"run": len(log.rows) + 1, "result": "pass"}, log.last_sha256)
        added += 1
    except OutputError as error:
        assert "another run was added" in str(error), error
"""


def test_two_processes_append_without_breaking_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "control.csv"
    command = [sys.executable, "-c", APPEND, str(path)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    log = read_control_log(path)
    assert (log.broken, [r["run"] for r in log.rows]) == ("", [*range(1, 11)])
    assert [p.name for p in tmp_path.iterdir()] == ["control.csv"]
