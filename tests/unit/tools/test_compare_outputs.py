"""Masks and comparison of the regression net: what is the same to it, and what is not."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tools.compared_cases import COMMANDS, all_cases
from tools.compared_files import DIFF_LINES, MASKS, compare_folders, compare_texts, masked

TEMPORARY = str(Path(tempfile.gettempdir(), tempfile.gettempprefix()))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    return tmp_path / "before", tmp_path / "after"


def journal(path: Path, rows: list[tuple[str, bytes]]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE result (name TEXT, cells BLOB)")
    connection.executemany("INSERT INTO result VALUES (?, ?)", rows)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"started": "2026-11-29T21:11:42+00:00"', '"started": "2027-01-02T03:04:05+00:00"'),
        ("4 images done, in 1.8 s (2.22 images/s)", "4 images done, in 12 s (1 images/s)"),
        ("loss 0.1684, seconds 0.4000, ap 0.5", "loss 0.1684, seconds 12.3000, ap 0.5"),
        ('"read_s": 0.12, "seconds": 3', '"read_s": 1e-05, "seconds": 1,234.5'),
        ('"cellcount": "0.1.0",', '"cellcount": "0.2.0",'),
        ("cellcount, version 0.1.0", "cellcount, version 0.2.0"),
        (f"written: {TEMPORARY}ab1_x/c.csv", f"written: {TEMPORARY}q9/c.csv"),
    ],
)  # fmt: skip
def test_what_differs_between_two_runs_is_masked(one: str, other: str) -> None:
    assert masked(one) == masked(other)


@pytest.mark.parametrize(
    "text",
    [
        "field-1.png,A-17,patient 1,done,,320,240,0.3125,1.766,3.825,143.3",
        "loss_classifier 1.2611, loss_box_reg 0.1684",
        "red cells 69 17.2 per image",
        '"versions": {"python": "3.11.7"}',
        '"rbc_diameter_px": 24.0, "score": 0.5015, "um_per_px": 0.2',
        "size 2.5 MB",
    ],
)
def test_results_are_not_masked(text: str) -> None:
    assert masked(text) == text


def test_every_mask_is_a_pattern_with_a_reason() -> None:
    for mask in MASKS:
        re.compile(mask.pattern)
        assert mask.reason


def test_progress_lines_come_or_not() -> None:
    whole = "Counting 6 images\n3 of 6 images, 1,143 cells, 2 images/s, 3 s left\nwritten: c.csv\n"
    assert masked(whole) == "Counting 6 images\nwritten: c.csv\n"
    done = "4 of 4 images done, 1 with a caution\n"
    assert masked(done) == done


def test_timed_columns_alone_are_masked() -> None:
    table = 'epoch,seconds,ap\n1,0.4,"0.5, a"\n'
    assert masked(table, "run/metrics.csv") == 'epoch,seconds,ap\n1,<duration>,"0.5, a"\n'
    other = table.replace("0.5", "0.6")
    assert masked(table, "run/metrics.csv") != masked(other, "run/metrics.csv")


def test_chain_of_a_control_log_is_masked_there_alone() -> None:
    row = "1,fail," + "0a" * 32
    assert masked(row, "files/control.csv") == "1,fail,<chain>"
    assert masked(row, "files/counts.csv") == row


def test_same_folders_have_no_difference(sides: tuple[Path, Path]) -> None:
    for number, folder in enumerate(sides):
        (folder / "counts.csv").write_text("image,cells\na.png,3\n")
        (folder / "picture.png").write_bytes(b"\x89PNG\xff")
        (folder / "run.json").write_text(f'{{"seconds": {number}}}')
    assert compare_folders(*sides) == {}


def test_each_kind_of_difference_is_told(sides: tuple[Path, Path]) -> None:
    before, after = sides
    for folder, cells in ((before, 3), (after, 4)):
        (folder / "counts.csv").write_text(f"image,cells\na.png,{cells}\n")
        (folder / "picture.png").write_bytes(b"\x89PNG\xff" + bytes([cells]))
        (folder / "ends.csv").write_bytes(b"a\r\n" if cells == 3 else b"a\n")
    (before / "gone.txt").write_text("x")
    (after / "new.txt").write_text("x")
    found = compare_folders(before, after)
    assert set(found) == {"counts.csv", "picture.png", "ends.csv", "gone.txt", "new.txt"}
    assert "-a.png,3" in found["counts.csv"]
    assert "+a.png,4" in found["counts.csv"]
    assert found["picture.png"] == ["picture.png: other bytes (6 and 6 bytes)"]
    assert "line ends" in found["ends.csv"][0]
    assert set(compare_folders(before, after, ["*.csv", "*.txt"])) == {"picture.png"}


def test_hash_of_a_file_with_a_time_may_differ(sides: tuple[Path, Path]) -> None:
    for day, folder in enumerate(sides, 1):
        content = f"reviewed at 2026-01-0{day}T10:00:00Z"
        (folder / "log.csv").write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        (folder / "run.json").write_text(json.dumps({"sha256": digest}))
    assert compare_folders(*sides) == {}
    (sides[1] / "run.json").write_text(json.dumps({"sha256": "0" * 64}))
    assert list(compare_folders(*sides)) == ["run.json"]


def test_journals_are_compared_by_their_rows(sides: tuple[Path, Path]) -> None:
    rows = [("a.png", b"\0\1"), ("b.png", b"\2")]
    journal(sides[0] / "c.journal.sqlite", rows)
    journal(sides[1] / "c.journal.sqlite", rows[::-1])
    assert compare_folders(*sides) == {}
    (sides[1] / "c.journal.sqlite").unlink()
    journal(sides[1] / "c.journal.sqlite", [("a.png", b"\0\1"), ("b.png", b"\3")])
    assert list(compare_folders(*sides)) == ["c.journal.sqlite"]


def test_hash_of_settings_that_name_new_weights_may_differ(sides: tuple[Path, Path]) -> None:
    for number, folder in enumerate(sides):
        (folder / "model.bin").write_bytes(bytes([255, number]))
        weights = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
        text = json.dumps({"detector": weights})
        digest = hashlib.sha256(text.encode()).hexdigest()
        connection = sqlite3.connect(folder / "c.sqlite")
        connection.execute("CREATE TABLE settings (sha256 TEXT, json TEXT)")
        connection.execute("INSERT INTO settings VALUES (?, ?)", (digest, text))
        connection.commit()
        connection.close()
    assert list(compare_folders(*sides)) == ["model.bin"]


def test_weights_are_compared_by_tensors_and_card(sides: tuple[Path, Path]) -> None:
    tensor = np.arange(6, dtype=np.float32)
    for day, folder in enumerate(sides, 1):
        card = json.dumps({"trained": f"2026-01-0{day}", "name": "m"})
        save_file({"weight": tensor}, folder / "m.safetensors", {"card": card})
        state = {"weight": torch.arange(6), "rows": [{"seconds": float(day), "ap": 0.5}]}
        torch.save(state, folder / "last.checkpoint")
    assert compare_folders(*sides) == {}
    save_file({"weight": tensor + 1}, sides[1] / "m.safetensors", {"card": card})
    torch.save(state | {"rows": [{"ap": 0.6}]}, sides[1] / "last.checkpoint")
    assert set(compare_folders(*sides)) == {"m.safetensors", "last.checkpoint"}


def test_diffs_are_short_and_show_where_long_lines_part() -> None:
    old, new = ("\n".join(f"{side} {n}" for n in range(100)) for side in "ab")
    lines = compare_texts(old, new, "x")
    assert len(lines) == DIFF_LINES + 1
    assert lines[-1] == "..."
    long = "0" * 1000
    shown = compare_texts(f"{long}1{long}", f"{long}2{long}", "x")
    assert any("01" in line for line in shown if line.startswith("-"))
    assert max(map(len, shown)) < 300


def test_a_document_on_one_line_is_compared_entry_by_entry() -> None:
    old, new = (json.dumps([*range(1000), end]) for end in (1, 2))
    assert [line.strip("-+ ") for line in compare_texts(old, new, "x")[-2:]] != []
    assert "- 1" in compare_texts(old, new, "x")
    assert "+ 2" in compare_texts(old, new, "x")


def test_cases_have_names_of_their_own_and_change_with_their_steps() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert len({case.fingerprint() for case in cases}) == len(cases)


def test_help_of_every_command_is_compared(repo_root: Path) -> None:
    documented = re.findall(
        r"^## cellcount (.+)$", (repo_root / "docs/commands.md").read_text("utf-8"), re.MULTILINE
    )
    assert set(documented) <= set(COMMANDS)
