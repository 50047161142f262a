"""Tables of boxes: columns, pixels or shares, broken rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.datasets import csv_boxes
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    "header",
    [
        "image,xmin,ymin,xmax,ymax,label",
        "path,x_min_px,y_min_px,x_max_px,y_max_px,class",
        "Filename;XMIN;YMIN;XMAX;YMAX;Class",
        "file\tx1\ty1\tx2\ty2\tlabel",
    ],
)
def test_pixels(tmp_path: Path, make_image: Make, write: Write, header: str) -> None:
    path = make_image("images/a.jpg", (100, 50))
    separator = next(c for c in ",;\t" if c in header)
    row = ("a.jpg", "10", "5.5", "120", "40", "RBC")
    write("boxes.csv", f"{header}\n{separator.join(row)}\n")
    annotated = csv_boxes.read(tmp_path)
    assert annotated.images[0].path == path
    assert annotated.images[0].boxes_xyxy.tolist() == [[10, 5.5, 100, 40]]
    assert annotated.images[0].labels == ("RBC",)
    assert annotated.problems == ()


def test_shares_are_decided_for_the_whole_file(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("a.jpg", (100, 50))
    make_image("b.jpg", (200, 100))
    write(
        "boxes.csv",
        "image,xmin,ymin,xmax,ymax,label,split\n"
        "a.jpg,0.1,0.2,0.5,1.0,rbc,train\n"
        "b.jpg,0.0,0.0,1.0,0.5,wbc,valid\n"
        "b.jpg,10,20,90,80,rbc,valid\n",
    )
    annotated = csv_boxes.read(tmp_path)
    first, second = annotated.images
    assert first.boxes_xyxy[0] == pytest.approx([10, 10, 50, 50])
    assert second.boxes_xyxy.tolist() == [[0, 0, 200, 50]]
    assert (first.split, second.split) == ("train", "val")
    (problem,) = annotated.problems
    assert problem.what.startswith("box 2 (rbc, x 10 to 90, y 20 to 80) is not written in shares")


def test_a_tiny_box_does_not_turn_pixels_into_shares(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("a.jpg")
    rows = "a.jpg,0,0,1,1,p\na.jpg,10,10,30,30,p\na.jpg,20,5,40,15,p\n"
    write("boxes.csv", f"image,xmin,ymin,xmax,ymax,label\n{rows}")
    assert csv_boxes.read(tmp_path).images[0].boxes_xyxy[0].tolist() == [0, 0, 1, 1]


def test_broken_rows_are_survived(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("a.jpg")
    make_image("none.jpg")
    make_image("unlisted.jpg")
    write(
        "boxes.csv",
        "image,xmin,ymin,xmax,ymax,label,split\n"
        "a.jpg,1,2,30,40,rbc,train\n"
        "a.jpg,1,2,,40,rbc,train\n"
        "a.jpg,1,2,inf,40,rbc,train\n"
        "a.jpg,30,2,1,40,rbc,test\n"
        ",1,2,3,4,rbc,\n"
        "a.jpg,1\n"
        "\n"
        "gone.jpg,1,2,3,4,rbc,\n"
        "none.jpg,,,,,,\n",
    )
    annotated = csv_boxes.read(tmp_path)
    assert [(i.path.name, i.labels) for i in annotated.images] == [
        ("a.jpg", ("rbc",)),
        ("none.jpg", ()),
    ]
    said = " | ".join(p.what for p in annotated.problems)
    for part in (
        "row 3 (a.jpg) has xmax '', expected a number",
        "not finite",
        "no width or height",
        "row 6 names no image",
        "row 7 (a.jpg) has ymin ''",
        "its image gone.jpg was not found; 1 rows left out",
        "stands in several splits",
        "1 images have no annotation",
    ):
        assert part in said
    assert annotated.images[0].split == ""


def test_other_tables_are_not_taken(tmp_path: Path, write: Write) -> None:
    write("counts.csv", "image,cells\na.jpg,3\n")
    assert not csv_boxes.sniff(tmp_path)
    with pytest.raises(AnnotationError, match=r"counts.csv: \['image', 'cells'\]"):
        csv_boxes.read(tmp_path)
