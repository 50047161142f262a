"""Shares given as pixels, corners given as sizes and the reverse (W18): recognised, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import (
    HEIGHT_PX,
    WIDTH_PX,
    Box,
    Fields,
    Run,
    made,
    via_entry,
    write_coco,
    write_csv,
    write_labelme,
    write_via,
)

Four = tuple[float, float, float, float]
Numbers = Callable[[Box], Four]


def corner_and_size(box: Box) -> Four:
    return box[1:]


def corners(box: Box) -> Four:
    _, x, y, w, h = box
    return x, y, x + w, y + h


def centre_and_size(box: Box) -> Four:
    _, x, y, w, h = box
    return x + w / 2, y + h / 2, w, h


def shares(of: Numbers) -> Numbers:
    def numbers(box: Box) -> Four:
        a, b, c, d = of(box)
        return a / WIDTH_PX, b / HEIGHT_PX, c / WIDTH_PX, d / HEIGHT_PX

    return numbers


def percent(of: Numbers) -> Numbers:
    def numbers(box: Box) -> Four:
        a, b, c, d = shares(of)(box)
        return 100 * a, 100 * b, 100 * c, 100 * d

    return numbers


def write(form: str, fields: Fields, numbers: Numbers, i: int = 0) -> None:
    """Writes an annotation file of field ``i`` with other numbers than the format has."""
    boxes: list[Box] = [(box[0], *numbers(box)) for box in fields.boxes(i)]
    # Writers of corners add a size to a corner; the numbers are to stand as they are.
    as_corners: list[Box] = [(n, a, b, c - a, d - b) for n, a, b, c, d in boxes]
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
        write_csv("b.csv", "f.png", as_corners)
    elif form == "labelme":
        write_labelme("f.json", "f.png", as_corners)
    elif form == "via":
        write_via("v.json", via_entry("f.png", boxes))
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
