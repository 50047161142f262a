"""LabelMe: its shapes and its broken files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellcount.datasets import labelme
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]


def content(*shapes: dict[str, Any], image: str = "a.jpg") -> str:
    stated = {"version": "5.0", "imageHeight": 50, "imageWidth": 100, "imageData": None}
    return json.dumps(stated | {"imagePath": image, "shapes": list(shapes)})


def shape(kind: str, *points: list[float], label: str = "rbc") -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind}


def test_shapes_become_boxes(tmp_path: Path, make_image: Make, write: Write) -> None:
    path = make_image("a.jpg", (100, 50))
    write(
        "a.json",
        content(
            shape("rectangle", [30, 40], [10, 5]),
            shape("circle", [50, 25], [53, 29], label="wbc"),
            shape("polygon", [5, 9], [30, 2], [12, 40]),
        ),
    )
    assert labelme.sniff(tmp_path)
    annotated = labelme.read(tmp_path)
    assert annotated.images[0].path == path
    expected = [[10, 5, 30, 40], [45, 20, 55, 30], [5, 2, 30, 40]]
    assert annotated.images[0].boxes_xyxy.tolist() == expected
    assert annotated.images[0].labels == ("rbc", "wbc", "rbc")
    assert annotated.problems == ()


def test_broken_files_and_shapes_are_survived(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("a.jpg")
    write(
        "a.json",
        content(
            shape("rectangle", [10, 5], [30, 40]),
            shape("point", [10, 5]),
            shape("line", [10, 5], [20, 20]),
            shape("rectangle", [10, 5]),
            shape("circle", [10, 5]),
            {"points": [[1, 2], [3, 4]]},
            {"label": "x", "points": 5},
            image="..\\old\\a.jpg",
        ),
    )
    write("cut.json", "{")
    write("lost.json", content(image="gone.jpg"))
    annotated = labelme.read(tmp_path)
    assert [i.labels for i in annotated.images] == [("rbc",)]
    names = [p.path.name for p in annotated.problems]
    assert names == ["cut.json", "lost.json"] + ["a.json"] * 6  # pictures left out come first
    assert annotated.left_out == 2


def test_a_folder_without_labelme(tmp_path: Path, write: Write) -> None:
    write("x.json", "{}")
    assert not labelme.sniff(tmp_path)
    with pytest.raises(AnnotationError, match="no LabelMe file"):
        labelme.read(tmp_path)
