"""A run that stopped on its way says of every slide how far it came, in every output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.comparison.count_tables import read_count_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]


@pytest.fixture
def stopped(slides: Path, run: Run) -> str:
    """A run that ended at the second of three fields of slide a; what it said on stderr."""
    shutil.copy(slides / "b/x.png", slides / "a/3.png")
    (slides / "a/2.jpg").write_bytes(b"")
    code, _, err = run(
        *(slides, "--out", "o.csv", "--slides", "s.csv", "--report", "r.html"),
        *("--max-failure-rate", "0", "--workers", "1"),
    )
    assert code == 4
    return err


def test_every_slide_says_fields_known_analysed_and_outstanding(stopped: str, rows: Rows) -> None:
    assert "not final yet, and marked so: slide a (1 outstanding)" in stopped
    found = {(r["level"], r["slide"]): r for r in rows("s.csv")}
    numbers = {
        who: tuple(row[f"fields_{what}"] for what in ("known", "analysed", "outstanding"))
        for who, row in found.items()
    }
    assert numbers["slide", "a"] == ("3", "1", "1")
    assert numbers["slide", "b"] == ("1", "0", "1")
    assert numbers["run", ""] == ("6", "1", "4")


def test_numbers_of_an_unfinished_slide_are_marked_in_every_output(
    stopped: str, rows: Rows
) -> None:
    advice = {r["slide"]: r["note"] for r in rows("s.csv") if r["row"] == "unfinished"}
    assert advice["a"] == (
        "unfinished: 1 of 3 fields have no result yet, so these numbers are not final; give the "
        "same command again"
    )
    assert [r["status"] for r in rows("o.csv")] == ["done", "failed", *["outstanding"] * 4]
    assert all(r["cells"] == "" for r in rows("o.csv")[1:])  # not 0
    page = Path("r.html").read_text("utf-8")
    assert "Slide a (unfinished)" in page
    assert "1 of 3 fields analysed" in page
    assert "Unfinished: 4 of 6 fields have no result yet" in page
    outcomes = json.loads(Path("o.run.json").read_text("utf-8"))["outcomes"]
    assert outcomes["outstanding"] == 4
    assert {"specimen": "", "slide": "a", "outstanding": 1} in outcomes["unfinished_slides"]


def test_a_finished_run_is_not_called_unfinished(
    stopped: str, slides: Path, run: Run, rows: Rows
) -> None:
    shutil.copy(slides / "b/x.png", slides / "a/2.png")
    (slides / "a/2.jpg").unlink()
    _, _, err = run(slides, "--out", "o.csv", "--slides", "s.csv", "--report", "r.html")
    assert "outstanding" not in err
    assert {r["fields_outstanding"] for r in rows("s.csv")} == {"0"}
    assert "unfinished" not in Path("r.html").read_text("utf-8")


def test_evaluate_counts_warns_of_unfinished_slides(tmp_path: Path) -> None:
    table = tmp_path / "ours.csv"
    header = "slide,row,percent,n,denominator,fields_known,fields_outstanding\n"
    table.write_text(header + "a,lymphocytes,50,1,2,3,1\nb,lymphocytes,50,1,2,3,0\n")
    notes = read_count_table(table).notes
    assert "unfinished when it was written, so its numbers are not final: a" in notes
