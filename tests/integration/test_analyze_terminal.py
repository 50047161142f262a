"""Output of ``analyze`` at a terminal and in the log of a batch job."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(arguments: list[str]) -> tuple[int, str]:
    """Exit code and everything shown on a pseudo-terminal of 100 columns."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cellcount", *arguments],
        stdin=slave, stdout=slave, stderr=slave, env=environment,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    return process.wait(timeout=60), shown.decode()


def test_a_terminal_gets_a_bar_and_a_table(slides: Path, toy: str) -> None:
    (slides / "bad.png").write_bytes(b"")
    code, shown = on_a_terminal(["analyze", str(slides), "--out", "o.csv", "--detector", toy])
    assert code == 1
    assert "\x1b[" in shown
    text = ESCAPES.sub("", shown).replace("\r", "\n")
    assert "Counting" in text
    assert "6/6" in text
    assert re.search(r"[\d.]+ images/s", text)
    assert "failed: bad.png: empty file" in text
    assert "5 of 6 images done, 1 failed, in " in text
    table = text[text.index("per image") :]
    assert [re.split(r"\s{2,}", line.strip())[0] for line in table.splitlines() if " cells" in line]
    for name in ("red cells", "white cells", "platelets", "all cells"):
        assert re.search(rf"^ *{name} +[\d,]+ +[\d.,]+ *$", table, re.MULTILINE)
    assert "written: o.csv, o.run.json" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_batch_job_gets_plain_lines(slides: Path, run: Run) -> None:
    (slides / "bad.png").write_bytes(b"")
    code, out, err = run(slides, "--out", "o.csv")
    assert code == 1
    assert err == "Counting 6 images\nfailed: bad.png: empty file\n"
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("5 of 6 images done, 1 failed, in ")
    rows = [re.fullmatch(r"  (.+?) +([\d,]+) +([\d,.]+) per image", line) for line in lines[1:5]]
    names, cells = zip(
        *((row[1], int(row[2].replace(",", ""))) for row in rows if row), strict=True
    )
    assert names == ("red cells", "white cells", "platelets", "all cells")
    assert sum(cells[:3]) == cells[3]
    assert len({len(line) for line in lines[1:5]}) == 1  # aligned
    assert lines[5:] == ["failed: bad.png: empty file", "written: o.csv, o.run.json"]


def test_help_explains_inputs_exit_codes_and_every_option(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 100
    for words in ("manifest", "column path", "130 interrupted", "goes on where it stopped"):
        assert words in " ".join(out.split()), words
