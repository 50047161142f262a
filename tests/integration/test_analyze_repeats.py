"""Repeated commands give the same bytes: any workers, any order, after any interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cellcount import cli
from tests.tables import read_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

TABLES = ("counts.csv", "cells.csv", "coco.json")
OUTPUTS = ("--out", "counts.csv", "--cells", "cells.csv", "--coco", "coco.json")


def outputs(folder: Path = Path()) -> dict[str, bytes]:
    """Every output but run.json, which holds times."""
    drawn = sorted((folder / "drawn").rglob("*.png"))
    files = [*(folder / name for name in TABLES), *drawn]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def add_fields(slides: Path) -> None:
    """Twenty more fields and, early among them, one that cannot be read."""
    for number in range(20):
        source = sorted(path for path in slides.rglob("*.*") if path.is_file())[number % 5]
        copy = slides / f"m{number:02d}{source.suffix}"
        copy.write_bytes(source.read_bytes() + bytes([number]))  # not one byte for byte
    (slides / "m04-broken.png").write_bytes(b"")


@pytest.fixture
def many(slides: Path) -> Path:
    """25 fields and one that cannot be read."""
    add_fields(slides)
    return slides


@pytest.fixture(scope="module")
def uninterrupted(
    pristine: Path, toy: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Every output of a run of the same fields that nothing stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        add_fields(shutil.copytree(pristine, Path("slides")))
        models = ["--detector", toy, "--classifier", "none"]
        assert cli.main(["analyze", *models, "slides", *OUTPUTS, "--annotated", "drawn"]) == 1
        return outputs()


def run_to(folder: str, run: Run, *arguments: str | Path) -> dict[str, bytes]:
    base = Path(folder)
    named = [
        "--out", base / "counts.csv", "--cells", base / "cells.csv", "--coco", base / "coco.json",
        "--annotated", base / "drawn",
    ]  # fmt: skip
    code, _, err = run(*arguments, *named)
    assert code == 0, err
    return outputs(base)


def test_workers_order_and_repetition_change_no_byte(slides: Path, run: Run) -> None:
    first = run_to("one", run, slides / "a", slides / "b", "--workers", "1")
    assert len(first) == len(TABLES) + 4
    assert run_to("four", run, slides / "a", slides / "b", "--workers", "4") == first
    assert run_to("turned", run, slides / "b", slides / "a") == first
    assert run_to("one", run, slides / "a", slides / "b") == first  # again, from its journal
    assert run_to("one", run, slides / "a", slides / "b", "--fresh") == first


def test_a_pattern_and_a_manifest_name_the_same_images(slides: Path, run: Run) -> None:
    whole = run_to("folder", run, slides)
    assert run_to("pattern", run, "slides/**/*.*") == whole
    names = sorted((p for p in slides.rglob("*.*") if p.is_file()), reverse=True)
    lines = ["path,slide", *(f"{p.relative_to(slides)},{slide_of(p, slides)}" for p in names)]
    (slides / "m.csv").write_text("\n".join(lines) + "\n")
    assert run_to("manifest", run, slides / "m.csv") == whole


def slide_of(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix()
    return root.name if folder == "." else folder


def test_another_batch_size_gives_the_same_cells(slides: Path, run: Run) -> None:
    tables = []
    for size in ("1", "3"):
        run(slides, "--out", f"{size}.csv", "--cells", f"{size}c.csv", "--batch-size", size)
        tables.append(read_table(Path(f"{size}c.csv")))
    one, three = tables
    assert len(one) == len(three) > 50
    assert (one["label"] == three["label"]).all()
    assert (one["score"] - three["score"]).abs().max() <= 1e-3
    assert (one["x_min_px"] - three["x_min_px"]).abs().max() <= 0.05


def interrupted(toy: str, how: signal.Signals) -> tuple[int, str]:
    """Starts the run in a process of its own and stops it at the broken field.

    Its exit code, and what it said from there on.
    """
    arguments = ["analyze", "slides", *OUTPUTS, "--annotated", "drawn", "--detector", toy]
    arguments += ["--classifier", "none"]
    command = [sys.executable, "-m", "cellcount", *arguments]
    # A shell's background jobs ignore SIGINT, and so would their children: this test's process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("failed: m04-broken.png"):
            process.send_signal(how)
            break
    said = process.communicate(timeout=600)[1]
    return process.returncode, said


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["ctrl-c", "terminated", "killed"],
)
def test_an_interrupted_run_goes_on_and_ends_the_same(
    many: Path,
    run: Run,
    rows: Rows,
    toy: str,
    uninterrupted: dict[str, bytes],
    how: signal.Signals,
    code: int,
) -> None:
    ended, said = interrupted(toy, how)
    assert ended == code, said
    if how is not signal.SIGKILL:  # what was finished is in the tables already
        assert "Stopping after the images in hand" in said
        assert "give the same command again to go on" in said
        partial = rows("counts.csv")
        assert len(partial) == 26
        assert 4 <= sum(row["status"] != "outstanding" for row in partial) < 26
        record = json.loads(Path("counts.run.json").read_text())
        assert record["interrupted"] is True
        assert record["outcomes"]["images"] == 26
    ended, _, err = run(many, *OUTPUTS, "--annotated", "drawn")
    assert ended == 1  # the broken field
    assert "going on: " in err
    resumed = outputs()
    assert resumed["counts.csv"].count(b"\n") == 27
    assert resumed == uninterrupted


def test_other_settings_are_done_anew_and_the_earlier_ones_kept(slides: Path, run: Run) -> None:
    run(slides, "--out", "o.csv")
    before = Path("o.csv").read_bytes()
    code, _, err = run(slides, "--out", "o.csv", "--min-score", "0.9")
    assert code == 0
    assert "other settings than the run before, whose results are kept beside" in err
    assert "min_score: none -> 0.9" in err
    assert "going on" not in err
    assert Path("o.csv").read_bytes() != before
    code, _, err = run(slides, "--out", "o.csv")
    assert "going on: 5 of 5 images done before" in err
    assert Path("o.csv").read_bytes() == before
    code, _, err = run(slides, "--out", "o.csv", "--fresh")
    assert (code, "going on" in err) == (0, False)
    assert Path("o.csv").read_bytes() == before


def test_changed_images_are_done_again_and_said(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, "--out", "o.csv")
    moved = slides.rename("elsewhere")
    code, _, err = run(moved, "--out", "o.csv")  # other paths, other slide names at the top
    assert code == 0
    assert "changed" in err  # c.bmp, whose slide is called by the folder
    moved.rename("slides")
    run("slides", "--out", "o.csv")
    for path in sorted(p for p in slides.rglob("*.*") if p.is_file()):
        os.utime(path, (1, 1))
    code, _, err = run(slides, "--out", "o.csv")
    assert "going on: 5 of 5 images done before" in err
    shutil.copy(slides / "a/1.png", slides / "b/x.png")
    code, _, err = run(slides, "--out", "o.csv")
    assert "changed since it was analysed, done again: b/x.png" in err
    found = {row["image"]: row["cells"] for row in rows("o.csv")}
    assert found["b/x.png"] == found["a/1.png"]


def test_a_folder_that_grows_costs_only_what_is_new(slides: Path, run: Run) -> None:
    run(slides, "--out", "o.csv")
    shutil.copytree(slides / "a", slides / "new")
    code, out, err = run(slides, "--out", "o.csv")
    assert code == 0
    assert "going on: 5 of 7 images done before" in err
    assert "2 now in" in out
    run(slides, "--out", "straight.csv")
    assert Path("o.csv").read_bytes() == Path("straight.csv").read_bytes()


def test_a_slide_scanned_anew_at_another_scale_is_measured_anew(
    slides: Path, run: Run, rows: Rows
) -> None:
    """Its old factor would be wrong for every field, those that stayed among them."""
    run(slides, "--out", "o.csv")
    for path in (slides / "a").iterdir():
        with Image.open(path) as image:
            larger = image.resize((image.width * 2, image.height * 2))
        larger.save(path)
    code, _, err = run(slides, "--out", "o.csv")
    assert code == 0
    assert "slide a has another scale since files of it changed: all of it is done again" in err
    run(slides, "--out", "straight.csv")
    assert Path("o.csv").read_bytes() == Path("straight.csv").read_bytes()


def test_the_lock_of_a_killed_run_is_reported(slides: Path, run: Run) -> None:
    note = {"host": "node7", "pid": 4711, "started": "2026-01-02T03:04:05+00:00"}
    Path("o.journal.sqlite.lock").write_text(json.dumps(note))
    code, _, err = run(slides, "--out", "o.csv")
    assert code == 0
    assert "the lock of process 4711 on node7, started 2026-01-02T03:04:05+00:00" in err
    assert not Path("o.journal.sqlite.lock").exists()


def test_failed_images_are_tried_again(slides: Path, run: Run, rows: Rows) -> None:
    whole = (slides / "c.bmp").read_bytes()
    (slides / "c.bmp").write_bytes(whole[:100])
    assert run(slides, "--out", "o.csv")[0] == 1
    (slides / "c.bmp").write_bytes(whole)
    code, _, err = run(slides, "--out", "o.csv")
    assert code == 0
    assert "going on: 4 of 5 images done before" in err
    assert rows("o.csv")[-1]["status"] == "done"


def test_two_runs_of_one_output_do_not_meet(slides: Path, run: Run, toy: str) -> None:
    from cellcount.store.journal import Journal

    with Journal.open(Path("o.journal.sqlite"), {}):
        code, _, err = run(slides, "--out", "o.csv")
    assert code == 3
    assert "in use by process" in err


def test_runs_of_different_outputs_do_not_write_one_table(slides: Path, run: Run) -> None:
    program = "import sys; from pathlib import Path; from cellcount.files.locks import locked"
    program += "\nwith locked([Path('all.csv')]): print(1, flush=True); sys.stdin.read()"
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        code, _, err = run(slides, "--out", "o.csv", "--cells", "all.csv")
        other.communicate()
    assert code == 3
    assert "all.csv is being written by process" in err
    assert not Path("all.csv").exists()
    assert run(slides, "--out", "o.csv", "--cells", "all.csv")[0] == 0
    assert not list(Path().glob("*.lock"))
