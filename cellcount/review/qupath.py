"""GeoJSON of cells as QuPath exports it, read back: detections and annotations with their boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cellcount.outputs.geojson_export import LAST_REVIEW, cell_id
from cellcount.review.drawn_cells import DrawnCell, DrawnImage

SUFFIX = ".geojson"
_MOST_BYTES = 2**30
_FARTHEST_PX, _FARTHEST_S = 1e9, 1e12


def read_geojson(path: Path, image: str, count: int) -> DrawnImage:
    """Read the cells of an image.

    Args:
        path: the file.
        image: what outputs call the image.
        count: of its cells, removed ones too.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, expected at most {_MOST_BYTES:,}")
    features = list(_features(_document(path)))
    numbers = {cell_id(image, number): number for number in range(1, count + 1)}
    cells = [_cell(feature, f"feature {n}", numbers) for n, feature in enumerate(features, 1)]
    seen = [_last_review(feature) for feature in features]
    return DrawnImage(cells, max(seen, default=0))


def _document(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid GeoJSON: {error}") from error


def _features(document: object) -> Iterator[dict[str, Any]]:
    """The features of a collection, of a list, or the only one."""
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = document.get("features")
    for one in document if isinstance(document, list) else [document]:
        if not isinstance(one, dict) or one.get("type") != "Feature":
            raise ValueError("it is no GeoJSON of features, as QuPath exports objects")
        yield one


def _cell(feature: dict[str, Any], where: str, numbers: dict[str, int]) -> DrawnCell:
    told = _object(feature.get("properties")).get("classification")
    label = told
    if isinstance(told, dict):
        label = told.get("name")
        names = told.get("names")
        if label is None and isinstance(names, list):  # QuPath 0.5 writes derived classes so
            label = ": ".join(map(str, names))
    points = list(_points(_object(feature.get("geometry")).get("coordinates")))
    if len(points) < 2:
        raise ValueError(f"{where} is no area; draw a rectangle or polygon about the cell")
    xs, ys = zip(*points, strict=True)
    box = min(xs), min(ys), max(xs), max(ys)
    return DrawnCell(numbers.get(str(feature.get("id"))), box, str(label or ""), where)


def _object(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for whatever else stands in its place."""
    return value if isinstance(value, dict) else {}


def _points(coordinates: object) -> Iterator[tuple[float, float]]:
    """Every place of a geometry, however deep its rings lie."""
    waiting = [coordinates]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, list):
            continue
        if len(part) < 2 or not all(isinstance(v, int | float) for v in part):
            waiting.extend(part)
            continue
        if not all(abs(v) < _FARTHEST_PX for v in part[:2]):
            raise ValueError("a coordinate is no place in an image")
        yield float(part[0]), float(part[1])


def _last_review(feature: dict[str, Any]) -> int:
    measurements = _object(feature.get("properties")).get("measurements")
    if isinstance(measurements, list):  # as QuPath up to 0.3 writes them
        found = [m.get("value") for m in map(_object, measurements) if m.get("name") == LAST_REVIEW]
        value = found[-1] if found else 0
    else:
        value = _object(measurements).get(LAST_REVIEW, 0)
    return int(value) if isinstance(value, int | float) and 0 <= value < _FARTHEST_S else 0
