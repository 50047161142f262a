"""``control run`` and ``control history``: located cells, drift, a log that is never rewritten."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile

from cellcount import cli
from cellcount.analysis.progress import SilentProgress
from cellcount.control.control_log import append_to_log, read_control_log
from cellcount.control.run import ControlRequest, run_control
from cellcount.outputs.columns import Value
from cellcount.rendering.field import FieldSpec, RenderedField, render_field
from cellcount.settings import AnalyzeSettings

Control = Callable[..., tuple[int, str, str]]
Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]


@pytest.fixture
def control(toy: str, capfd: pytest.CaptureFixture[str]) -> Control:
    def call(command: str, *arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        models = ["--detector", toy, "--classifier", "none"] if command == "run" else []
        code = cli.main(["control", command, *models, *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def expected(slides: Path, run: Run, rows: Rows) -> Path:
    """The white cells that the detector finds are known, as after a careful review."""
    assert run(slides, "--out", "o/counts.csv", "--cells", "o/cells.csv")[0] == 0
    write("expected.csv", [c for c in rows("o/cells.csv") if c["label"] == "wbc"])
    return Path("expected.csv")


def write(path: str, cells: list[dict[str, str]], extra: int = 0) -> Path:
    """A list of points, with some where nothing is."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "x", "y"])
        for cell in cells:
            x, y = (float(cell[f"{a}_min_px"]) + float(cell[f"{a}_max_px"]) for a in "xy")
            writer.writerow([cell["image"], x / 2, y / 2])
        for _ in range(extra):
            writer.writerow([cells[0]["image"], -50, -50])
    return Path(path)


def test_a_run_passes_and_is_logged(
    control: Control, expected: Path, rows: Rows, rendered: dict[str, RenderedField]
) -> None:
    known = len(rows(expected))
    assert known > 3
    code, out, _ = control("run", "slides", "--expected", expected)
    assert code == 0
    assert out.startswith("PASS  slides\n")
    assert f"located  {known} of {known}, 100.0 %" in out
    (row,) = read_control_log(Path("control.csv")).rows
    cells = rows("o/cells.csv")
    counted = "; ".join(
        f"{name}={sum(c['label'] == name for c in cells)}" for name in ("rbc", "wbc", "platelet")
    )
    assert row["counts"] == counted
    assert row["fields_done"] == row["fields"] == len(rendered)
    assert row["agreed_percent"] is None
    low = known / (known + 1.96**2)  # Wilson's lower limit of all out of all
    assert row["located_low"] == pytest.approx(100 * low, abs=0.02)
    before = Path("control.csv").read_bytes()
    assert control("run", "slides", "--expected", expected)[0] == 0
    assert Path("control.csv").read_bytes().startswith(before)
    assert len(read_control_log(Path("control.csv")).rows) == 2


def test_a_slide_too_large_for_memory_is_read_by_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: str, run: Run, rows: Rows
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = render_field(FieldSpec(620, 450, 5, 24, 0.3, 6, 12, debris=0)).pixels
    tifffile.imwrite("a.tif", pixels, photometric="rgb", tile=(64, 64))
    assert run("a.tif", "--out", "counts.csv", "--cells", "cells.csv")[0] == 0
    expected = write("expected.csv", [c for c in rows("cells.csv") if c["label"] == "wbc"])
    settings = AnalyzeSettings(detector=toy, classifier="none", max_pixels=150_000)
    request = ControlRequest(("a.tif",), expected, Path("control.csv"), settings)
    row = run_control(request, SilentProgress()).row
    assert row["fields_done"] == row["fields"] == 1
    assert row["located"] == row["known"] == len(rows(expected)) > 3


