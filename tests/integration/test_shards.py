"""Shards and their merge: the same bytes as one run, or a refusal that says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.analysis.stored_run import StoredRun
from cellcount.shards import Shard
from cellcount.store.file_key import image_key
from cellcount.store.journal import Journal
from cellcount.store.remarks import Remark, slide_subject

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]
Merge = Callable[..., tuple[int, str, str]]

TABLES = ("counts.csv", "cells.csv", "coco.json", "slides.csv", "report.html")
OUTPUTS = ("--out", "--cells", "--coco", "--slides", "--report")


def named(folder: Path) -> list[str | Path]:
    return [x for pair in zip(OUTPUTS, (folder / t for t in TABLES), strict=True) for x in pair]


def read_all(folder: Path) -> dict[str, bytes]:
    """The outputs, but for the date of the report: each journal keeps its own."""
    found = {name: (folder / name).read_bytes() for name in TABLES}
    dated = rb"<dt>Date</dt><dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC</dd>"
    found["report.html"], dates = re.subn(dated, b"", found["report.html"])
    assert dates == 1
    return found


@pytest.fixture
def merge(capfd: pytest.CaptureFixture[str]) -> Merge:
    """``merge("parts", "--out", ...)`` → exit code, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["merge", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def parts(slides: Path, run: Run) -> Path:
    """Three finished shards in the folder ``parts``, one field broken."""
    (slides / "b" / "broken.png").write_bytes(b"")
    for number in (1, 2, 3):
        run(slides, "--shard", f"{number}/3", "--out", f"parts/{number}.csv")
    return Path("parts")


def test_shards_merge_to_the_bytes_of_one_run(
    slides: Path, parts: Path, run: Run, rows: Rows, merge: Merge
) -> None:
    one = Path("one")
    one.mkdir()
    assert run(slides, *named(one))[0] == 1
    counted = [row["image"] for n in (1, 2, 3) for row in rows(f"parts/{n}.csv")]
    assert sorted(counted) == sorted(row["image"] for row in rows(one / "counts.csv"))
    merged = Path("merged")
    code, out, err = merge("parts", *named(merged))
    assert code == 1, err  # the broken field
    assert out.startswith("5 of 6 images done, 1 failed")
    assert read_all(merged) == read_all(one)
    record = json.loads((merged / "counts.run.json").read_text())
    assert record["settings"]["merged_shards"] == 3
    assert record["outcomes"]["images"] == 6
    # Named one by one in any order, and a second time: the same.
    names = ["parts/3.csv", "parts/1.csv", "parts/2.journal.sqlite"]
    assert merge(*names, *named(merged))[0] == 1
    assert read_all(merged) == read_all(one)
    # A run of all images goes on from it: nothing but the broken field is left to do.
    code, _, err = run(slides, *named(merged))
    assert "going on: 5 of 6 images done before" in err
    assert read_all(merged) == read_all(one)


def test_remarks_of_people_on_the_images_of_shards_come_into_the_merge_once(
    slides: Path, parts: Path, run: Run, rows: Rows, merge: Merge
) -> None:
    assert merge("parts", "--out", "m/c.csv", "--slides", "m/s.csv")[0] == 1
    numbers = [r for r in rows("m/s.csv") if r["level"] == "slide" and r["slide"] == "a"]
    about = ("level", "specimen", "slide", "profile")
    signed = [{k: v for k, v in r.items() if v and k not in about} for r in numbers]
    said = {"person": "A. Smith", "made_at": "2026-02-01T09:30:00+00:00"}
    with Journal.reopen(Path("parts/1.journal.sqlite")) as first:
        ref = StoredRun.read(first).refs[0]
        key = image_key(first.contents([ref.image])[ref.image], ref.page, ref.image)
        flag = Remark(
            kind="flag", subject=key, facts={"flag": "platelet_clumps", "is_up": True}, **said
        )
        first.add_edits((), remarks=[flag])
    with Journal.reopen(Path("parts/2.journal.sqlite")) as second:
        subject = slide_subject("", "a")
        second.add_edits(
            (), remarks=[Remark(kind="approve", subject=subject, facts={"rows": signed}, **said)]
        )
    for _ in range(2):
        assert merge("parts", "--out", "m/c.csv", "--slides", "m/s.csv")[0] == 1
        (flagged,) = (r for r in rows("m/c.csv") if "platelet clumps seen by" in r["reason"])
        assert flagged["image"] == ref.image
        (words,) = (r["note"] for r in rows("m/s.csv") if r["row"] == "approval")
        assert words == "approved by A. Smith, 2026-02-01T09:30:00+00:00"
        assert {r["version"] for r in rows("m/c.approvals.csv")} == {"1"}


def test_a_merge_codes_the_pattern_of_slides_too(slides: Path, run: Run, merge: Merge) -> None:
    pattern = ("--slide-from", "(?P<slide>Meier|.)")
    for number in (1, 2):
        run(slides, *pattern, "--shard", f"{number}/2", "--out", f"parts/{number}.csv")
    assert merge("parts", "--out", "m/counts.csv", "--pseudonymize", "keys/key.json")[0] == 0
    assert "Meier" not in Path("m/counts.run.json").read_text("utf-8")
    assert "Meier" in Path("keys/key.json").read_text("utf-8")


def test_the_scale_of_a_slide_is_the_same_in_every_shard(
    slides: Path, run: Run, rows: Rows
) -> None:
    """Each shard holds a part of the slide, but measures it on the fields that one run would."""
    sources = sorted(p for p in slides.rglob("*.png"))
    for number in range(6):
        shutil.copy(sources[number % len(sources)], slides / "a" / f"more{number}.png")
    run(slides, "--out", "one.csv")
    whole = {row["image"]: row["scale_factor"] for row in rows("one.csv")}
    found: dict[str, str] = {}
    for number in (1, 2, 3, 4):
        run(slides, "--shard", f"{number}/4", "--out", f"{number}.csv")
        found |= {row["image"]: row["scale_factor"] for row in rows(f"{number}.csv")}
    assert found == whole


def test_what_does_not_belong_together_is_refused(
    slides: Path, parts: Path, run: Run, merge: Merge
) -> None:
    def refused(*arguments: str | Path) -> str:
        code, _, err = merge(*arguments, "--out", "merged.csv")
        assert code in (2, 3)
        assert not Path("merged.csv").exists()
        return " ".join(err.split())

    assert "of 3 shards 1 are missing: 2" in refused("parts/1.csv", "parts/3.csv")
    for end in (".csv", ".journal.sqlite"):
        shutil.copy(f"parts/2{end}", f"parts/again{end}")
    assert "shard 2/3 is there 2 times" in refused("parts")
    Path("parts/again.journal.sqlite").unlink()

    run(slides, "--shard", "1/2", "--out", "other.csv")
    assert "different divisions" in refused("parts", "other.csv")
    run(slides, "--out", "whole.csv")
    assert "of no shard but of a run of all images" in refused("parts", "whole.csv")
    assert "there is no journal" in refused("parts", "nowhere.csv")
    Path("empty").mkdir()
    assert "a folder without a journal" in refused("empty")

    run(slides, "--shard", "2/3", "--out", "parts/2.csv", "--min-score", "0.9")
    assert "min_score: none -> 0.9" in refused("parts")
    run(slides, "--shard", "2/3", "--out", "parts/2.csv")  # what it had is still there
    (slides / "new.bmp").write_bytes((slides / "c.bmp").read_bytes() + b"new")
    run(slides, "--shard", "2/3", "--out", "parts/2.csv")
    assert "saw different images, 6 and 7 in all" in refused("parts")
    for number in (1, 3):
        run(slides, "--shard", f"{number}/3", "--out", f"parts/{number}.csv")
    assert merge("parts", "--out", "merged.csv")[0] == 1


def test_an_unfinished_shard_is_named(slides: Path, parts: Path, merge: Merge) -> None:
    number = next(n for n in (1, 2, 3) if Shard(n, 3).holds("a/1.png"))
    with Journal.reopen(Path(f"parts/{number}.journal.sqlite")) as journal:
        journal.set_value("note", "as if it had been killed", forget=["a/1.png"])
    code, _, err = merge("parts", "--out", "merged.csv")
    assert code == 3
    assert f"shard {number}/3 is not finished, 1 of" in err


def test_shards_that_measured_a_slide_differently_are_refused(parts: Path, merge: Merge) -> None:
    with Journal.reopen(Path("parts/2.journal.sqlite")) as journal:
        journal.set_value("scale:a", {"factor": 3.0, "sample": {}})
    code, _, err = merge("parts", "--out", "merged.csv")
    assert code == 3
    assert "different scales for slide a" in err
    assert "--fresh" in err


def test_a_merge_replaces_no_other_run(slides: Path, parts: Path, run: Run, merge: Merge) -> None:
    run(slides, "--out", "whole.csv")
    before = Path("whole.journal.sqlite").read_bytes()
    code, _, err = merge("parts", "--out", "whole.csv")
    assert (code, "another run, which a merge would replace" in err) == (3, True)
    code, _, err = merge("parts", "--out", "parts/1.csv")
    assert code == 3
    assert Path("whole.journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("option", ["--slides", "--report", "--pseudonymize"])
def test_what_needs_all_images_is_left_to_the_merge(slides: Path, run: Run, option: str) -> None:
    code, _, err = run(slides, "--shard", "1/2", "--out", "o.csv", option, "keys/x")
    assert code == 2
    assert f"give {option} to cellcount merge" in " ".join(err.split())


def test_a_shard_without_images_is_done_at_once(slides: Path, run: Run, rows: Rows) -> None:
    empty = next(
        n
        for n in range(1, 100)
        if not any(Shard(n, 99).holds(p.relative_to(slides).as_posix()) for p in slides.rglob("*"))
    )
    assert run(slides, "--shard", f"{empty}/99", "--out", "o.csv")[0] == 0
    assert rows("o.csv") == []


def fake_slurm(script: Path, tasks: int, *arguments: str, **variables: str) -> Iterator[int]:
    """Runs the tasks of a job array one after the other, with the variables that Slurm sets."""
    for task in range(1, tasks + 1):
        array = {"ID": task, "COUNT": tasks, "MIN": 1, "MAX": tasks, "STEP": 1}
        slurm = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()}
        environment = os.environ | slurm | {"SLURM_CPUS_PER_TASK": "1"} | variables
        yield subprocess.run(["bash", script, *arguments], env=environment).returncode


def test_the_documented_job_array_works(
    slides: Path, run: Run, toy: str, repo_root: Path, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "cellcount"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cellcount "$@"\n')
    program.chmod(0o755)
    scripts = repo_root / "docs" / "slurm"
    path = f"{program.parent}:{os.environ['PATH']}"
    options = {"PATH": path, "CELLCOUNT_OPTIONS": f"--detector {toy} --classifier none"}
    codes = list(fake_slurm(scripts / "count.sh", 2, "slides", "results", **options))
    assert codes == [0, 0]
    merged = subprocess.run(
        ["bash", scripts / "merge.sh", "results"], env=os.environ | {"PATH": path}
    )
    assert merged.returncode == 0
    one = Path("one")
    one.mkdir()
    run(slides, *named(one)[:8])
    for name in TABLES[:4]:
        assert Path("results", name).read_bytes() == (one / name).read_bytes()


def test_merging_a_folder_into_itself_can_be_repeated(parts: Path, merge: Merge) -> None:
    before: dict[str, bytes] = {}
    for _ in range(2):
        code, _, err = merge("parts", "--out", "parts/all.csv")
        assert code in (0, 1), err
        now = Path("parts/all.csv").read_bytes()
        assert before.setdefault("all", now) == now
