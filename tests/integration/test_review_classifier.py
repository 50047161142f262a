"""The laboratory's own classifier, made on the review page of the cells that people named."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from PIL import Image

from cellcount import cli
from cellcount.adapt.reviewed_run import adapt_reviewed_run
from cellcount.analysis.stored_results import StoredResults
from cellcount.models.weights import read_classifier_weights
from cellcount.review.page.classifier_job import Adaptation, OnCell
from tests.integration.open_page import Page, of, open_page
from tests.integration.random_classifier import write_random_classifier

Lock: TypeAlias = AbstractContextManager[Any]
Rows: TypeAlias = Callable[..., list[dict[str, str]]]
TAUGHT = "lymphocyte"


@pytest.fixture(scope="module")
def typed_by_base(tmp_path_factory: pytest.TempPathFactory, pristine: Path, toy: str) -> Path:
    """The folder of a run whose red and white cells a random classifier typed."""
    folder = tmp_path_factory.mktemp("typed_by_base")
    base = write_random_classifier(folder / "base.safetensors", ("rbc", "wbc"))
    models = ["--detector", toy, "--classifier", str(base), "--device", "cpu"]
    assert cli.main(["analyze", str(pristine), *models, "--out", str(folder / "counts.csv")]) == 0
    return folder


@pytest.fixture
def results(typed_by_base: Path, tmp_path: Path) -> Path:
    shutil.copytree(typed_by_base, tmp_path / "o")
    return tmp_path / "o" / "counts.csv"


@pytest.fixture
def page(results: Path) -> Iterator[Page]:
    with open_page(results, adapter=adapt_reviewed_run) as opened:
        yield opened.enter()


def name_some(page: Page, type_id: str = "") -> int:
    """Name eight cells of each of two slides so, or confirm them; returns how many."""
    types = page.get("/api/run")["types"]
    for slide in range(2):
        cells = [row for row in page.rows(slide) if row["model"] >= 0][:8]
        names = [type_id or types[row["model"]]["id"] for row in cells]
        edits = [of(row, "retype", type=name) for row, name in zip(cells, names, strict=True)]
        assert len(edits) == 8
        assert page.edit(*edits, slide=slide)[0] == 200
    return 16


def coded_run(images: Path, detector: str, typed_by_base: Path, folder: Path) -> Path:
    """Analyze images with codes for their names, and return the table."""
    models = ["--detector", detector, "--classifier", str(typed_by_base / "base.safetensors")]
    out = folder / "o" / "counts.csv"
    coded = ["--out", str(out), "--pseudonymize", str(folder / "key.json"), "--device", "cpu"]
    assert cli.main(["analyze", str(images), *models, *coded]) == 0
    return out


def when_over(page: Page) -> dict[str, Any]:
    for _ in range(600):
        now: dict[str, Any] = page.get("/api/classifier")
        if now["state"] not in ("looking", "fitting"):
            return now
        time.sleep(0.05)
    pytest.fail(f"it never ended: {now}")


def test_named_cells_make_a_classifier_that_names_them_so(page: Page, results: Path) -> None:
    cells = name_some(page, TAUGHT)
    assert page.get("/api/classifier/cells") == {"cells": [[TAUGHT, cells]]}
    status, begun = page.post("/api/classifier")
    assert (status, begun["state"], begun["person"]) == (200, "looking", "A. Smith")
    now = when_over(page)
    assert (now["state"], now["number"], now["done"]) == ("made", 1, cells), now["sentence"]
    before, after = now["figures"]["before"]["right"], now["figures"]["after"]["right"]
    assert before["right"] < after["right"] == after["cells"] == cells
    (made,) = now["made"]
    assert made["right"] == [before["right"], after["right"], cells]
    folder = results.parent / "counts.classifiers" / "1"
    assert Path(made["folder"]) == folder
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "adaptation.json", "cells.csv"}
    card, _ = read_classifier_weights(folder / "model.safetensors")
    assert card.training["adapted"]["cells"] == {TAUGHT: cells}
    assert card.training["adapted"]["base"]["name"] == "base"


def test_an_earlier_classifier_is_never_overwritten(results: Path) -> None:
    made = iter(("first", "second"))

    def named(stored: StoredResults, lock: Lock, out: Path, on_cell: OnCell) -> Adaptation:
        right = {"right": {"right": 1, "cells": 2}}
        (out / "adaptation.json").write_text(json.dumps({"before": right, "after": right}), "utf-8")
        (out / "model.safetensors").write_text(next(made), "utf-8")
        return Adaptation("", {})

    folder = results.parent / "counts.classifiers"
    (folder / "7").mkdir(parents=True)
    (folder / ".making-killed").mkdir()
    with open_page(results, adapter=named) as opened:
        page = opened.enter()
        assert page.post("/api/classifier")[0] == 200
        assert when_over(page)["number"] == 8
        assert page.post("/api/classifier")[0] == 200
        now = when_over(page)
    assert [one["number"] for one in now["made"]] == [9, 8]
    written = [(folder / name / "model.safetensors").read_text("utf-8") for name in "89"]
    assert written == ["first", "second"]
    assert {path.name for path in folder.iterdir()} == {"7", "8", "9"}


def test_one_that_would_not_be_better_is_refused_with_figures(page: Page, results: Path) -> None:
    name_some(page)
    assert page.post("/api/classifier")[0] == 200
    now = when_over(page)
    assert now["state"] == "refused"
    assert "so nothing was written" in now["sentence"]
    right = [now["figures"][side]["right"]["right"] for side in ("before", "after")]
    assert right[0] >= right[1] > 0
    assert now["made"] == []
    assert not (results.parent / "counts.classifiers").exists()


def test_too_few_cells_are_told_in_a_sentence(page: Page, results: Path) -> None:
    (row, *_) = (row for row in page.rows() if row["model"] >= 0)
    assert page.edit(of(row, "retype", type=TAUGHT))[0] == 200
    assert page.post("/api/classifier")[0] == 200
    now = when_over(page)
    assert (now["state"], now["figures"]) == ("failed", None)
    assert "has 1, expected 10 or more of one type at least" in now["sentence"]
    assert not (results.parent / "counts.classifiers").exists()


def test_meanwhile_the_page_takes_corrections_and_no_second_classifier(results: Path) -> None:
    go_on = threading.Event()

    def slow(stored: StoredResults, lock: Lock, out: Path, on_cell: OnCell) -> Adaptation:
        with lock:
            tick = on_cell(2)
        tick()
        assert go_on.wait(20)
        (out / "adaptation.json").write_text(json.dumps({}), "utf-8")
        return Adaptation("", {})

    with open_page(results, adapter=slow) as opened:
        page = opened.enter()
        assert page.post("/api/classifier")[0] == 200
        status, refused = page.post("/api/classifier")
        assert (status, "already" in refused["error"]) == (409, True)
        assert name_some(page, TAUGHT) > 0
        now = page.get("/api/classifier")
        assert (now["state"], now["done"], now["cells"]) == ("looking", 1, 2)
        go_on.set()
        assert when_over(page)["number"] == 1


def test_a_page_that_is_closed_gives_up_what_it_makes(results: Path) -> None:
    begun = threading.Event()

    def endless(stored: StoredResults, lock: Lock, out: Path, on_cell: OnCell) -> Adaptation:
        tick = on_cell(10**9)
        begun.set()
        while True:
            tick()
            time.sleep(0.005)

    with open_page(results, adapter=endless) as opened:
        assert opened.enter().post("/api/classifier")[0] == 200
        assert begun.wait(20)
    assert not (results.parent / "counts.classifiers").exists()


def test_a_viewer_makes_no_classifier(results: Path) -> None:
    with open_page(results, read_only=True, adapter=adapt_reviewed_run) as opened:
        page = opened.enter(person="")
        assert page.post("/api/classifier")[0] == 403
        assert page.ask("GET", "/classifier")[0] == 404
        assert b'href="/classifier"' not in page.ask("GET", "/")[2]


def test_codes_stand_for_names_of_images_where_the_outputs_have_codes(
    pristine: Path, typed_by_base: Path, toy: str, tmp_path: Path, rows: Rows
) -> None:
    out = coded_run(pristine, toy, typed_by_base, tmp_path)
    with open_page(out, adapter=adapt_reviewed_run) as opened:
        page = opened.enter()
        name_some(page, TAUGHT)
        assert page.post("/api/classifier")[0] == 200
        assert when_over(page)["state"] == "made"
    named = {row["image"] for row in rows(out)}
    cells = rows(tmp_path / "o" / "counts.classifiers" / "1" / "cells.csv")
    assert {row["path"] for row in cells} <= named
    assert len({row["path"] for row in cells}) > 1


def test_cells_of_an_image_that_has_another_size_now_are_left_out_and_told_by_its_code(
    slides: Path, typed_by_base: Path, toy: str, tmp_path: Path, rows: Rows
) -> None:
    out = coded_run(slides, toy, typed_by_base, tmp_path)
    with open_page(out, adapter=adapt_reviewed_run) as opened:
        page = opened.enter()
        name_some(page, TAUGHT)
        for path in slides.rglob("*.*"):
            Image.new("RGB", (200, 100)).save(path)
        assert page.post("/api/classifier")[0] == 200
        now = when_over(page)
    assert now["state"] == "failed"
    assert "no reviewed cell" in now["sentence"]
    named = {row["image"] for row in rows(out)}
    assert any(f"{code}: the image has changed" in now["sentence"] for code in named)
    assert "slides/" not in now["sentence"]