def test_a_missed_cell_and_a_lost_field_fail(control: Control, expected: Path, rows: Rows) -> None:
    wbc = [c for c in rows("o/cells.csv") if c["label"] == "wbc"]
    more = write("more.csv", wbc, extra=1)
    code, out, _ = control("run", "slides", "--expected", more, "--log", "l/c.csv")
    assert code == 1
    assert f"{len(wbc)} of {len(wbc) + 1} known white cells located" in out
    assert "missed" in out
    Path("slides/c.bmp").write_bytes(b"")
    code, out, _ = control("run", "slides", "--expected", expected, "--log", "l/c.csv")
    assert code == 1
    assert "c.bmp failed: empty file" in out
    assert [r["result"] for r in read_control_log(Path("l/c.csv")).rows] == ["fail", "fail"]


def test_drift_fails_a_run_that_locates_all(control: Control, expected: Path) -> None:
    log = Path("control.csv")
    assert control("run", "slides", "--expected", expected)[0] == 0
    first = dict(read_control_log(log).rows[0])
    last = read_control_log(log).last_sha256
    counts = {name: int(n) for name, _, n in (p.partition("=") for p in _parts(first))}
    for run in range(2, 12):  # ten more days on which there were 20 red cells more
        more = counts | {"rbc": counts["rbc"] + 20}
        text = "; ".join(f"{name}={n}" for name, n in more.items())
        row: dict[str, Value] = {**first, "run": run, "counts": text, "baseline": 2}
        last = append_to_log(log, row, last)
    code, out, _ = control("run", "slides", "--expected", expected)
    assert code == 1
    assert "n_rbc" in out
    assert "rule 1_3s" in out
    code, out, _ = control("run", "slides", "--expected", expected, "--new-baseline")
    assert code == 0
    assert "drift    judged after 10 more runs that pass" in out
    drawn = control("history", log, "--out", "h.html")
    assert drawn[0] == 0
    assert "chain of 13 runs is sound" in drawn[1]
    page = Path("h.html").read_text("utf-8")
    assert 'src="http' not in page
    assert page.count("<tr>") == 14
    assert control("history", log, "--out", "h.png")[0] == 0
    assert Path("h.png").read_bytes().startswith(b"\x89PNG")


def _parts(row: dict[str, Value]) -> list[str]:
    return str(row["counts"]).split("; ")


def test_a_changed_log_is_told_and_never_continued(control: Control, expected: Path) -> None:
    log = Path("control.csv")
    for _ in range(2):
        control("run", "slides", "--expected", expected)
    text = log.read_text("utf-8")
    log.write_text(text.replace(",pass,", ",fail,", 1), "utf-8")
    changed = log.read_bytes()
    code, _, err = control("run", "slides", "--expected", expected)
    assert code == 3
    assert "run 1 does not continue the row before it" in err
    assert log.read_bytes() == changed
    code, out, _ = control("history", log)
    assert code == 1
    assert "The chain is broken" in out


def test_what_does_not_belong_together_is_said(
    control: Control, slides: Path, tmp_path: Path
) -> None:
    Path("e.csv").write_text("image,x,y\nother.png,1,1\n", "utf-8")
    code, _, err = control("run", slides, "--expected", "e.csv")
    assert code == 2
    assert "no image of the slide is called so" in err
    assert not Path("control.csv").exists()


def test_the_reviewed_cells_of_a_larger_run_are_a_list_for_one_slide(
    control: Control, slides: Path, run: Run, rows: Rows
) -> None:
    """Its names begin with more folders, and its other slides have images of the same name."""
    (slides / "b" / "1.png").write_bytes((slides / "c.bmp").read_bytes())
    assert run(slides, "--out", "o/counts.csv", "--cells", "o/cells.csv")[0] == 0
    white = [c for c in rows("o/cells.csv") if c["label"] == "wbc"]
    own = [c for c in white if c["image"].startswith("a/")]
    code, out, err = control("run", "slides/a", "--expected", "o/cells.csv")
    assert code == 0, err
    assert f"located  {len(own)} of {len(own)}, 100.0 %" in out
    assert f"list     {len(white) - len(own)} cells of other slides passed over" in out
