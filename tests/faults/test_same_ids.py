"""Ids that several things of a file have (W09): boxes may be of any, so they are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import CATEGORIES, Fields, Run, write_coco


@pytest.mark.parametrize("ids", [(1, 1), (1, "1"), (1.0, 1), (None, None)])
def test_images_of_one_id_are_left_out_and_said(
    fields: Fields, folder: Path, run: Run, ids: tuple[object, object]
) -> None:
    for i, name in enumerate(("a/f0.png", "b/f1.png", "c/f2.png")):
        fields.put(i, name)
    content = {
        "images": [
            {"id": id_, "file_name": name}
            for id_, name in zip((*ids, 7), ("a/f0.png", "b/f1.png", "c/f2.png"), strict=True)
        ],
        "annotations": [
            annotation | ({} if annotation["image_id"] else {"image_id": ids[0]})
            for annotation in (
                *fields.annotations(0, 0),
                *fields.annotations(1, 0, 1000),
                *fields.annotations(2, 7, 2000),
            )
        ],
        "categories": CATEGORIES,
    }
    Path("merged.json").write_text(json.dumps(content))
    annotated = read_annotations(folder)
    assert [i.path.name for i in annotated.images] == ["f2.png"]
    assert len(annotated.images[0].labels) == len(fields.boxes(2))
    assert annotated.left_out == 2
    code, out, _ = run("datasets", "inspect", ".")
    assert code == 1
    assert "2 images share the id" in out
    assert "a/f0.png, b/f1.png" in out
    assert "pictures left out: 2" in out


def test_a_file_of_nothing_else_is_refused(fields: Fields, folder: Path) -> None:
    fields.put(0, "a/f0.png")
    fields.put(1, "b/f1.png")
    both = fields.annotations(0, 1) + fields.annotations(1, 1, 1000)
    write_coco("merged.json", [(1, "a/f0.png"), (1, "b/f1.png")], both)
    with pytest.raises(AnnotationError, match="2 images share the id 1"):
        read_annotations(folder)


def test_an_image_listed_twice_under_one_id_is_one_image(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    write_coco("x.json", [(1, "f.png"), (1, "f.png")], fields.annotations(0, 1))
    annotated = read_annotations(folder)
    assert [len(i.labels) for i in annotated.images] == [len(fields.boxes(0))]
    assert "listed more than once" in annotated.problems[0].what


def test_one_image_under_two_ids_with_other_boxes_is_left_out(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    fields.put(5, "g.png")
    boxes = fields.annotations(0, 1) + fields.annotations(1, 2, 500) + fields.annotations(5, 3, 900)
    write_coco("x.json", [(1, "f.png"), (2, "f.png"), (3, "g.png")], boxes)
    annotated = read_annotations(folder)
    assert [i.path.name for i in annotated.images] == ["g.png"]
    assert "f.png is annotated in different ways, in x.json twice" in annotated.problems[0].what


def test_a_category_id_of_two_names_names_neither(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    names = [*CATEGORIES, {"id": 1, "name": "neutrophil"}]
    content = {
        "images": [{"id": 1, "file_name": "f.png"}],
        "annotations": fields.annotations(0, 1),
        "categories": names,
    }
    Path("x.json").write_text(json.dumps(content))
    annotated = read_annotations(folder)
    said = [p.what for p in annotated.problems]
    assert "category id 1 is rbc and neutrophil; its boxes are left out" in said
    assert set(annotated.images[0].labels) == {"wbc", "platelet"}


def test_two_files_that_contradict_each_other_are_both_left_out(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "f.png")
    fields.put(5, "g.png")
    write_coco("one.json", [(1, "f.png"), (2, "g.png")], fields.annotations(0, 1))
    write_coco("two.json", [(1, "f.png")], fields.annotations(1, 1))
    annotated = read_annotations(folder)
    assert [i.path.name for i in annotated.images] == ["g.png"]
    assert "in one.json and two.json" in annotated.problems[0].what
