"""COCO: layouts, polygons, crowds, broken entries; boxes of polygons against pycocotools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellcount.datasets import coco
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]


def content(*annotations: dict[str, Any], **changes: object) -> str:
    base: dict[str, object] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [{"id": i, "image_id": 7} | a for i, a in enumerate(annotations)],
        "categories": [{"id": 3, "name": "RBC"}, {"id": 1, "name": "WBC"}],
    }
    return json.dumps(base | changes)


def test_boxes_and_classes(tmp_path: Path, make_image: Make, write: Write) -> None:
    path = make_image("a.jpg", (100, 50))
    source = write(
        "x.json",
        content(
            {"category_id": 1, "bbox": [10, 5, 20.5, 10]},
            {"category_id": 3, "bbox": [0, 0, 300, 300]},
        ),
    )
    annotated = coco.read(source)
    assert annotated.classes == ("RBC", "WBC")
    (image,) = annotated.images
    assert image.path == path
    assert image.boxes_xyxy.tolist() == [[10, 5, 30.5, 15], [0, 0, 100, 50]]
    assert image.labels == ("WBC", "RBC")
    assert annotated.problems == ()


def test_a_polygon_gives_its_box_as_pycocotools_does(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    make_image("a.jpg", (100, 50))
    polygons = [[10.0, 15, 15, 10, 35, 10, 40, 15, 40, 30, 10, 30], [50.0, 20, 60, 20, 60, 45]]
    write("x.json", content({"category_id": 1, "segmentation": polygons}))
    box = coco.read(tmp_path).images[0].boxes_xyxy[0]
    assert box.tolist() == [10, 10, 60, 45]
    x, y, w, h = mask.toBbox(mask.merge(mask.frPyObjects(polygons, 50, 100)))
    assert np.abs(box - [x, y, x + w, y + h]).max() <= 1  # masks are whole pixels


@pytest.mark.parametrize(
    ("image", "source", "split"),
    [
        ("a.jpg", "x.json", ""),
        ("images/a.jpg", "x.json", ""),
        ("images/a.jpg", "annotations/x.json", ""),
        ("train2017/a.jpg", "annotations/instances_train2017.json", "train"),
        ("valid/a.jpg", "valid/_annotations.coco.json", "val"),
        ("a.jpg", "latest.json", ""),
    ],
)
def test_layouts(
    tmp_path: Path, make_image: Make, write: Write, image: str, source: str, split: str
) -> None:
    path = make_image(image)
    write(source, content({"category_id": 1, "bbox": [1, 2, 3, 4]}))
    annotated = coco.read(tmp_path)
    assert [(i.path, i.split) for i in annotated.images] == [(path, split)]
    assert annotated.problems == ()
    alone = coco.read(tmp_path / source)
    assert [i.path for i in alone.images] == [path]


def test_the_same_name_in_two_roboflow_folders(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "RBC", "supercategory": "cells"},
    ]
    for number, split in enumerate(("train", "valid", "test"), start=1):
        make_image(f"{split}/a.jpg")
        boxes = [{"category_id": 1, "bbox": [9 * n, 2, 3, 4]} for n in range(number)]
        write(f"{split}/_annotations.coco.json", content(*boxes, categories=categories))
    annotated = coco.read(tmp_path)
    assert {i.split: len(i.labels) for i in annotated.images} == {"train": 1, "val": 2, "test": 3}
    assert annotated.classes == ("RBC",)


def test_broken_entries_are_survived(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("a.jpg")
    good = {"category_id": 1, "bbox": [1, 2, 3, 4]}
    write(
        "x.json",
        content(
            good,
            good | {"iscrowd": 1},
            good | {"category_id": 9},
            good | {"bbox": [1, 2, 3]},
            good | {"bbox": [1, 2, "x", 4]},
            good | {"bbox": [1, 2, 10**400, 4]},
            good | {"bbox": [1, 2, 0, 4]},
            good | {"bbox": None},
            good | {"bbox": [], "segmentation": {"counts": "x", "size": [5, 5]}},
            good | {"image_id": 99},
            images=[
                {"id": 7, "file_name": "a.jpg"},
                {"id": 8, "file_name": "gone.jpg"},
                {"id": 9},
                5,
            ],
        ),
    )
    annotated = coco.read(tmp_path)
    assert [i.labels for i in annotated.images] == [("WBC",)]
    said = " | ".join(p.what for p in annotated.problems)
    for part in (
        "1 crowd regions",
        "annotation 2 names the category or field '9'",
        "annotation 3 has no usable box",
        "annotation 4 has no usable box",
        "annotation 5 has no usable box",
        "no width or height",
        "annotation 7 has no usable box (neither bbox nor polygon",
        "annotation 8 has no usable box",
        "1 boxes belong to image id 99",
        "gone.jpg was not found",
        "an image has no file_name",
    ):
        assert part in said
    assert len(annotated.problems) == 12


def test_other_json_is_not_taken(tmp_path: Path, write: Write) -> None:
    write("package.json", '{"images": 3}')
    write("list.json", "[1, 2]")
    write("cut.json", '{"images": [')
    assert not coco.sniff(tmp_path)
    with pytest.raises(AnnotationError, match="no COCO file"):
        coco.read(tmp_path)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(allow_nan=True)
    | st.sampled_from(["a.jpg", "", "x", "iscrowd"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "image_id", "category_id", "bbox", "segmentation", "file_name", "name"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    images=st.lists(_values, max_size=3),
    annotations=st.lists(_values, max_size=4),
    categories=st.lists(_values, max_size=3),
)
def test_whatever_the_lists_hold_nothing_breaks(
    tmp_path: Path,
    make_image: Make,
    write: Write,
    images: list[object],
    annotations: list[object],
    categories: list[object],
) -> None:
    make_image("a.jpg", (20, 10))
    lists = {"images": images, "annotations": annotations, "categories": categories}
    annotated = coco.read(write("x.json", json.dumps(lists)))
    for image in annotated.images:
        assert np.isfinite(image.boxes_xyxy).all()
