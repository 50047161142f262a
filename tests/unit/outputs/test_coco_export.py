"""The COCO file is one that pycocotools loads and agrees with."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from cellcount.core.records import CellClass, CellTypes, ImageRef, ImageResult
from cellcount.outputs.coco_export import write_coco
from tests.unit.run_content import content_of

MakeResult = Callable[..., ImageResult]


def test_pycocotools_finds_every_cell(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    results = [make_result('a "1"\nü.png', 20), make_result("b.png", 0), make_result("c.png", 7)]
    failed = ImageResult(ImageRef(Path("x"), "x.png", "s"), "failed", "unreadable")
    path = tmp_path / "coco.json"
    write_coco(path, content_of([*results[:1], failed, *results[1:]], blood))
    coco = COCO(str(path))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        *('a "1"\nü.png', "b.png", "c.png")
    ]
    assert [(c["id"], c["name"]) for c in coco.loadCats(coco.getCatIds())] == [
        *((1, "rbc"), (2, "wbc"), (3, "platelet"))
    ]
    assert coco.getAnnIds() == list(range(1, 28))
    for image_id, result in enumerate(results, 1):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        boxes = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        detections = result.cells.detections
        np.testing.assert_allclose(boxes, detections.boxes_xyxy, atol=0.006)
        assert [a["category_id"] - 1 for a in annotations] == detections.labels.tolist()
        assert [a["edge"] for a in annotations] == result.cells.edge.tolist()
        np.testing.assert_allclose(
            [a["score"] for a in annotations], detections.scores, atol=5.1e-5
        )
        for annotation in annotations:
            width, height = annotation["bbox"][2:]
            assert abs(annotation["area"] - width * height) < 1e-3
            assert annotation["iscrowd"] == 0


def test_typed_cells_have_attributes(
    tmp_path: Path,
    blood: list[CellClass],
    types: list[CellClass],
    said: CellTypes,
    make_result: MakeResult,
) -> None:
    result = make_result("a.png", 5)
    typed = replace(result, cells=replace(result.cells, types=said))
    write_coco(tmp_path / "typed.json", content_of([typed], blood, types))
    write_coco(tmp_path / "plain.json", content_of([result], blood))
    with_types, plain = (
        json.loads((tmp_path / name).read_text("utf-8"))["annotations"]
        for name in ("typed.json", "plain.json")
    )
    assert [a.pop("attributes", None) for a in with_types] == [
        None,
        {
            "type": "neutrophil",
            "type_prob": 0.9,
            "type_2": "monocyte",
            "type_2_prob": 0.0625,
            "needs_review": False,
        },
        {"type": "unclassified", "type_2": "monocyte", "type_2_prob": 0.4, "needs_review": True},
        {"type": "band_cell", "type_prob": 1.0, "needs_review": False},
        {
            "type": "neutrophil",
            "type_prob": 0.75,
            "type_2": "band_cell",
            "type_2_prob": 0.25,
            "needs_review": False,
        },
    ]
    assert with_types == plain


def test_nothing_done_is_a_valid_file(tmp_path: Path, blood: list[CellClass]) -> None:
    path = tmp_path / "new" / "coco.json"
    write_coco(path, content_of([], blood))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["images"] == document["annotations"] == []
    assert len(document["categories"]) == 3
    assert list(path.parent.iterdir()) == [path]


def test_names_that_are_not_unicode_come_back(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    path = tmp_path / "coco.json"
    write_coco(path, content_of([make_result("caf\udce9\\udce9.png", 1)], blood))
    (image,) = json.loads(path.read_text(encoding="utf-8"))["images"]
    assert image["file_name"] == "caf\udce9\\udce9.png"


def test_memory_does_not_grow(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    result = make_result("a.png", 300)

    def peak(count: int) -> int:
        tracemalloc.start()
        write_coco(
            tmp_path / "coco.json", content_of(lambda: (result for _ in range(count)), blood)
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(20) < 1.2 * peak(4)
