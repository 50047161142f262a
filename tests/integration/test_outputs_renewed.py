"""Outputs of an earlier run on the same --out never tell older numbers than the table beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]


def test_a_report_that_is_not_asked_for_again_is_written_again(slides: Path, run: Run) -> None:
    run(slides / "a", "--out", "o.csv", "--report", "r.html", "--annotated", "drawn")
    assert "2 of 2 analysed" in Path("r.html").read_text("utf-8")
    shutil.copy(slides / "b/x.png", slides / "a/3.png")
    _, out, err = run(slides / "a", "--out", "o.csv")
    assert "3 of 3 analysed" in Path("r.html").read_text("utf-8")
    assert len(list(Path("drawn").rglob("*.png"))) == 3
    assert "also written again, since the run before wrote it: r.html, drawn" in err
    assert "r.html" in out.partition("written: ")[2]


def test_sheets_of_a_workbook_that_are_not_asked_for_again_stay_in_it(
    slides: Path, run: Run
) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs openpyxl (extra: excel)")
    run(slides / "a", "--out", "run.xlsx", "--cells", "run.xlsx", "--slides", "run.xlsx")
    shutil.copy(slides / "b/x.png", slides / "a/3.png")
    code, _, err = run(slides / "a", "--out", "run.xlsx", "--cells", "run.xlsx")
    assert code == 0
    assert "written again" not in err
    book = openpyxl.load_workbook("run.xlsx")
    assert book.sheetnames == ["counts", "cells", "slides", "columns"]
    assert book["counts"].max_row == 4


def test_a_workbook_of_several_sheets_is_named_once(slides: Path, run: Run) -> None:
    pytest.importorskip("openpyxl", reason="needs openpyxl (extra: excel)")
    run(slides / "a", "--out", "o.csv", "--cells", "b.xlsx", "--slides", "b.xlsx")
    _, _, err = run(slides / "a", "--out", "o.csv")
    assert "since the run before wrote it: b.xlsx; delete" in err


def test_a_report_that_was_deleted_stays_away(slides: Path, run: Run) -> None:
    run(slides / "a", "--out", "o.csv", "--report", "r.html")
    Path("r.html").unlink()
    _, _, err = run(slides / "a", "--out", "o.csv")
    assert not Path("r.html").exists()
    assert "r.html" not in err


def test_a_report_under_another_name_leaves_the_first_named_as_old(slides: Path, run: Run) -> None:
    run(slides / "a", "--out", "o.csv", "--report", "r.html")
    before = Path("r.html").read_bytes()
    _, _, err = run(slides / "a", "--out", "o.csv", "--report", "new.html")
    assert "of an earlier run, not written again, and old now: r.html; delete it" in err
    assert Path("r.html").read_bytes() == before


def test_a_review_after_a_run_without_report_renews_the_report(
    slides: Path,
    run: Run,
    colour_weights: Path,
    classifier_plugins: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def typed(*more: str) -> None:
        models = ("--classifier", colour_weights, "--plugins", classifier_plugins)
        code, _, err = run(slides / "a", "--out", "o.csv", *models, *more)
        assert code == 0, err

    typed("--report", "r.html", "--slides", "s.csv")
    typed("--slides", "s.csv")
    assert cli.main(["review", "export", "o.csv", "--out", "rev", "--all"]) == 0
    table = Path("rev/corrections.csv")
    header, first, *_ = table.read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    cells["corrected_type"] = "blasts"
    table.write_text("\n".join([header, ",".join(cells.values())]) + "\n")
    assert cli.main(["review", "apply", "o.csv", str(table), "--reviewer", "AB"]) == 0
    assert "1 by AB" in Path("r.html").read_text("utf-8")
