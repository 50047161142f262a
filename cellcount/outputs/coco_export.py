"""All cells of a run as COCO annotations."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cellcount.core.cells import without_removed
from cellcount.core.records import CellClass, ImageResult
from cellcount.files.atomic import atomic_write
from cellcount.outputs.run_content import Labels, RunContent
from cellcount.outputs.typed import label_values


def write_coco(path: Path, content: RunContent) -> None:
    """Write a COCO file of all images that are done, with their cells as annotations.

    Ids count from 1, categories in the order of the classes; ``bbox`` is x, y, width, height in
    pixels of the original image; ``score`` (of cells that were detected) and ``edge`` are added to
    what COCO asks for, and for cells with a type ``attributes``, named like the columns of
    cells.csv. Cells that a person took out are not there.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    labels, annotation_id = content.labels, 0
    # One pass over the results: annotations wait beside the output until all images are written.
    with atomic_write(path) as file, tempfile.TemporaryFile(dir=path.parent) as waiting:
        file.write(b'{"info": ' + json.dumps(_info(labels.profile)).encode() + b',\n"images": [')
        done = (without_removed(r) for r in content.results() if r.status == "done")
        for image_id, result in enumerate(done, 1):
            _write_item(file, image_id, _image(image_id, result))
            for annotation in _annotations(image_id, result, labels):
                annotation_id += 1
                _write_item(waiting, annotation_id, {"id": annotation_id, **annotation})
        file.write(b'],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
        file.write(b'],\n"categories": [')
        for category_id, cell_class in enumerate(labels.classes, 1):
            _write_item(file, category_id, _category(category_id, cell_class))
        file.write(b"]}\n")


def _info(profile: str) -> dict[str, str]:
    info = {"description": "cells counted by cellcount"}
    return info | {"profile": profile} if profile else info


def _image(image_id: int, result: ImageResult) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": result.ref.image,
        "width": result.width_px,
        "height": result.height_px,
    }


def _annotations(image_id: int, result: ImageResult, labels: Labels) -> Iterator[dict[str, Any]]:
    detections = result.cells.detections
    for box_xyxy, score, label, edge, attributes in zip(
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        result.cells.edge.tolist(),
        _attributes(result, labels),
        strict=True,
    ):
        x_min, y_min, x_max, y_max = box_xyxy
        width, height = round(x_max - x_min, 2), round(y_max - y_min, 2)
        yield {
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [round(x_min, 2), round(y_min, 2), width, height],
            "area": round(width * height, 4),
            "iscrowd": 0,
            **({} if math.isnan(score) else {"score": round(score, 4)}),
            "edge": edge,
            **attributes,
        }


def _attributes(result: ImageResult, labels: Labels) -> Iterator[dict[str, Any]]:
    """Attributes of each cell: its type and review; empty without any."""
    if result.cells.types is None:
        yield from ({} for _ in range(len(result.cells)))
        return
    columns = label_values(result, labels.types, labels.no_white_types)
    for row in zip(*columns.values(), strict=True):
        known = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        rounded = {n: round(v, 4) if isinstance(v, float) else v for n, v in known.items()}
        yield {"attributes": rounded} if rounded else {}


def _category(category_id: int, cell_class: CellClass) -> dict[str, Any]:
    return {"id": category_id, "name": cell_class.id, "supercategory": "cell"}


def _write_item(file: BinaryIO, number: int, item: dict[str, Any]) -> None:
    """One JSON object a line. A lone surrogate becomes ``\\udcff``, which is JSON's own escape."""
    text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    file.write(b"\n" if number == 1 else b",\n")
    file.write(text.encode("utf-8", "backslashreplace"))
