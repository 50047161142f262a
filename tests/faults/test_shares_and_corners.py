"""Shares given as pixels, corners given as sizes and the reverse (W18): recognised, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import Box, Fields, Run, made, write_coco

Numbers = Callable[[Box], list[float]]


def corner_and_size(box: Box) -> list[float]:
    return list(box[1:])


def corners(box: Box) -> list[float]:
    _, x, y, w, h = box
    return [x, y, x + w, y + h]


def centre_and_size(box: Box) -> list[float]:
    _, x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


def shares(of: Numbers) -> Numbers:
    return lambda box: [n / side for n, side in zip(of(box), (640, 480) * 2, strict=True)]


def percent(of: Numbers) -> Numbers:
    return lambda box: [100 * n for n in shares(of)(box)]


def write(form: str, fields: Fields, numbers: Numbers, i: int = 0) -> None:
    """Writes an annotation file of field ``i`` with other numbers than the format has."""
    boxes = [(box[0], *numbers(box)) for box in fields.boxes(i)]
    if form == "coco":
        annotations = [
            a | {"bbox": list(box[1:])}
            for a, box in zip(fields.annotations(i, 1), boxes, strict=True)
        ]
        write_coco("x.json", [(1, "f.png")], annotations)
    elif form == "voc":
        objects = "".join(
            f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
            f"<ymax>{d}</ymax></bndbox></object>"
            for n, a, b, c, d in boxes
        )
        made("f.xml").write_text(f"<annotation><filename>f.png</filename>{objects}</annotation>")
    elif form == "csv":
        rows = "".join(f"f.png,{a},{b},{c},{d},{n}\n" for n, a, b, c, d in boxes)
        made("b.csv").write_text("image,xmin,ymin,xmax,ymax,label\n" + rows)
    elif form == "labelme":
        shapes = [
            {"label": n, "points": [[a, b], [c, d]], "shape_type": "rectangle"}
            for n, a, b, c, d in boxes
        ]
        made("f.json").write_text(json.dumps({"imagePath": "f.png", "shapes": shapes}))
    elif form == "via":
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": a, "y": b, "width": c, "height": d},
                "region_attributes": {"type": n},
            }
            for n, a, b, c, d in boxes
        ]
        made("v.json").write_text(json.dumps({"f": {"filename": "f.png", "regions": regions}}))
    else:
        rows = "".join(f"0 {a:.6f} {b:.6f} {c:.6f} {d:.6f}\n" for _, a, b, c, d in boxes)
        made("f.txt").write_text(rows)
        made("classes.txt").write_text("rbc\n")


@pytest.mark.parametrize(
    ("form", "numbers", "said"),
    [
        ("coco", corners, "they fit their pictures as corners"),
        ("coco", centre_and_size, "as centre and size"),
        ("coco", shares(corner_and_size), "shares from 0 to 1"),
        ("coco", shares(corners), "shares from 0 to 1"),
        ("coco", percent(corner_and_size), "percent"),
        ("voc", corner_and_size, "as corner and size"),
        ("voc", centre_and_size, "as centre and size"),
        ("voc", shares(corners), "shares from 0 to 1"),
        ("csv", corner_and_size, "as corner and size"),
        ("csv", shares(centre_and_size), "as centre and size"),
        ("csv", percent(corners), "percent"),
        ("csv", shares(corners), ""),
        ("labelme", shares(corners), "shares from 0 to 1"),
        ("labelme", percent(corners), "percent"),
        ("via", shares(corner_and_size), "shares from 0 to 1"),
        ("yolo", shares(corners), "as corners"),
        ("yolo", shares(corner_and_size), "as corner and size"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "numbers"),
)
def test_the_boxes_lie_where_they_belong_and_it_is_said(
    fields: Fields, folder: Path, form: str, numbers: Numbers, said: str
) -> None:
    fields.put(0, "f.png")
    write(form, fields, numbers)
    annotated = read_annotations(folder)
    (image,) = annotated.images
    true = [corners(box) for box in fields.boxes(0)]
    assert image.boxes_xyxy == pytest.approx(np.array(true), abs=0.01)
    assert said in " ".join(p.what for p in annotated.problems)
    assert bool(annotated.problems) == bool(said)


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("coco", corner_and_size),
        ("voc", corners),
        ("csv", corners),
        ("labelme", corners),
        ("via", corner_and_size),
        ("yolo", shares(centre_and_size)),
    ],
)
@pytest.mark.parametrize("i", range(6))
def test_numbers_as_the_format_has_them_are_not_doubted(
    fields: Fields, folder: Path, form: str, numbers: Numbers, i: int
) -> None:
    fields.put(i, "f.png")
    write(form, fields, numbers, i)
    annotated = read_annotations(folder)
    true = np.array([corners(box) for box in fields.boxes(i)])
    assert annotated.images[0].boxes_xyxy == pytest.approx(true, abs=0.01)
    assert annotated.problems == ()


def test_inspect_says_that_the_boxes_are_shares(fields: Fields, run: Run) -> None:
    fields.put(0, "b/f.png")
    boxes = [
        a | {"bbox": shares(corner_and_size)(box)}
        for a, box in zip(fields.annotations(0, 1), fields.boxes(0), strict=True)
    ]
    write_coco("b/x.json", [(1, "f.png")], boxes)
    code, out, _ = run("datasets", "inspect", "b")
    assert code == 1
    assert "broken files and boxes: 1" in out
    assert "its boxes are not in pixels; taken as shares from 0 to 1" in out


def test_numbers_that_can_be_nothing_are_refused(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    rows = "".join(f"f.png,{600 - i},{400 - i},{i},{i + 5},rbc\n" for i in range(20))
    Path("b.csv").write_text("image,xmin,ymin,xmax,ymax,label\n" + rows + "f.png,9,9,900,700,rbc\n")
    with pytest.raises(AnnotationError, match="can be neither corners nor anything else"):
        read_annotations(folder)
