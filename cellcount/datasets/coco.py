"""COCO object detection: one JSON with images, annotations and categories.

The source is the file, or a folder with one or several (``annotations/*.json``, or Roboflow's
``train/_annotations.coco.json`` beside its images); a split is taken from the file's name or
folder. Without a box, the box of the polygons is taken. Crowd regions are no single cell and are
left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cellcount.datasets.annotated import AnnotatedSet, RawBox, Reading, clean_label
from cellcount.datasets.sources import ImageFinder, files_near, read_json
from cellcount.datasets.splits import folder_split, split_name
from cellcount.errors import AnnotationError

LOOKED_FOR = "COCO: a *.json with images, annotations and categories"

_KEYS = ("images", "annotations", "categories")
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])")


def sniff(source: Path) -> bool:
    """Whether a JSON file, or one in a folder, is COCO."""
    return any(_coco(path) is not None for path in files_near(source, ".json")[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads one or several COCO files; raises AnnotationError where there is none."""
    files = [(path, content) for path in files_near(source, ".json") if (content := _coco(path))]
    if not files:
        raise AnnotationError(f"{source} holds no COCO file, expected {LOOKED_FOR}")
    root = source if source.is_dir() else source.parent
    if source.is_file() and root.name.lower() == "annotations":
        root = root.parent
    reading, finder = Reading(root), ImageFinder(root)
    classes: dict[str, None] = {}
    for path, content in files:
        names = _category_names(content)
        classes |= dict.fromkeys(names.values())
        _read_file(path, content, names, reading, finder)
    if source.is_dir():
        reading.note_unlisted(finder.images)
    return reading.finish("coco", tuple(classes))


def _coco(path: Path) -> dict[str, Any] | None:
    """The content of a COCO file, None where it is something else."""
    try:
        content = read_json(path)
    except AnnotationError:
        return None
    if not isinstance(content, dict):
        return None
    return content if all(isinstance(content.get(key), list) for key in _KEYS) else None


def _category_names(content: dict[str, Any]) -> dict[str, str]:
    """Category id as text → name, without a mere group of others (Roboflow's id 0)."""
    categories = [c for c in content["categories"] if isinstance(c, dict) and "id" in c]
    used = {str(a.get("category_id")) for a in content["annotations"] if isinstance(a, dict)}
    names = {}
    for category in categories:
        name, key = category.get("name", category["id"]), str(category["id"])
        others = (c for c in categories if c is not category)
        is_group = any(c.get("supercategory") == name for c in others)
        if key in used or not is_group:
            names[key] = clean_label(name)
    return names


def _read_file(
    path: Path,
    content: dict[str, Any],
    names: dict[str, str],
    reading: Reading,
    finder: ImageFinder,
) -> None:
    boxes = _boxes_by_image(path, content["annotations"], names, reading)
    split = _split_of_file(path, reading.root)
    for entry in content["images"]:
        named = str(entry.get("file_name") or "") if isinstance(entry, dict) else ""
        if not named:
            reading.problem(path, f"an image has no file_name ({str(entry)[:60]}); left out")
            continue
        image = finder.find(named, path)
        mine = boxes.pop(str(entry.get("id")), [])
        if image is None:
            reading.problem(path, f"its image {named} was not found; left out")
            continue
        reading.add(
            image,
            mine,
            stated_px=(_pixels(entry.get("width")), _pixels(entry.get("height"))),
            split=split_name(str(entry.get("split") or "")) or split,
        )
    for image_id, left in boxes.items():
        reading.problem(path, f"{len(left)} boxes belong to image id {image_id}, not in the file")


def _boxes_by_image(
    path: Path, annotations: list[Any], names: dict[str, str], reading: Reading
) -> dict[str, list[RawBox]]:
    found: dict[str, list[RawBox]] = defaultdict(list)
    crowds = 0
    for annotation in annotations:
        if not isinstance(annotation, dict):
            reading.problem(path, f"annotation {str(annotation)[:60]} is no object; left out")
            continue
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        try:
            box = RawBox(names[str(annotation["category_id"])], _xyxy(annotation))
            found[str(annotation["image_id"])].append(box)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            reading.problem(
                path, f"annotation {annotation.get('id')} {_complaint(error)}; left out"
            )
    if crowds:
        reading.problem(path, f"{crowds} crowd regions (iscrowd) are no single cells; left out")
    return found


def _complaint(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"names the category or field {error}, which does not exist"
    return f"has no usable box ({error})"


def _xyxy(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    """The box as corners, from ``bbox`` (x, y, width, height) or around the polygons."""
    bbox = annotation.get("bbox")
    if bbox:
        x, y, width, height = (float(value) for value in bbox)
        return x, y, x + width, y + height
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        raise ValueError("neither bbox nor polygon segmentation")
    points = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in polygons])
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)


def _split_of_file(path: Path, root: Path) -> str:
    """``train`` of ``instances_train2017.json``; else the folder's name decides."""
    words = _SPLIT_WORD.findall(path.stem.lower())
    return split_name(words[0]) if len(set(words)) == 1 else folder_split(path, root)


def _pixels(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else 0
