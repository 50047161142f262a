"""LabelMe: one JSON per image, beside it; rectangles, circles and polygons become boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cellcount.datasets.annotated import AnnotatedSet, RawBox, Reading
from cellcount.datasets.sources import MAX_LABELME_BYTES, ImageFinder, files_near, read_json
from cellcount.errors import AnnotationError

LOOKED_FOR = "LabelMe: *.json with imagePath and shapes beside the images"


def sniff(source: Path) -> bool:
    """Whether a JSON file, or one in a folder, comes from LabelMe."""
    return any(_content(path) is not None for path in files_near(source, ".json")[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads a folder of LabelMe files; raises AnnotationError where there is none."""
    root = source.parent if source.is_file() else source
    reading, finder = Reading(root), ImageFinder(root)
    found = 0
    for path in files_near(source, ".json"):
        content = _content(path)
        if content is None:
            reading.problem(path, "is not readable as LabelMe; left out")
            continue
        found += 1
        named = str(content["imagePath"])
        image = finder.find(named, path) or finder.find(path.stem, path)
        if image is None:
            reading.problem(path, f"its image {named} was not found; left out")
            continue
        stated = (content.get("imageWidth"), content.get("imageHeight"))
        width, height = (side if isinstance(side, int) else 0 for side in stated)
        boxes = _boxes(path, content["shapes"], reading)
        reading.add(image, boxes, stated_px=(width, height), where=path)
    if not found:
        raise AnnotationError(f"{source} holds no LabelMe file, expected {LOOKED_FOR}")
    if source.is_dir():
        reading.note_unlisted(finder.images)
    return reading.finish("labelme")


def _content(path: Path) -> dict[str, Any] | None:
    """The content of a LabelMe file, None where it is something else."""
    try:
        content = read_json(path, MAX_LABELME_BYTES)
    except AnnotationError:
        return None
    if not isinstance(content, dict) or "imagePath" not in content:
        return None
    return content if isinstance(content.get("shapes"), list) else None


def _boxes(path: Path, shapes: list[Any], reading: Reading) -> list[RawBox]:
    boxes = []
    for number, shape in enumerate(shapes, start=1):
        try:
            boxes.append(_box(shape))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reading.problem(path, f"shape {number} is no box ({error}); left out")
    return boxes


def _box(shape: dict[str, Any]) -> RawBox:
    """A shape's box; points of a rectangle may be any two opposite corners."""
    kind, label = shape.get("shape_type", "polygon"), str(shape["label"])
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return RawBox(label, (x - radius, y - radius, x + radius, y + radius))
    if kind not in ("rectangle", "polygon") or len(points) < 2:
        raise ValueError(f"{kind} of {len(points)} points, expected rectangle, circle or polygon")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return RawBox(label, (min(xs), min(ys), max(xs), max(ys)))
