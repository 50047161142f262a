"""``datasets convert`` of a run that people reviewed: corrected fields and cells for training."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.crops import read_crops
from cellcount.images.windows import window
from tests.integration.open_page import Page, of, open_page

Convert: TypeAlias = Callable[..., tuple[int, str, str]]
Rows: TypeAlias = Callable[..., list[dict[str, str]]]
BOX = [2, 2, 30.5, 28]


@pytest.fixture
def convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Convert:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["datasets", "convert", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def fields(tmp_path: Path, typed_run: Path, pristine: Path) -> Path:
    """Copies of the fields, which a test may change; the run looks for them there."""
    shutil.copytree(typed_run, tmp_path / "o")
    return pristine


@pytest.fixture
def reviewed(fields: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """A run of which one field is corrected; its cells as they were, those that were touched first.

    They are, in their order: retyped, confirmed, no cell, deleted, and moved.
    """
    with open_page(tmp_path / "o" / "counts.csv") as opened:
        page = opened.enter()
        rows = typed(page)
        retyped, confirmed, no_cell, deleted, moved = rows[:5]
        type_id = page.get("/api/run")["types"][confirmed["model"]]["id"]
        status, _ = page.edit(
            of(retyped, "retype", type="blasts"),
            of(confirmed, "retype", type=type_id),
            of(no_cell, "not_a_cell"),
            of(deleted, "delete"),
            of(moved, "move", box=[1, 1, 20, 20]),
            {"kind": "add", "image": 0, "box": BOX, "label": "wbc"},
        )
        assert status == 200
        every = page.rows()
    touched = {row["id"] for row in rows[:5]}
    image = retyped["image"]
    others = [row for row in every if row["image"] == image and row["id"] not in touched]
    return [*rows[:5], *others]


def typed(page: Page) -> list[dict[str, Any]]:
    rows = [row for row in page.rows() if row["model"] >= 0 and not row["marks"] & 2]
    sure = [row for row in rows if row["image"] == 0]
    assert len(sure) >= 5
    return sure


def boxes_of(path: str) -> dict[tuple[float, ...], str]:
    (image,) = read_annotations(Path(path)).images
    found = zip(image.boxes_xyxy.tolist(), image.labels, strict=True)
    return {tuple(round(v, 2) for v in box): label for box, label in found}


def box_of(row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(round(row[name], 2) for name in ("x0", "y0", "x1", "y1"))


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_a_reviewed_field_has_every_cell_as_people_left_it(
    convert: Convert, reviewed: list[dict[str, Any]], form: str
) -> None:
    code, out, err = convert("o/counts.csv", "--to", form, "--out", "data")
    assert code == 0, err
    retyped, confirmed, no_cell, deleted, moved, *others = reviewed
    found = boxes_of("data")
    assert f"{len(found)} cells written to data" in out
    assert found[box_of(retyped)] == "blasts"
    assert found[box_of(confirmed)] in ("neutrophil", "lymphocyte", "erythroblast")
    assert found[tuple(map(float, BOX))] == "wbc"
    assert box_of(moved) not in found
    assert (1.0, 1.0, 20.0, 20.0) in found
    assert not {box_of(no_cell), box_of(deleted)} & set(found)
    assert {box_of(row) for row in others} <= set(found)


def test_the_persons_corrections_alone_become_boxes_where_asked_for(
    convert: Convert, reviewed: list[dict[str, Any]]
) -> None:
    arguments = ("--reviewed", "cells", "--classes", "blood")
    code, _, err = convert("o", "--to", "coco", "--out", "data", *arguments)
    assert code == 0, err
    retyped, confirmed = reviewed[:2]
    kept = {box_of(retyped), box_of(confirmed), (1.0, 1.0, 20.0, 20.0), tuple(map(float, BOX))}
    found = boxes_of("data")
    assert set(found) == kept
    assert set(found.values()) <= {"rbc", "wbc"}
    assert found[tuple(map(float, BOX))] == "wbc"
    written = json.loads(Path("data/annotations.json").read_text("utf-8"))
    assert [one["name"] for one in written["categories"]] == sorted(set(found.values()))


def test_cells_that_people_named_become_a_folder_a_type(
    convert: Convert, reviewed: list[dict[str, Any]], fields: Path, rows: Rows
) -> None:
    code, _, err = convert("o/counts.csv", "--to", "folders", "--out", "cells", "--window", "2")
    assert code == 0, err
    read = read_crops(Path("cells"))
    labels = Counter(item.label for item in read.items)
    assert labels["blasts"] == labels["not_a_white_cell"] == 1
    assert sum(labels.values()) == 3
    listed = {row["class"]: row for row in rows("cells/splits.csv")}
    assert {row["slide"] for row in listed.values()} == {"a"}
    (blast,) = (item for item in read.items if item.label == "blasts")
    assert blast.rbc_px is not None
    assert 20 < blast.rbc_px < 29
    side = round(2 * blast.rbc_px)
    x0, y0, x1, y1 = box_of(reviewed[0])
    field = np.asarray(Image.open(fields / "a" / "1.png"))
    expected = window(field, ((x0 + x1) / 2, (y0 + y1) / 2), side, (side, side))
    np.testing.assert_array_equal(np.asarray(Image.open(blast.path)), expected)


def test_all_typed_cells_of_reviewed_images_become_folders_where_asked_for(
    convert: Convert, reviewed: list[dict[str, Any]]
) -> None:
    asked = ("--reviewed", "images")
    assert convert("o/counts.csv", "--to", "folders", "--out", "cells", *asked)[0] == 0
    labels = Counter(item.label for item in read_crops(Path("cells")).items)
    assert labels["blasts"] == labels["not_a_white_cell"] == 1
    assert "rbc" not in labels
    assert sum(labels.values()) > 3


def test_a_run_that_nobody_reviewed_is_refused(convert: Convert, fields: Path) -> None:
    code, _, err = convert("o/counts.csv", "--to", "coco", "--out", "data")
    assert code == 2
    assert "no cell of this run that a person corrected or confirmed" in " ".join(err.split())
    code, _, err = convert(str(fields), "--to", "coco", "--out", "data", "--reviewed", "cells")
    assert code == 2
    assert "--reviewed cells is of a run that people reviewed" in " ".join(err.split())


def test_an_image_that_has_changed_is_left_out_and_told(
    convert: Convert, reviewed: list[dict[str, Any]], fields: Path
) -> None:
    image = fields / "a" / "1.png"
    original = image.read_bytes()
    try:
        Image.new("RGB", (50, 40)).save(image)
        code, _, err = convert("o/counts.csv", "--to", "coco", "--out", "data")
    finally:
        image.write_bytes(original)
    assert code == 2
    assert "1.png: the image has changed since it was analysed; left out" in " ".join(err.split())
    assert not Path("data").exists()
