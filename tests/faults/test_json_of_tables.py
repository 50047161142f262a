"""JSON as R and pandas write it (W43): 1.0 is 1, "0" is no, a list of one is its value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellcount.datasets.annotations import read_annotations
from tests.faults.recipes import CATEGORIES, Fields, Run, write_labelme

Change = Callable[[dict[str, Any]], dict[str, Any]]


def content(fields: Fields) -> dict[str, list[dict[str, Any]]]:
    sizes = {"width": 640, "height": 480}
    return {
        "images": [{"id": n + 1, "file_name": f"{n}.png"} | sizes for n in range(2)],
        "annotations": fields.annotations(0, 1) + fields.annotations(1, 2, 500),
        "categories": CATEGORIES,
    }


def check(fields: Fields, folder: Path, said: int = 0) -> None:
    annotated = read_annotations(folder)
    assert [len(i.labels) for i in annotated.images] == [len(fields.boxes(i)) for i in range(2)]
    assert len(annotated.problems) == said


@pytest.fixture(autouse=True)
def pictures(fields: Fields, folder: Path) -> None:
    for i in range(2):
        fields.put(i, f"{i}.png")


def floats(record: dict[str, Any]) -> dict[str, Any]:
    return {k: float(v) if isinstance(v, int) else v for k, v in record.items()}


def texts(record: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, int | float) else v for k, v in record.items()}


def texts_of_floats(record: dict[str, Any]) -> dict[str, Any]:
    return texts(floats(record))


def unboxed_by_nobody(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, list) else [v] for k, v in record.items()}


def boxes_as_text(record: dict[str, Any]) -> dict[str, Any]:
    return {k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()}


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(
    "change", [floats, texts, texts_of_floats, unboxed_by_nobody, boxes_as_text]
)
def test_values_in_other_forms(fields: Fields, folder: Path, key: str, change: Change) -> None:
    lists = content(fields)
    lists[key] = [change(record) for record in lists[key]]
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder)


@pytest.mark.parametrize(
    "no",
    [0, 0.0, "0", "0.0", "false", "FALSE", "no", "NA", "", None, [0], ["FALSE"], [], float("nan")],
)
def test_what_is_no_crowd(fields: Fields, folder: Path, no: object) -> None:
    lists = content(fields)
    lists["annotations"] = [a | {"iscrowd": no} for a in lists["annotations"]]
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder)


@pytest.mark.parametrize("yes", [1, 1.0, "1", "true", "TRUE", True, [1], "1.0"])
def test_what_is_a_crowd(fields: Fields, folder: Path, yes: object) -> None:
    lists = content(fields)
    lists["annotations"].append(
        {"id": 9999, "image_id": 1, "category_id": 1, "bbox": [0, 0, 300, 300], "iscrowd": yes}
    )
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder, said=1)


def test_columns_instead_of_rows(fields: Fields, folder: Path) -> None:
    def columns(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {k: {str(n): r[k] for n, r in enumerate(records)} for k in records[0]}

    lists = {key: columns(records) for key, records in content(fields).items()}
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder)


def test_columns_of_lists(fields: Fields, folder: Path) -> None:
    lists = {
        key: {k: [r[k] for r in records] for k in records[0]}
        for key, records in content(fields).items()
    }
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder)


def test_ids_with_leading_zeros_stay_apart(fields: Fields, folder: Path) -> None:
    lists = content(fields)
    for image, name in zip(lists["images"], ("1", "01"), strict=True):
        image["id"] = name
    for annotation in lists["annotations"]:
        annotation["image_id"] = "1" if annotation["image_id"] == 1 else "01"
    Path("x.json").write_text(json.dumps(lists))
    check(fields, folder)


def test_sizes_of_labelme_as_text_are_compared(fields: Fields, folder: Path) -> None:
    for i in range(2):
        boxes = [(n, 2 * x, 2 * y, 2 * w, 2 * h) for n, x, y, w, h in fields.boxes(i)]
        stated = {"imageWidth": "1280", "imageHeight": [960.0]}
        write_labelme(f"{i}.json", f"{i}.png", boxes, **stated)
    check(fields, folder, said=2)


def test_a_table_with_names_of_rows_as_r_writes_it(fields: Fields, folder: Path) -> None:
    rows = [
        f'"{n}","{i}.png",{x},{y},{x + w},{y + h},"{label}"\n'
        for i in range(2)
        for n, (label, x, y, w, h) in enumerate(fields.boxes(i), 1)
    ]
    header = '"image","xmin","ymin","xmax","ymax","label"\n'
    Path("b.csv").write_text(header + "".join(rows))
    check(fields, folder)


def test_inspect_finds_all_boxes_of_the_recipe(fields: Fields, run: Run) -> None:
    lists = content(fields)
    lists["annotations"] = [floats(a) | {"iscrowd": "0"} for a in lists["annotations"]]
    Path("x.json").write_text(json.dumps(lists))
    _, out, _ = run("datasets", "inspect", ".")
    assert f"2 pictures, {len(lists['annotations'])} cells" in out
    assert "broken files and boxes: none" in out
