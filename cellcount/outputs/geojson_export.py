"""Cells of each image as GeoJSON, for QuPath.

A file per image, written atomically in a tree like that of the images; where an image has no
result any more, its file goes.

Shapes: N cells; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellcount.core.records import CellTypes, ImageResult
from cellcount.files.atomic import atomic_write
from cellcount.outputs.drawn_labels import drawn_labels, last_review
from cellcount.outputs.image_labels import as_utf8, called
from cellcount.outputs.pictures.annotate import mirrored_path
from cellcount.outputs.pictures.shapes import look_of
from cellcount.outputs.run_content import Labels, RunContent
from cellcount.outputs.typed import type_values

#: Measurement that says when the image was last corrected as the file was written.
LAST_REVIEW = "last_review"

_NAMESPACE = uuid.UUID("5b0a1c0e-6a7b-5f0d-9d59-2f6f0f4c8a11")


def write_geojson(folder: Path, content: RunContent) -> None:
    """Write a GeoJSON file per image, which QuPath opens by dropping it on the image.

    Each cell is a detection: its box, its type (else its class) as the classification, and the
    model's confidence as measurements. The profile, as outputs call it, is a member beside them.

    Raises:
        OutputError: a file cannot be written.
    """
    labels = content.labels
    head = f', "profile": {json.dumps(labels.profile)}' if labels.profile else ""
    for result in content.results():
        path = mirrored_path(folder, result.ref.image, ".geojson")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        with atomic_write(path) as file:
            file.write(f'{{"type": "FeatureCollection"{head}, "features": ['.encode())
            for number, feature in enumerate(_features(result, labels), 1):
                text = json.dumps(feature, ensure_ascii=False, allow_nan=False)
                file.write(b"\n" if number == 1 else b",\n")
                file.write(text.encode("utf-8", "backslashreplace"))
            file.write(b"]}\n")


def _features(result: ImageResult, labels: Labels) -> Iterator[dict[str, Any]]:
    detections, names = result.cells.detections, labels.names
    said = CellTypes.untyped(len(detections)) if result.cells.types is None else result.cells.types
    typed = type_values(said, labels.types)
    rows = zip(
        called(result, labels),
        drawn_labels(result, labels),
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        typed["type_prob"],
        strict=True,
    )
    reviewed = last_review(result)
    for place, (name, label, box_xyxy, score, prob) in enumerate(rows):
        number = result.cells.number_of(place)
        measurements: dict[str, float] = {} if math.isnan(score) else {"score": round(score, 4)}
        if isinstance(prob, float) and place not in result.reviewed:
            measurements["type_prob"] = round(prob, 4)
        if reviewed:
            measurements[LAST_REVIEW] = reviewed
        yield {
            "type": "Feature",
            "id": cell_id(result.ref.image, number),
            "geometry": {"type": "Polygon", "coordinates": [_ring(box_xyxy)]},
            "properties": {
                "objectType": "detection",
                "name": f"{number}",
                "classification": {"name": label, "color": list(look_of(names.index(name)).color)},
                "measurements": measurements,
            },
        }


def cell_id(image: str, number: int) -> str:
    """Id of a cell: made from what its image is called and its number, so it stays the same."""
    return str(uuid.uuid5(_NAMESPACE, as_utf8(f"{image}\n{number}")))


def _ring(box_xyxy: Sequence[float]) -> list[list[float]]:
    """The box as a closed ring of x and y, clockwise on the screen."""
    x_min, y_min, x_max, y_max = (round(v, 2) for v in box_xyxy)
    return [[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max], [x_min, y_min]]
