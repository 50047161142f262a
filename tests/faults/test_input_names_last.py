"""Names of inputs: ``slides`` and ``slides~2`` mean the same folders in the next run."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cellcount.images.find import find_images
from cellcount.store.journal import Journal
from tests.faults.recipes import Run, made, small_png

PLACES = ("a/slides", "b/slides", "c/slides", "other")


@pytest.fixture(autouse=True)
def folders(folder: Path) -> None:
    """Four folders, three of one name, with a small field each that differs from the others."""

    for seed, place in enumerate(PLACES, 1):
        made(f"{place}/f.png").write_bytes(small_png(seed))


@pytest.fixture
def names(run: Run, repo_root: Path) -> Callable[..., dict[str, str]]:
    """``names("a/slides", ...)`` → folder → what its image is called, as o.csv has it."""
    toy = repo_root / "tests" / "golden" / "tiny.safetensors"

    def call(*inputs: str, out: str = "o.csv", more: Sequence[str] = ()) -> dict[str, str]:
        options = ("--detector", toy, "--classifier", "none", "--out", out, *more)
        assert run("analyze", *inputs, *options)[0] == 0
        with open(out, encoding="utf-8") as file:
            images = [row["image"] for row in csv.DictReader(file)]
        with Journal.reopen(Path(out).with_suffix(".journal.sqlite")) as journal:
            stored = journal.get_value("run")
        assert isinstance(stored, dict)
        found = {ref["image"]: ref["path"] for ref in stored["refs"]}
        return {str(Path(found[image]).parent): image for image in images}

    return call


Names = Callable[..., dict[str, str]]


def test_reordering_and_adding_move_no_name(names: Names) -> None:
    first = names("a/slides", "b/slides")
    assert first == {"a/slides": "slides~a/f.png", "b/slides": "slides~b/f.png"}
    for number, inputs in enumerate(
        (("b/slides", "a/slides"), ("c/slides", "b/slides", "other", "a/slides")), 1
    ):
        again = names(*inputs)
        assert {place: again[place] for place in first} == first
        fresh = names(*inputs, out=f"{number}.csv")  # nor does another output call them otherwise
        assert {place: fresh[place] for place in first} == first


def test_a_folder_that_had_the_plain_name_keeps_it(names: Names) -> None:
    assert names("a/slides", "other")["a/slides"] == "slides/f.png"
    assert names("b/slides", "other", "a/slides") == {
        "a/slides": "slides/f.png", "b/slides": "slides~b/f.png", "other": "other/f.png",
    }  # fmt: skip
    assert names("b/slides", "other")["b/slides"] == "slides~b/f.png"  # even when alone
    shutil.rmtree("a")  # its name is free once the folder is gone
    assert names("c/slides", "other")["c/slides"] == "slides/f.png"


def test_an_existing_journal_keeps_its_names(names: Names, run: Run) -> None:
    """Version 0.1.0 numbered them by the order of the INPUTs, and did not keep their names."""
    names("a/slides", "b/slides")
    with sqlite3.connect("o.journal.sqlite") as connection:
        connection.execute("DELETE FROM value WHERE name = ?", (b"user:input names",))
        for was, now in (("slides~b", "slides~2"), ("slides~a", "slides")):
            connection.execute(
                "UPDATE value SET json = replace(json, ?, ?) WHERE name = ?",
                (f'"{was}/', f'"{now}/', b"user:run"),
            )
    connection.close()
    kept = {"a/slides": "slides/f.png", "b/slides": "slides~2/f.png"}
    more = names("c/slides", "b/slides", "a/slides")
    assert more == kept | {"c/slides": "slides~c/f.png"}
    assert names("b/slides", "a/slides") == kept
    assert names("b/slides", "a/slides", more=["--fresh"]) == {
        "a/slides": "slides~a/f.png", "b/slides": "slides~b/f.png",
    }  # fmt: skip


def test_files_and_manifests_of_one_name_are_told_apart_in_any_order() -> None:
    for place in ("a", "b"):
        Path(place, "m.csv").write_text("path\nslides/f.png\n")
    for inputs in (["a/slides/f.png", "b/slides/f.png"], ["a/m.csv", "b/m.csv"]):
        one, two = (
            {str(ref.path): (ref.image, ref.slide) for ref in find_images(order).refs}
            for order in (inputs, inputs[::-1])
        )
        assert one == two
        assert len(set(one.values())) == 2


def test_a_folder_below_a_single_input_keeps_its_name_too(names: Names) -> None:
    shutil.copytree("other", "all/slides")
    assert names("all") == {"all/slides": "slides/f.png"}
    assert names("all", "a/slides") == {
        "all/slides": "all/slides/f.png", "a/slides": "slides~a/f.png",
    }  # fmt: skip
