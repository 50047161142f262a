"""Rows that leave a table are told: the images of the run before that are not named any more."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.recipes import Fields, Run, made, small_png


def images(path: str = "o.csv") -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [row["image"] for row in csv.DictReader(file)]


def test_w30_one_table_for_two_folders(fields: Fields, run: Run) -> None:
    fields.put(0, "mon/a.png")
    fields.put(1, "tue/b.png")
    options = ("--classifier", "none", "--out", "o.csv")
    assert run("analyze", "mon", *options)[0] == 0
    code, _, err = run("analyze", "tue", *options)
    assert code == 2
    assert images() == ["a.png"]
    assert "o.csv holds the counts of 1 image of another folder" in err
    assert "name all INPUTs to have them in one table, or give --fresh to replace it" in err
    assert "b.png" not in run("analyze", "mon", "tue", *options)[2]
    assert images() == ["mon/a.png", "tue/b.png"]
    code, _, err = run("analyze", "tue", *options)
    assert code == 0
    assert images() == ["b.png"]
    told = "1 image of the run before is not named any more and has left the tables (mon/a.png)"
    assert told in err
    assert "the journal keeps its results: name all INPUTs, or another --out" in err
    assert "left the tables" not in run("analyze", "tue", *options)[2]  # said once


@pytest.fixture
def analyze(run: Run, repo_root: Path) -> Callable[..., str]:
    """``analyze("mon")`` → what was said on stderr; four fields lie in mon."""
    for seed in range(1, 5):
        made(f"mon/{seed}.png").write_bytes(small_png(seed))
    toy = repo_root / "tests" / "golden" / "tiny.safetensors"

    def call(*arguments: object) -> str:
        options = ("--detector", toy, "--classifier", "none", "--out", "o.csv")
        code, _, err = run("analyze", *arguments, *options)
        assert code == 0
        return err

    return call


def remove_two() -> list[str]:
    Path("mon/2.png").unlink()
    Path("mon/4.png").unlink()
    return ["mon"]


def name_two() -> list[str]:
    return ["mon/1.png", "mon/3.png"]


def list_two() -> list[str]:
    Path("m.csv").write_text("path\nmon/1.png\nmon/3.png\n")
    return ["m.csv"]


def move_two_away() -> list[str]:
    made("rest/x")
    for name in ("2.png", "4.png"):
        Path("mon", name).rename(Path("rest", name))
    return ["mon"]


@pytest.mark.parametrize("change", [remove_two, name_two, list_two, move_two_away])
def test_images_that_are_not_named_any_more_are_told(
    analyze: Callable[..., str], change: Callable[[], Sequence[str]]
) -> None:
    assert "left the tables" not in analyze("mon")
    err = analyze(*change())
    assert "2 images of the run before are not named any more and have left the tables" in err
    assert "(2.png, 4.png)" in err


def rename_the_folder() -> list[str]:
    Path("mon").rename("monday")
    return ["monday"]


def name_a_folder_above() -> list[str]:
    made("all/x")
    Path("mon").rename("all/mon")
    return ["all"]


def add_another() -> list[str]:
    shutil.copytree("mon", "tue")
    return ["mon", "tue"]


@pytest.mark.parametrize("change", [rename_the_folder, name_a_folder_above, add_another])
def test_images_under_another_name_have_not_left(
    analyze: Callable[..., str], change: Callable[[], Sequence[str]]
) -> None:
    analyze("mon")
    assert "left the tables" not in analyze(*change())
    assert "left the tables" not in analyze(*change_nothing(), "--min-score", "0.4")


def change_nothing() -> list[str]:
    """The INPUTs of the last change, as they lie now."""
    return [p for p in ("all", "mon", "monday", "tue") if Path(p).is_dir()]


def test_other_settings_forget_nobody(analyze: Callable[..., str]) -> None:
    analyze("mon")
    err = analyze("mon/1.png", "--min-score", "0.4")
    assert "3 images of the run before are not named any more" in err
