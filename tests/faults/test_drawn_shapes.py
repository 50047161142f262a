"""Cells drawn as masks, turned boxes, outlines and polygons (W16): each is read as its box."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import CATEGORIES, Box, Fields, Run, made


def two_corners(box: Box) -> list[list[float]]:
    _, x, y, w, h = box
    return [[x, y], [x + w, y + h]]


def four_corners(box: Box) -> list[list[float]]:
    _, x, y, w, h = box
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def outline(box: Box) -> list[list[float]]:
    _, x, y, w, h = box
    turns = np.linspace(0, 2 * np.pi, 13)
    return [
        [x + w / 2 + w / 2 * math.cos(t), y + h / 2 + h / 2 * math.sin(t)] for t in turns.tolist()
    ]


def check(fields: Fields, folder: Path, slack: float = 0.1) -> None:
    (image,) = read_annotations(folder).images
    boxes = fields.boxes(0)
    true = np.array([[x, y, x + w, y + h] for _, x, y, w, h in boxes])
    assert len(image.labels) == len(boxes)
    assert image.boxes_xyxy == pytest.approx(true, abs=slack)


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("mask", two_corners),
        ("rotation", four_corners),
        ("oriented_rectangle", four_corners),
        ("rectangle", four_corners),
        ("linestrip", outline),
        ("polygon", outline),
        (None, outline),
    ],
)
def test_every_shape_of_labelme_around_a_cell(
    fields: Fields,
    folder: Path,
    kind: str | None,
    points: Callable[[Box], list[list[float]]],
) -> None:
    fields.put(0, "f.png")
    shapes = [
        {"label": box[0], "points": points(box), "shape_type": kind, "mask": ""}
        for box in fields.boxes(0)
    ]
    content = {"version": "5.4.1", "shapes": shapes, "imagePath": "f.png", "imageData": None}
    Path("f.json").write_text(json.dumps(content))
    check(fields, folder, slack=0.1 if points is not outline else 0.2)
    assert read_annotations(folder).problems == ()


@pytest.mark.parametrize("kind", ["point", "line", "points", "cuboid"])
def test_shapes_around_nothing_are_said(fields: Fields, folder: Path, kind: str) -> None:
    fields.put(0, "f.png")
    shapes = [{"label": "rbc", "points": [[5, 5], [9, 9]], "shape_type": kind}] * 2
    shapes.append({"label": "wbc", "points": [[10, 10], [60, 60]], "shape_type": "rectangle"})
    Path("f.json").write_text(json.dumps({"imagePath": "f.png", "shapes": shapes}))
    annotated = read_annotations(folder)
    assert annotated.images[0].labels == ("wbc",)
    assert [p.what.startswith(f"shape {n} is no box ({kind} of 2 points")
            for n, p in enumerate(annotated.problems, 1)] == [True, True]  # fmt: skip


def coco_file(fields: Fields, shape_of: Callable[[Box], dict[str, Any]]) -> None:
    annotations = [
        {"id": a["id"], "image_id": 1, "category_id": a["category_id"]} | shape_of(box)
        for a, box in zip(fields.annotations(0, 1), fields.boxes(0), strict=True)
    ]
    content = {
        "images": [{"id": 1, "file_name": "f.png", "width": 640, "height": 480}],
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    Path("x.json").write_text(json.dumps(content))


def whole_pixels(box: Box) -> tuple[int, int, int, int]:
    _, x, y, w, h = box
    return round(x), round(y), round(x + w), round(y + h)


def runs(box: Box) -> list[int]:
    x1, y1, x2, y2 = whole_pixels(box)
    mask = np.zeros((480, 640), bool)
    mask[y1:y2, x1:x2] = True
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    ends = [0, *changes, 480 * 640]
    return [second - first for first, second in itertools.pairwise(ends)]


def compressed(counts: Sequence[int]) -> str:
    """Run lengths as pycocotools writes them, for those without it."""
    text = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text.append(chr((bits | 0x20 * more) + 48))
    return "".join(text)


@pytest.mark.parametrize(
    ("shape_of", "slack"),
    [
        (lambda b: {"bbox": [], "segmentation": {"size": [480, 640], "counts": runs(b)}}, 1),
        (lambda b: {"segmentation": {"size": [480, 640], "counts": compressed(runs(b))}}, 1),
        (lambda b: {"bbox": None, "segmentation": [np.ravel(outline(b)).tolist()]}, 0.2),
        (lambda b: {"segmentation": np.ravel(four_corners(b)).tolist()}, 0.1),
        (lambda b: {"bbox": np.ravel(four_corners(b)).tolist()}, 0.1),
    ],
    ids=["runs", "compressed runs", "polygon", "bare polygon", "four corners"],
)
def test_shapes_of_coco_without_a_plain_box(
    fields: Fields, folder: Path, shape_of: Callable[[Box], dict[str, Any]], slack: float
) -> None:
    fields.put(0, "f.png")
    coco_file(fields, shape_of)
    check(fields, folder, slack)


def test_compressed_masks_are_those_of_pycocotools(fields: Fields) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    for box in fields.boxes(0)[:10]:
        x1, y1, x2, y2 = whole_pixels(box)
        pixels = np.zeros((480, 640), np.uint8, order="F")
        pixels[y1:y2, x1:x2] = 1
        assert mask.encode(pixels)["counts"].decode() == compressed(runs(box))


@pytest.mark.parametrize(
    "counts", [[], [5, -1], [1, 10**9], "\x01", [480 * 640], "~~"], ids=lambda c: str(c)[:9]
)
def test_broken_masks_are_said(fields: Fields, folder: Path, counts: object) -> None:
    fields.put(0, "f.png")
    coco_file(fields, lambda _: {"segmentation": {"size": [480, 640], "counts": counts}})
    with pytest.raises(AnnotationError, match="boxes are unusable"):
        read_annotations(folder)


@pytest.mark.parametrize("kind", ["robndbox", "pt polygon", "numbered polygon"])
def test_turned_boxes_and_polygons_of_voc(fields: Fields, folder: Path, kind: str) -> None:
    fields.put(0, "f.png")
    objects = []
    for box in fields.boxes(0):
        label, x, y, w, h = box
        if kind == "robndbox":  # turned by a quarter, width and height exchanged
            shape = (
                f"<robndbox><cx>{x + w / 2}</cx><cy>{y + h / 2}</cy><w>{h}</w><h>{w}</h>"
                f"<angle>{math.pi / 2}</angle></robndbox>"
            )
        elif kind == "pt polygon":
            points = "".join(f"<pt><x>{a}</x><y>{b}</y></pt>" for a, b in four_corners(box))
            shape = f"<polygon>{points}</polygon>"
        else:
            numbered = enumerate(outline(box), 1)
            points = "".join(f"<x{n}>{a}</x{n}><y{n}>{b}</y{n}>" for n, (a, b) in numbered)
            shape = f"<polygon>{points}</polygon>"
        objects.append(f"<object><name>{label}</name>{shape}</object>")
    text = f"<annotation><filename>f.png</filename>{''.join(objects)}</annotation>"
    Path("f.xml").write_text(text)
    check(fields, folder, slack=0.2)


def test_polygons_and_turned_boxes_of_yolo(fields: Fields, folder: Path) -> None:
    fields.put(0, "images/f.png")
    lines = [
        "0 " + " ".join(f"{a / 640:.6f} {b / 480:.6f}" for a, b in shape(box)) + "\n"
        for box, shape in zip(fields.boxes(0), [outline, four_corners] * 99, strict=False)
    ]
    made("labels/f.txt").write_text("".join(lines))
    Path("classes.txt").write_text("rbc\n")
    check(fields, folder, slack=0.2)


def test_the_recipe_is_told_as_58_boxes(fields: Fields, run: Run) -> None:
    fields.put(0, "f.png")
    shapes = [
        {"label": box[0], "points": two_corners(box), "shape_type": "mask", "mask": ""}
        for box in fields.boxes(0)
    ]
    Path("f.json").write_text(json.dumps({"imagePath": "f.png", "shapes": shapes}))
    code, out, _ = run("datasets", "inspect", ".")
    assert (code, "1 picture, 58 cells" in out) == (0, True)
