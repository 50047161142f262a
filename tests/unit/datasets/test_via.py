"""VIA in CSV and JSON: shapes, the attribute that is the class, broken regions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount.datasets import via
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]
Region = tuple[dict[str, Any], dict[str, Any]]

RECT = {"name": "rect", "x": 10, "y": 5, "width": 20, "height": 30}
SHAPES: list[tuple[dict[str, Any], list[float]]] = [
    (RECT, [10, 5, 30, 35]),
    ({"name": "circle", "cx": 50, "cy": 25, "r": 10.5}, [39.5, 14.5, 60.5, 35.5]),
    ({"name": "ellipse", "cx": 50, "cy": 25, "rx": 20, "ry": 10}, [30, 15, 70, 35]),
    (
        {"name": "polygon", "all_points_x": [5, 30, 12], "all_points_y": [9, 2, 40]},
        [5, 2, 30, 40],
    ),
]


def as_csv(images: dict[str, list[Region]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    writer.writerow([*columns, "region_shape_attributes", "region_attributes"])
    for name, regions in images.items():
        for number, (shape, attributes) in enumerate(regions or [({}, {})]):
            row = [name, 1, "{}", len(regions), number, json.dumps(shape), json.dumps(attributes)]
            writer.writerow(row)
    return out.getvalue()


def as_json(images: dict[str, list[Region]]) -> str:
    return json.dumps(
        {
            f"{name}123": {
                "filename": name,
                "size": 123,
                "regions": [
                    {"shape_attributes": shape, "region_attributes": attributes}
                    for shape, attributes in regions
                ],
                "file_attributes": {},
            }
            for name, regions in images.items()
        }
    )


def as_project(images: dict[str, list[Region]]) -> str:
    return json.dumps({"_via_settings": {}, "_via_img_metadata": json.loads(as_json(images))})


def as_via1(images: dict[str, list[Region]]) -> str:
    entries = json.loads(as_json(images))
    for entry in entries.values():
        entry["regions"] = {str(i): region for i, region in enumerate(entry["regions"])}
    return json.dumps(entries)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("via.csv", as_csv),
        ("via.json", as_json),
        ("project.json", as_project),
        ("v1.json", as_via1),
    ],
)
def test_all_forms_and_shapes(
    tmp_path: Path,
    make_image: Make,
    write: Write,
    name: str,
    form: Callable[[dict[str, list[Region]]], str],
) -> None:
    make_image("a.jpg", (100, 50))
    make_image("b.jpg", (100, 50))
    regions: list[Region] = [(shape, {"type": "RBC", "note": ""}) for shape, _ in SHAPES]
    source = write(name, form({"a.jpg": regions, "b.jpg": []}))
    assert via.sniff(source)
    annotated = via.read(tmp_path)
    first, second = annotated.images
    assert first.boxes_xyxy.tolist() == [box for _, box in SHAPES]
    assert first.labels == ("RBC",) * 4
    assert second.labels == ()
    assert annotated.problems == ()


def test_a_turned_ellipse_is_enclosed(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("a.jpg", (100, 100))
    shape = {"name": "ellipse", "cx": 50, "cy": 50, "rx": 30, "ry": 10, "theta": 0.6}
    write("via.json", as_json({"a.jpg": [(shape, {"class": "x"})]}))
    t = np.linspace(0, 2 * np.pi, 20_001)
    x = 50 + 30 * np.cos(t) * np.cos(0.6) - 10 * np.sin(t) * np.sin(0.6)
    y = 50 + 30 * np.cos(t) * np.sin(0.6) + 10 * np.sin(t) * np.cos(0.6)
    expected = [x.min(), y.min(), x.max(), y.max()]
    assert via.read(tmp_path).images[0].boxes_xyxy[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("attributes", "labels"),
    [
        ([{"type": "a", "grade": "1"}, {"type": "b", "grade": "2"}], ("a", "b")),
        ([{"Label": "a", "type": ""}, {"Label": "b"}], ("a", "b")),
        ([{"cell": "a", "note": "odd"}, {"cell": "b"}], ("a", "b")),
        ([{"type": {"wbc": True, "rbc": False}}, {"type": {"rbc": True}}], ("wbc", "rbc")),
        ([{}, {}], ("cell", "cell")),
    ],
)
def test_which_attribute_is_the_class(
    tmp_path: Path,
    make_image: Make,
    write: Write,
    attributes: list[dict[str, Any]],
    labels: tuple[str, ...],
) -> None:
    make_image("a.jpg")
    boxes = [RECT | {"x": 10 + 30 * number} for number in range(len(attributes))]
    write("via.json", as_json({"a.jpg": list(zip(boxes, attributes, strict=True))}))
    assert via.read(tmp_path).images[0].labels == labels


def test_an_unclear_attribute_is_an_error(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("a.jpg")
    write("via.json", as_json({"a.jpg": [(RECT, {"p": "1", "q": "2"})]}))
    with pytest.raises(AnnotationError, match=r"\{'p': 1, 'q': 1\} have one"):
        via.read(tmp_path)


@pytest.mark.parametrize(("name", "form"), [("via.csv", as_csv), ("via.json", as_json)])
def test_broken_regions_are_survived(
    tmp_path: Path,
    make_image: Make,
    write: Write,
    name: str,
    form: Callable[[dict[str, list[Region]]], str],
) -> None:
    make_image("a.jpg")
    regions: list[Region] = [
        (RECT, {"type": "rbc"}),
        (RECT, {"type": ""}),
        ({"name": "point", "cx": 1, "cy": 2}, {"type": "rbc"}),
        ({"name": "rect", "x": 1}, {"type": "rbc"}),
        ({"name": "polygon", "all_points_x": [], "all_points_y": []}, {"type": "rbc"}),
        ({"name": "circle", "cx": 10, "cy": 10, "r": None}, {"type": "rbc"}),
        (RECT | {"width": -5}, {"type": "rbc"}),
    ]
    write(name, form({"a.jpg": regions, "gone.jpg": []}))
    annotated = via.read(tmp_path)
    assert annotated.images[0].labels == ("rbc",)
    assert len(annotated.problems) == 7
    said = " | ".join(p.what for p in annotated.problems)
    assert "a point of a.jpg is no box (expected one of rect" in said
    assert "gone.jpg was not found" in said


def test_csv_rows_that_are_no_json(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("a.jpg")
    text = as_csv({"a.jpg": [(RECT, {"type": "rbc"})]})
    write("via.csv", text + 'a.jpg,1,{},2,1,"{oops","{}"\na.jpg,1\na.jpg,1,{},2,1,3,4\n')
    annotated = via.read(tmp_path)
    assert annotated.images[0].labels == ("rbc",)
    assert len(annotated.problems) == 3
