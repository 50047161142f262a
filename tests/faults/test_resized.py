"""Pictures resized or turned after annotating (W14): boxes follow where that can be decided."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import (
    CATEGORIES,
    CLASS_IDS,
    Box,
    Fields,
    Run,
    via_entry,
    write_csv,
    write_labelme,
    write_via,
    write_voc,
)

Size = tuple[int, int]


def write(form: str, boxes: Sequence[Box], size: Size, name: str = "f.png") -> None:
    """Writes an annotation file of a format that states sizes."""
    if form == "voc":
        write_voc("f.xml", name, boxes, size)
    elif form == "coco":
        annotations = [
            {"id": n, "image_id": 1, "category_id": CLASS_IDS[label], "bbox": [x, y, w, h]}
            for n, (label, x, y, w, h) in enumerate(boxes)
        ]
        image = {"id": 1, "file_name": name, "width": size[0], "height": size[1]}
        content = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
        Path("x.json").write_text(json.dumps(content))
    elif form == "labelme":
        stated = {"imageWidth": float(size[0]), "imageHeight": str(size[1])}
        write_labelme("f.json", name, boxes, **stated)
    else:
        with Path("b.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            columns = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
            writer.writerow(columns)
            writer.writerows(
                [name, *size, label, x, y, x + w, y + h] for label, x, y, w, h in boxes
            )


def scaled(boxes: Sequence[Box], by: float) -> list[Box]:
    return [(label, x * by, y * by, w * by, h * by) for label, x, y, w, h in boxes]


def corners(boxes: Sequence[Box]) -> np.ndarray[Any, Any]:
    return np.array(sorted([x, y, x + w, y + h] for _, x, y, w, h in boxes))


def read_corners(folder: Path) -> np.ndarray[Any, Any]:
    (image,) = read_annotations(folder).images
    return np.array(sorted(image.boxes_xyxy.tolist()))


FORMS = ["voc", "coco", "labelme", "csv"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", [2, 0.5])
def test_boxes_are_scaled_by_the_stated_size(
    fields: Fields, folder: Path, form: str, by: float
) -> None:
    fields.put(0, "f.png")
    write(form, scaled(fields.boxes(0), by), (round(640 * by), round(480 * by)))
    assert read_corners(folder) == pytest.approx(corners(fields.boxes(0)), abs=0.01)
    (problem,) = read_annotations(folder).problems
    assert f"its boxes are scaled by {1 / by:g}" in problem.what


@pytest.mark.parametrize("form", FORMS)
def test_other_proportions_leave_the_picture_out(
    fields: Fields, folder: Path, run: Run, form: str
) -> None:
    fields.put(0, "f.png")
    write(form, scaled(fields.boxes(0), 2), (1280, 720))
    with pytest.raises(AnnotationError, match=r"states 1280×720 px, but f\.png has 640×480 px"):
        read_annotations(folder)
    code, _, err = run("datasets", "inspect", ".")
    assert (code, "f.png is left out" in err) == (3, True)


@pytest.mark.parametrize("form", ["csv without sizes", "via"])
def test_boxes_far_outside_a_picture_leave_it_out(fields: Fields, folder: Path, form: str) -> None:
    fields.put(0, "f.png")
    boxes = scaled(fields.boxes(0), 2)
    if form == "via":
        write_via("v.json", via_entry("f.png", boxes))
    else:
        write_csv("b.csv", "f.png", boxes)
    with pytest.raises(AnnotationError, match=r"of its \d+ boxes lie outside the 640×480 px"):
        read_annotations(folder)


@pytest.mark.parametrize("by", [2, 0.5])
def test_a_stale_size_of_boxes_that_fit_the_file_is_not_followed(
    fields: Fields, folder: Path, by: float
) -> None:
    fields.put(0, "f.png")
    write("voc", fields.boxes(0), (round(640 * by), round(480 * by)))
    assert read_corners(folder) == pytest.approx(corners(fields.boxes(0)), abs=0.01)
    assert "taken as they stand" in read_annotations(folder).problems[0].what


def turned(fields: Fields, orientation: int, name: str) -> list[Box]:
    """Saves field 0 as a camera held sideways does; returns the boxes as displayed."""
    upright = fields.image(0)
    stored = upright.transpose(
        {
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(name, exif=exif)
    with Image.open(name) as image:
        assert ImageOps.exif_transpose(image).size == (640, 480)
    return fields.boxes(0)


def as_stored(boxes: Sequence[Box], orientation: int) -> list[Box]:
    """Boxes of a picture of 640×480 px in the pixels of the stored one."""
    found = []
    for label, x, y, w, h in boxes:
        left, top = {
            5: (y, x),
            6: (y, 640 - x - w),
            7: (480 - y - h, 640 - x - w),
            8: (480 - y - h, x),
        }[orientation]
        found.append((label, left, top, h, w))
    return found


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize(("form", "name"), [("voc", "f.jpg"), ("coco", "f.tif")])
def test_boxes_of_the_size_before_the_exif_orientation_are_turned(
    fields: Fields, folder: Path, form: str, name: str, orientation: int
) -> None:
    boxes = turned(fields, orientation, name)
    write(form, as_stored(boxes, orientation), (480, 640), name)
    assert read_corners(folder) == pytest.approx(corners(boxes), abs=0.01)
    assert "EXIF orientation" in read_annotations(folder).problems[0].what


def test_boxes_as_displayed_stay_as_they_are(fields: Fields, folder: Path) -> None:
    boxes = turned(fields, 6, "f.jpg")
    write("labelme", boxes, (640, 480), "f.jpg")
    assert read_corners(folder) == pytest.approx(corners(boxes), abs=0.01)
    assert read_annotations(folder).problems == ()


def test_a_picture_turned_without_exif_is_left_out(fields: Fields, folder: Path) -> None:
    fields.image(0).transpose(Image.Transpose.ROTATE_90).save("f.png")
    write("voc", fields.boxes(0), (640, 480))
    with pytest.raises(AnnotationError, match="turned by a quarter, to which side is not known"):
        read_annotations(folder)


def test_width_and_height_exchanged_by_mistake_are_seen_by_the_boxes(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "f.png")
    write("coco", fields.boxes(0), (480, 640))
    assert read_corners(folder) == pytest.approx(corners(fields.boxes(0)), abs=0.01)
    assert "width and height are exchanged" in read_annotations(folder).problems[0].what
