"""Hostile folders through the whole command: a row and a reason for each file, and nothing else.

It runs as a program of its own, so that a crash of a decoder, a hang or a flood of memory would be
seen as such.
"""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

Fill = Callable[[Path, Path], set[str]]
#: Processor time bounds the work, whatever else the machine does; wall time only finds a hang.
LIMIT_CPU_S, LIMIT_S, LIMIT_MIB = 240, 1200, 1500
#: A small process between: Linux counts what the one that forks holds as the child's own memory.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Ended:
    code: int
    text: bytes
    mebibytes: float
    rows: list[dict[str, str]]


@pytest.fixture
def analyze(tmp_path: Path, repo_root: Path) -> Callable[..., Ended]:
    """Runs ``cellcount analyze`` with the tiny model, within bounds of time and memory."""
    weights = repo_root / "tests" / "golden" / "tiny.safetensors"
    out = tmp_path / "counts.csv"

    def run(*arguments: str | os.PathLike[str]) -> Ended:
        program = [sys.executable, "-m", "cellcount", "analyze", "--out", str(out)]
        models = ["--detector", str(weights), "--classifier", "none"]
        bounded = f'ulimit -t {LIMIT_CPU_S}; exec "$0" "$@"'
        memory = tmp_path / "memory"
        ended = subprocess.run(
            [sys.executable, "-c", LAUNCHER, str(memory), "timeout", str(LIMIT_S), "sh", "-c",
             bounded, *program, *models, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=tmp_path, check=False,
        )  # fmt: skip
        rows: list[dict[str, str]] = []
        if out.exists():
            with out.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        return Ended(ended.returncode, ended.stdout, int(memory.read_text()) / 1024, rows)

    return run


def test_a_hostile_folder_ends_in_rows_and_reasons(
    tmp_path: Path, corpus_of: Fill, max_pixels: int, analyze: Callable[..., Ended]
) -> None:
    folder, mark = tmp_path / "hostile", tmp_path / "executed"
    good = corpus_of(folder, mark)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    limits = ("--max-pixels", str(max_pixels), "--um-per-px", "0.3125", "--tile-px", "256")
    ended = analyze(folder, *limits, "--annotated", "drawn")
    assert ended.code == 1, ended.text.decode(errors="replace")[-2000:]
    assert b"Traceback" not in ended.text
    assert ended.mebibytes < LIMIT_MIB
    assert not mark.exists()
    assert {row["image"].partition("#page=")[0] for row in ended.rows} == files  # each has its row
    by_image = {row["image"]: row for row in ended.rows}
    assert len(by_image) == len(ended.rows)
    for name, row in by_image.items():
        assert row["status"] in ("done", "failed", "excluded"), name
        assert "\n" not in row["reason"]
        assert len(row["reason"]) < 400
        # "unexpected" is what a defect of ours would be called
        assert not row["reason"].startswith("unexpected"), (name, row["reason"])
        if row["status"] == "failed":
            assert row["reason"], name
            assert row["cells"] == "", name
    for name in good:
        assert by_image[name]["status"] != "failed", by_image[name]["reason"]
    for name in files:
        if name.startswith(("impostors/", "bombs/header", "bombs/screen")):
            assert by_image[name]["status"] == "failed", name
    damaged = [row for name, row in by_image.items() if name.startswith("mutants/")]
    assert sum(row["status"] == "failed" for row in damaged) > len(damaged) / 4


def test_paths_of_every_bad_kind(
    tmp_path: Path, good_png: bytes, analyze: Callable[..., Ended]
) -> None:
    """Pipes, sockets, devices, loops of links, the longest names, names that command terminals."""
    image = good_png
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)  # addresses of sockets are short
        listener.bind("socket.png")
        os.chdir(tmp_path)
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "terminal.tif").symlink_to("/dev/tty")
    (folder / "one.png").symlink_to("two.png")
    (folder / "two.png").symlink_to("one.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "below").mkdir()
    (folder / "below" / "up").symlink_to("..", target_is_directory=True)
    (folder / "here").symlink_to(".", target_is_directory=True)
    names = [
        "n" * 251 + ".png", "é" * 120 + ".png", "line\nbreak.png", "bell\x07\x1b]0;title\x07.png",
        "\x1b[2J\x1b[31m.png", "-rf.png", "--out.png", "%s%n.png", "{0}.png", "a;b|c&d.png",
        "\u202egnp.exe.png", " .png", "caf\udce9.png", "..png", "CON.png", "#page=2.png",
        "$(touch executed).png",
    ]  # fmt: skip
    for number, name in enumerate(names):  # equal files would count as one
        path = folder / os.fsencode(name).decode(errors="surrogateescape")
        path.write_bytes(image + bytes([number]))
    deep, here = 0, os.open(folder, os.O_RDONLY)
    while deep < 14:  # a path near the 4,096 bytes that a system call takes
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, deep = below, deep + 1
    with open(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:
        file.write(image)
    os.close(here)

    tables = ("--annotated", "drawn", "--cells", "cells.csv", "--coco", "coco.json")
    ended = analyze("in", *tables, "--um-per-px", "0.3125")
    text = ended.text.decode("utf-8", "replace")
    assert ended.code in (0, 1), text[-2000:]
    assert "Traceback" not in text
    assert not any(code in ended.text for code in (b"\x1b", b"\x07", b"\r"))
    visible = [name for name in names if not name.startswith(".")]
    own = [row for row in ended.rows if "/" not in row["image"]]
    assert len(own) == len(visible)
    assert not (tmp_path / "executed").exists()
    for line in (
        "pipe.png: a pipe", "socket.png: a socket", "device.png: a device",
        "terminal.tif: a device", "one.png: a link that leads nowhere",
        "two.png: a link that leads nowhere", "gone.png: a link that leads nowhere",
    ):  # fmt: skip
        assert f"passed over: in/{line}\n" in text, line
    assert sum(row["image"].endswith("deep.png") for row in ended.rows) == 1
    drawn = [p for p in (tmp_path / "drawn").rglob("*") if p.is_file()]
    assert all(p.resolve().is_relative_to(tmp_path / "drawn") for p in drawn)


@pytest.mark.parametrize("name", ["pipe.png", "/dev/zero", "/dev/null", "loop.png", "n" * 4097])
def test_an_input_that_is_no_file_ends_at_once(
    tmp_path: Path, analyze: Callable[..., Ended], name: str
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    ended = analyze(name)
    assert ended.code in (2, 3), ended.text
    assert b"Traceback" not in ended.text
    assert ended.text.count(b"\n") <= 3
    assert ended.rows == []
