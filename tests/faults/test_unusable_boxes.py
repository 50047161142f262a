"""Pictures of which no box is usable (W15): left out, never learned or judged as empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount.datasets.annotations import read_annotations
from tests.faults.recipes import CATEGORIES, Fields, Run, made, write_coco, write_voc

CLASSES = "rbc\nwbc\nplatelet\n"


@pytest.fixture
def two(fields: Fields) -> None:
    fields.put(0, "images/a.png")
    fields.put(1, "images/b.png")


@pytest.mark.usefixtures("two")
def test_a_sixth_number_of_yolo_is_a_confidence(fields: Fields, folder: Path) -> None:
    fields.yolo("labels/a.txt", 0)
    fields.yolo("labels/b.txt", 1, " 0.93")
    Path("classes.txt").write_text(CLASSES)
    annotated = read_annotations(folder)
    a, b = annotated.images
    assert [len(a.labels), len(b.labels)] == [len(fields.boxes(0)), len(fields.boxes(1))]
    (problem,) = annotated.problems
    assert f"{len(fields.boxes(1))} label lines hold a confidence" in problem.what


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.5 0.5 0.1 0.2 0.9", [288, 192, 352, 288]),
        ("0 0.5 0.5 0.1 0.2 0.9 17", [288, 192, 352, 288]),
        ("0 0.5 0.5 0.1 0.2 17", [288, 192, 352, 288]),
        ("0 0.4 0.5 0.5 0.4 0.6 0.5 0.5 0.6", [256, 192, 384, 288]),
        ("0 0.4 0.5 0.5 0.4 0.6 0.5 0.5 0.6 0.8", [256, 192, 384, 288]),
        ("0 0.1 0.1 0.3 0.2 0.2 0.5", [64, 48, 192, 240]),
    ],
)
def test_what_yolo_tools_add_to_a_line(
    fields: Fields, folder: Path, line: str, expected: list[float]
) -> None:
    fields.put(0, "images/a.png")
    made("labels/a.txt").write_text(line + "\n")
    Path("classes.txt").write_text(CLASSES)
    (image,) = read_annotations(folder).images
    assert image.boxes_xyxy[0].tolist() == pytest.approx(expected, abs=0.01)


def test_points_of_a_pose_are_no_polygon(fields: Fields, folder: Path) -> None:
    fields.put(0, "images/a.png")
    made("labels/a.txt").write_text("0 0.5 0.5 0.1 0.2 0.9 0.9 2 0.95 0.95 2\n")
    Path("data.yaml").write_text("names: [rbc]\nkpt_shape: [2, 3]\n")
    (image,) = read_annotations(folder).images
    assert image.boxes_xyxy[0].tolist() == pytest.approx([288, 192, 352, 288], abs=0.01)


def unusable(form: str, fields: Fields) -> None:
    """Annotates images/a.png rightly, and images/b.png with boxes that are none."""
    if form == "yolo in pixels":
        fields.yolo("labels/a.txt", 0)
        rows = [f"0 {x:.1f} {y:.1f} {w:.1f} {h:.1f}\n" for _, x, y, w, h in fields.boxes(1)]
        made("labels/b.txt").write_text("".join(rows))
        Path("classes.txt").write_text(CLASSES)
    elif form == "yolo of another list of classes":
        fields.yolo("labels/a.txt", 0)
        made("labels/b.txt").write_text("7 0.5 0.5 0.1 0.1\n8 0.2 0.2 0.1 0.1\n")
        Path("classes.txt").write_text(CLASSES)
    elif form == "voc without corners":
        write_voc("a.xml", "a.png", fields.boxes(0))
        objects = "<object><name>rbc</name></object>" * 3
        Path("b.xml").write_text(
            f"<annotation><filename>b.png</filename>{objects}</annotation>", encoding="utf-8"
        )
    elif form == "coco crowds":
        crowds = [a | {"iscrowd": 1} for a in fields.annotations(1, 2, 900)]
        images = [(1, "images/a.png"), (2, "images/b.png")]
        write_coco("x.json", images, fields.annotations(0, 1) + crowds)
    elif form == "coco of unknown categories":
        strange = [a | {"category_id": 9} for a in fields.annotations(1, 2, 900)]
        images = [(1, "images/a.png"), (2, "images/b.png")]
        write_coco("x.json", images, fields.annotations(0, 1) + strange)
    elif form == "labelme points":
        for i, name in enumerate("ab"):
            kind = "point" if i else "rectangle"
            shapes = [
                {"label": n, "points": [[x, y], [x + w, y + h]][: 2 - i], "shape_type": kind}
                for n, x, y, w, h in fields.boxes(i)
            ]
            content = {"imagePath": f"images/{name}.png", "shapes": shapes}
            Path(f"{name}.json").write_text(json.dumps(content))
    elif form == "via points":
        regions: list[list[dict[str, Any]]] = [
            [
                {"name": "point", "cx": x, "cy": y}
                if i
                else {"name": "rect", "x": x, "y": y, "width": w, "height": h}
                for _, x, y, w, h in fields.boxes(i)
            ]
            for i in range(2)
        ]
        entries: dict[str, Any] = {
            name: {
                "filename": f"{name}.png",
                "regions": [
                    {"shape_attributes": shape, "region_attributes": {"type": "rbc"}}
                    for shape in regions[i]
                ],
            }
            for i, name in enumerate("ab")
        }
        Path("v.json").write_text(json.dumps(entries))
    else:
        rows = [f"a.png,{x},{y},{x + w},{y + h},{n}\n" for n, x, y, w, h in fields.boxes(0)]
        rows += ["b.png,n/a,n/a,n/a,n/a,rbc\n"] * 4
        Path("b.csv").write_text("image,xmin,ymin,xmax,ymax,label\n" + "".join(rows))


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "form",
    [
        "yolo in pixels",
        "yolo of another list of classes",
        "voc without corners",
        "coco crowds",
        "coco of unknown categories",
        "labelme points",
        "via points",
        "csv without numbers",
    ],
)
def test_the_picture_is_left_out_in_one_line(
    fields: Fields, folder: Path, run: Run, form: str
) -> None:
    unusable(form, fields)
    annotated = read_annotations(folder)
    (image,) = annotated.images
    assert (image.path.name, len(image.labels)) == ("a.png", len(fields.boxes(0)))
    assert annotated.left_out == 1
    lines = [p.what for p in annotated.problems if "b.png is left out" in p.what]
    assert len(lines) == 1
    assert "unusable" in lines[0]
    code, out, _ = run("datasets", "inspect", ".")
    assert code == 1
    assert "pictures left out: 1" in out


@pytest.mark.usefixtures("two")
def test_a_file_whose_boxes_belong_to_no_image_teaches_no_empty_picture(
    fields: Fields, folder: Path, run: Run
) -> None:
    strangers = [a | {"image_id": f"images/{a['image_id']}"} for a in fields.annotations(0, 1)]
    write_coco("x.json", [(1, "images/a.png"), (2, "images/b.png")], strangers)
    code, _, err = run("datasets", "inspect", ".")
    assert code == 3
    assert "no annotation of the file belongs to any of its images" in err


@pytest.mark.usefixtures("two")
def test_a_picture_said_to_be_empty_stays(fields: Fields, folder: Path) -> None:
    write_coco("x.json", [(1, "images/a.png"), (2, "images/b.png")], fields.annotations(0, 1))
    assert [len(i.labels) for i in read_annotations(folder).images] == [len(fields.boxes(0)), 0]


@pytest.mark.usefixtures("two")
def test_an_image_whose_labels_lie_in_another_folder_is_not_empty(
    fields: Fields, folder: Path
) -> None:
    fields.yolo("labels/a.txt", 0)
    fields.yolo("labels/tue/b.txt", 1)
    Path("classes.txt").write_text(CLASSES)
    annotated = read_annotations(folder)
    assert [i.path.name for i in annotated.images] == ["a.png"]
    assert "whether labels/tue/b.txt is its own is not known" in annotated.problems[0].what


@pytest.mark.usefixtures("two")
def test_boxes_smaller_than_a_pixel_are_said(fields: Fields, folder: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "images/a.png"}],
        "annotations": [
            *fields.annotations(0, 1),
            {"id": 999, "image_id": 1, "category_id": 1, "bbox": [5.5, 7.5, 0.25, 0.25]},
        ],
        "categories": CATEGORIES,
    }
    Path("x.json").write_text(json.dumps(content))
    annotated = read_annotations(folder)
    assert len(annotated.images[0].labels) == len(fields.boxes(0))
    assert np.diff(annotated.images[0].boxes_xyxy[:, ::2]).min() > 1
    assert any("is smaller than a pixel" in p.what for p in annotated.problems)


@pytest.mark.usefixtures("two")
def test_pictures_left_out_are_told_before_single_boxes(
    fields: Fields, folder: Path, run: Run
) -> None:
    fields.yolo("labels/a.txt", 0)
    path = Path("labels/a.txt")
    path.write_text("9 0.5 0.5 0.1 0.1\n" * 30 + path.read_text())
    made("labels/b.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    Path("classes.txt").write_text(CLASSES)
    _, _, err = run("datasets", "convert", ".", "--to", "coco", "--out", "out")
    lines = err.splitlines()
    assert "b.png is left out" in lines[0]
    assert "21 more problems; 1 picture left out in all" in err
