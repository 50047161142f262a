"""Boxes that stand in a file twice (W22): counted once, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cellcount.datasets.annotations import read_annotations
from tests.faults.recipes import (
    Box,
    Fields,
    Run,
    via_entry,
    write_coco,
    write_csv,
    write_labelme,
    write_via,
    write_voc,
)

CLASSES = "rbc\nwbc\nplatelet\n"


def moved(box: Box, by: float) -> Box:
    label, x, y, w, h = box
    return (label, x + by, y + by, w, h)


def test_every_line_of_yolo_twice(fields: Fields, folder: Path, run: Run) -> None:
    fields.put(0, "images/f.png")
    fields.yolo("labels/f.txt", 0)
    path = Path("labels/f.txt")
    path.write_text(path.read_text() * 2)
    Path("classes.txt").write_text(CLASSES)
    code, out, _ = run("datasets", "inspect", ".")
    assert code == 1
    assert "1 picture, 58 cells" in out
    assert "58 boxes stand there more than once; the copies are left out" in out


@pytest.mark.parametrize("by", [0, 0.05, 0.15])
@pytest.mark.parametrize("form", ["voc", "coco", "labelme", "via", "csv"])
def test_copies_exact_or_rounded_in_every_format(
    fields: Fields, folder: Path, form: str, by: float
) -> None:
    fields.put(0, "f.png")
    # Boxes of platelets are so small that a third of a pixel is another box.
    boxes = [box for box in fields.boxes(0) if box[0] != "platelet"]
    boxes += [moved(box, by) for box in boxes]
    if form == "voc":
        write_voc("f.xml", "f.png", boxes)
    elif form == "coco":
        ids = {"rbc": 1, "wbc": 2}
        annotations: list[dict[str, Any]] = [
            {"id": n, "image_id": 1, "category_id": ids[box[0]], "bbox": list(box[1:])}
            for n, box in enumerate(boxes)
        ]
        write_coco("x.json", [(1, "f.png")], annotations)
    elif form == "labelme":
        write_labelme("f.json", "f.png", boxes)
    elif form == "via":
        write_via("v.json", via_entry("f.png", boxes))
    else:
        write_csv("b.csv", "f.png", boxes)
    annotated = read_annotations(folder)
    assert len(annotated.images[0].labels) == len(boxes) // 2
    (problem,) = annotated.problems
    assert problem.what.startswith(f"{len(boxes) // 2} boxes stand there more than once")


def test_a_class_spelled_in_two_ways_is_one(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    write_voc("f.xml", "f.png", [("rbc", 10, 10, 50, 50), ("RBC", 10, 10, 50, 50)])
    annotated = read_annotations(folder)
    assert annotated.images[0].labels == ("rbc",)


def test_one_box_of_two_classes_is_said(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    write_voc("f.xml", "f.png", [("rbc", 10, 10, 50, 50), ("wbc", 10, 10, 50, 50)])
    annotated = read_annotations(folder)
    assert annotated.images[0].labels == ("rbc", "wbc")
    (problem,) = annotated.problems
    assert "1 box has two classes, first rbc and wbc at x 10 to 60" in problem.what


def test_cells_that_overlap_are_no_copies(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    write_voc("f.xml", "f.png", [("rbc", 10, 10, 50, 50), ("rbc", 13, 10, 50, 50)])
    annotated = read_annotations(folder)
    assert (len(annotated.images[0].labels), annotated.problems) == (2, ())


def test_a_picture_listed_in_two_files_with_equal_boxes_is_read_once(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "images/f.png")
    for name in ("instances_train.json", "instances_trainval.json"):
        write_coco(f"annotations/{name}", [(1, "f.png")], fields.annotations(0, 1))
    annotated = read_annotations(folder)
    assert [len(i.labels) for i in annotated.images] == [len(fields.boxes(0))]
    assert annotated.images[0].split == "train"
