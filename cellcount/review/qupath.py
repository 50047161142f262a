"""GeoJSON of cells as QuPath exports it, read back: detections and annotations with their boxes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cellcount.analysis.stored_results import StoredResults
from cellcount.outputs.geojson_export import LAST_REVIEW, cell_id
from cellcount.review.drawn_cells import DrawnCell, DrawnImage, image_of_file

SUFFIX = ".geojson"
_MOST_BYTES = 2**30


def read_geojson(path: Path, folder: Path, stored: StoredResults) -> DrawnImage:
    """Read the cells of an image.

    Args:
        path: the file.
        folder: it lies in, or below.
        stored: the run that its image belongs to.

    Raises:
        ValueError: it is no such file, or belongs to no image of the run.
        OSError: it cannot be read.
    """
    relative = path.relative_to(folder).as_posix().removesuffix(SUFFIX)
    named = stored.by_name()
    ref = image_of_file(relative, named)
    if ref is None:
        raise ValueError(f"these results have no image {relative!r}; keep the names of the files")
    image = next(name for name, one in named.items() if one is ref)
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, expected at most {_MOST_BYTES:,}")
    features = list(_features(_document(path)))
    corrected = stored.journal.corrected(ref)
    count = 0 if corrected is None else len(corrected.result.cells)
    numbers = {cell_id(image, number): number for number in range(1, count + 1)}
    cells = [_cell(feature, f"feature {n}", numbers) for n, feature in enumerate(features, 1)]
    seen = [_last_review(feature) for feature in features]
    return DrawnImage(ref, cells, max(seen, default=0))


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
    properties = feature.get("properties") or {}
    told = properties.get("classification") or {}
    label = told.get("name") if isinstance(told, dict) else told
    if label is None and isinstance(told, dict):  # QuPath 0.5 writes derived classes as a list
        label = ": ".join(map(str, told.get("names") or ()))
    points = list(_points((feature.get("geometry") or {}).get("coordinates")))
    if len(points) < 2:
        raise ValueError(f"{where} is no area; draw a rectangle or polygon about the cell")
    xs, ys = zip(*points, strict=True)
    box = min(xs), min(ys), max(xs), max(ys)
    return DrawnCell(numbers.get(str(feature.get("id"))), box, str(label or ""), where)


def _points(coordinates: object) -> Iterator[tuple[float, float]]:
    """Every place of a geometry, however deep its rings lie."""
    if not isinstance(coordinates, list):
        return
    if len(coordinates) >= 2 and all(isinstance(v, int | float) for v in coordinates):
        x, y = float(coordinates[0]), float(coordinates[1])
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("a coordinate is no number")
        yield x, y
        return
    for part in coordinates:
        yield from _points(part)


def _last_review(feature: dict[str, Any]) -> int:
    measurements = (feature.get("properties") or {}).get("measurements") or {}
    if isinstance(measurements, list):  # as QuPath up to 0.3 writes them
        measurements = {m.get("name"): m.get("value") for m in measurements if isinstance(m, dict)}
    value = measurements.get(LAST_REVIEW, 0)
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
