"""LabelMe: one JSON per image, beside it; every shape that goes around a cell becomes its box.

Rectangles (also turned ones), circles, polygons, outlines as line strips, and masks, whose two
points are their corners. Points and single lines go around nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.raw_annotation import Annotation, RawBox, stated_pixels
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import MAX_LABELME_BYTES, files_near, read_json
from cellcount.datasets.splits import folder_split
from cellcount.errors import AnnotationError

LOOKED_FOR = "LabelMe: *.json with imagePath and shapes beside the images"

# Shape → least number of points that go around something.
_AROUND = {
    "rectangle": 2,
    "mask": 2,
    "polygon": 2,  # of two points as other programs write corners
    "linestrip": 3,
    "rotation": 3,
    "oriented_rectangle": 3,
    "rotated_rectangle": 3,
    "quadrilateral": 3,
}


def sniff(source: Path) -> bool:
    """Return whether a JSON file, or one in a folder, comes from LabelMe."""
    return any(_content(path) is not None for path in files_near(source, ".json")[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads a folder of LabelMe files; raises AnnotationError where there is none."""
    root = source.parent if source.is_file() else source
    # All files of a set are written by one program.
    reading, finder = Reading(root, one_source=True), ImageFinder(root)
    found = 0
    for path in files_near(source, ".json"):
        content = _content(path)
        if content is None:
            reading.problem(path, "is not readable as LabelMe; left out", 1)
            continue
        found += 1
        _read_one(path, content, reading, finder)
    if not found:
        raise AnnotationError(f"{source} holds no LabelMe file, expected {LOOKED_FOR}")
    if source.is_dir():
        reading.note_unlisted(finder.images)
        reading.note_exports(finder.passed_over)
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


def _read_one(
    path: Path, content: Mapping[str, Any], reading: Reading, finder: ImageFinder
) -> None:
    named = str(content["imagePath"] or "")
    size = stated_pixels(content.get("imageWidth")), stated_pixels(content.get("imageHeight"))
    clues = Clues(folder_split(path, reading.root), size_px=size)
    image, sure = reading.found_of_file(named, path, clues, finder)
    if image is None:
        return
    boxes: list[RawBox] = []
    broken: list[str] = []
    for number, shape in enumerate(content["shapes"], start=1):
        try:
            boxes.append(_box(shape))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            broken.append(f"shape {number} is no box ({error}); left out")
    annotation = Annotation(
        image, boxes, path, where=path, broken=broken, stated_px=size, sure=sure
    )
    reading.add(annotation)


def _box(shape: Mapping[str, Any]) -> RawBox:
    """A shape's box; points of a rectangle may be any two opposite corners."""
    kind, label = str(shape.get("shape_type") or "polygon").lower(), str(shape["label"])
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return RawBox(label, (x - radius, y - radius, x + radius, y + radius), drawn=True)
    least = _AROUND.get(kind, 0)
    if not least or len(points) < least:
        raise ValueError(f"{kind} of {len(points)} points, expected {', '.join(_AROUND)} or circle")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return RawBox(label, (min(xs), min(ys), max(xs), max(ys)), drawn=True)
