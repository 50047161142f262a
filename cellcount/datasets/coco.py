"""COCO object detection: one JSON with images, annotations and categories.

The source is the file, or a folder with one or several (``annotations/*.json``, or Roboflow's
``train/_annotations.coco.json`` beside its images); a split is taken from the file's name or
folder. Without a box, the box of the polygons or of the mask is taken. Crowd regions are no single
cell and are left out. Values are read as R and pandas write them, too: 1.0 for 1, ``[1]`` for 1,
``"0"`` for false, and columns instead of rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellcount.datasets.annotated import AnnotatedSet, clean_label
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.masks import mask_box
from cellcount.datasets.raw_annotation import Annotation, RawBox, stated_pixels
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import files_near, read_json
from cellcount.datasets.splits import folder_split, split_name, split_of_name
from cellcount.errors import AnnotationError

LOOKED_FOR = "COCO: a *.json with images, annotations and categories"

_KEYS = ("images", "annotations", "categories")
_NO = ("", "0", "false", "f", "no", "none", "null", "na", "nan", "[]", "{}")


@dataclass(slots=True)
class _Boxes:
    """Boxes of one image id in a file.

    Attributes:
        boxes: the usable ones.
        broken: a text for each other one.
        crowds: how many crowd regions there are.
    """

    boxes: list[RawBox] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    crowds: int = 0


def sniff(source: Path) -> bool:
    """Return whether a JSON file, or one in a folder, is COCO."""
    return any(_coco(path) is not None for path in files_near(source, ".json")[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads one or several COCO files; raises AnnotationError where there is none."""
    root = source if source.is_dir() else source.parent
    if source.is_file() and root.name.lower() == "annotations":
        root = root.parent
    reading, finder = Reading(root, "corner and size"), ImageFinder(root)
    classes: dict[str, None] = {}
    found = False
    for path in files_near(source, ".json"):
        try:
            content = _content(read_json(path))
        except AnnotationError as error:
            reading.problem(path, f"{error}; left out")
            continue
        if content is None:
            continue
        found = True
        names = _category_names(path, content, reading)
        classes |= dict.fromkeys(names.values())
        _read_file(path, content, names, reading, finder)
    if not found:
        raise AnnotationError(f"{source} holds no COCO file, expected {LOOKED_FOR}")
    if source.is_dir():
        reading.note_unlisted(finder.images)
        reading.note_exports(finder.passed_over)
    return reading.finish("coco", tuple(classes))


def _coco(path: Path) -> dict[str, list[Any]] | None:
    """The content of a COCO file, None where it is something else."""
    try:
        return _content(read_json(path))
    except AnnotationError:
        return None


def _content(content: object) -> dict[str, list[Any]] | None:
    """The three lists of COCO, None where it is something else."""
    if not isinstance(content, dict):
        return None
    lists = {key: _rows(content.get(key)) for key in _KEYS}
    found = {key: rows for key, rows in lists.items() if rows is not None}
    return found if len(found) == len(_KEYS) else None


def _rows(table: object) -> list[Any] | None:
    """A list of objects, also from one object of columns as pandas writes it."""
    if isinstance(table, list):
        return table
    if not isinstance(table, dict) or not table:
        return None
    columns = {
        name: dict(enumerate(values)) if isinstance(values, list) else values
        for name, values in table.items()
    }
    if not all(isinstance(values, dict) for values in columns.values()):
        return None
    numbers = dict.fromkeys(number for values in columns.values() for number in values)
    return [
        {name: values[number] for name, values in columns.items() if number in values}
        for number in numbers
    ]


def _one(value: object) -> object:
    """A single value, also from a list of one as R writes it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _id(value: object) -> str:
    """An id as text: 1, 1.0, "1" and [1] are one; "01" is another."""
    value = _one(value)
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal() and str(int(text[:300])) == text:
            return text
        try:
            number = float(text)
        except ValueError:
            return text
        return str(int(number)) if "." in text and number.is_integer() else text
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_yes(value: object) -> bool:
    """Return whether a flag is set; 0, "0", "false", null and nothing are no."""
    value = _one(value)
    if isinstance(value, str):
        text = value.strip().lower()
        try:
            return float(text) != 0 and text not in _NO
        except ValueError:
            return text not in _NO
    return bool(value) and value == value  # NaN is no


def _category_names(
    path: Path, content: Mapping[str, list[Any]], reading: Reading
) -> dict[str, str]:
    """Category id as text → name, without a mere group of others (Roboflow's id 0)."""
    categories = [c for c in content["categories"] if isinstance(c, dict) and "id" in c]
    used = {_id(a.get("category_id")) for a in content["annotations"] if isinstance(a, dict)}
    names: dict[str, str] = {}
    doubled: dict[str, str] = {}
    for category in categories:
        name, key = _one(category.get("name", category["id"])), _id(category["id"])
        others = (c for c in categories if c is not category)
        is_group = any(_one(c.get("supercategory")) == name for c in others)
        if key not in used and is_group:
            continue
        label = clean_label(name)
        if names.setdefault(key, label) != label:
            doubled[key] = f"{names[key]} and {label}"
    for key, both in doubled.items():
        reading.problem(path, f"category id {key} is {both}; its boxes are left out")
        del names[key]
    return names


def _read_file(
    path: Path,
    content: Mapping[str, list[Any]],
    names: dict[str, str],
    reading: Reading,
    finder: ImageFinder,
) -> None:
    boxes = _boxes_by_image(path, content["annotations"], names, reading)
    file_split = split_of_name(path.stem) or folder_split(path, reading.root)
    crowds = sum(mine.crowds for mine in boxes.values())
    if crowds:
        reading.problem(path, f"{crowds} crowd regions (iscrowd) are no single cells; left out")
    entries = _unique_entries(path, content["images"], boxes, reading, finder)
    # Without a single match, images without boxes are not empty: the ids are wrong.
    strangers = bool(boxes) and not any(key in boxes for key, _ in entries)
    for key, entry in entries:
        named = str(_one(entry["file_name"]))
        mine = boxes.pop(key, _Boxes())
        size = stated_pixels(entry.get("width")), stated_pixels(entry.get("height"))
        own_split = split_name(str(_one(entry.get("split")) or ""))
        split = own_split or file_split
        found = finder.find(named, path, Clues(split, not own_split, size))
        if found.path is None:
            reading.not_found(path, named, found)
            continue
        if strangers:
            reading.pass_over([found.path])
            what = f"{named} is left out: no annotation of the file belongs to any of its images"
            reading.problem(path, what, 1)
            continue
        crowd = ["its only regions are crowds (iscrowd), no single cells"] * bool(mine.crowds)
        broken = mine.broken if mine.boxes else [*mine.broken, *crowd]
        annotation = Annotation(
            found.path, mine.boxes, path, broken=broken, stated_px=size, split=split
        )
        reading.add(annotation)
    for image_id, left in boxes.items():
        count = len(left.boxes) + len(left.broken) + left.crowds
        reading.problem(path, f"{count} boxes belong to image id {image_id}, not in the file")


def _unique_entries(
    path: Path,
    images: list[Any],
    boxes: dict[str, _Boxes],
    reading: Reading,
    finder: ImageFinder,
) -> list[tuple[str, dict[str, Any]]]:
    """The images by id; those that share an id are left out, since boxes may be of any of them."""
    entries = []
    for entry in images:
        if isinstance(entry, dict) and str(_one(entry.get("file_name")) or "") not in ("", "None"):
            entries.append((_id(entry.get("id")), entry))
        else:
            reading.problem(path, f"an image has no file_name ({str(entry)[:60]}); left out", 1)
    files: dict[str, dict[str, None]] = defaultdict(dict)
    unique = []
    for key, entry in entries:
        name = str(_one(entry["file_name"]))
        if name in files[key]:
            reading.problem(path, f"{name} is listed more than once; the first one is used")
        else:
            files[key][name] = None
            unique.append((key, entry))
    shared = {key: list(names) for key, names in files.items() if len(names) > 1}
    for key, names in shared.items():
        boxes.pop(key, None)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        what = f"{len(names)} images share the id {key} ({shown}), so that its boxes may be of any"
        reading.problem(path, f"{what}; they are left out", len(names))
        located = (finder.find(name, path).path for name in names)
        reading.pass_over(image for image in located if image is not None)
    return [(key, entry) for key, entry in unique if key not in shared]


def _boxes_by_image(
    path: Path, annotations: list[Any], names: dict[str, str], reading: Reading
) -> dict[str, _Boxes]:
    found: dict[str, _Boxes] = defaultdict(_Boxes)
    for annotation in annotations:
        if not isinstance(annotation, dict):
            reading.problem(path, f"annotation {str(annotation)[:60]} is no object; left out")
            continue
        mine = found[_id(annotation.get("image_id"))]
        if _is_yes(annotation.get("iscrowd")):
            mine.crowds += 1
            continue
        try:
            mine.boxes.append(_box(names[_id(annotation["category_id"])], annotation))
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            number = _one(annotation.get("id"))
            mine.broken.append(f"annotation {number} {_complaint(error)}; left out")
    return dict(found)


def _complaint(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"names the category or field {error}, which does not exist"
    return f"has no usable box ({error})"


def _box(label: str, annotation: Mapping[str, Any]) -> RawBox:
    """The box as corners, from ``bbox`` (x, y, width, height) or around the shape."""
    bbox = _parsed(annotation.get("bbox"))
    if isinstance(bbox, dict):
        bbox = list(bbox.values())
    if isinstance(bbox, list) and len(bbox) == 1 and isinstance(bbox[0], list):
        bbox = bbox[0]
    if isinstance(bbox, list) and bbox and bbox != [None] * len(bbox):
        values = [float(value) for value in bbox]
        if len(values) == 8:  # the four corners of a turned box
            return RawBox(label, _around(np.array(values).reshape(-1, 2)), drawn=True)
        x, y, width, height = values
        return RawBox(label, (x, y, x + width, y + height))
    shape = _parsed(annotation.get("segmentation"))
    if isinstance(shape, dict):
        return RawBox(label, mask_box(shape), drawn=True)
    if not isinstance(shape, list) or not shape:
        raise ValueError("neither bbox nor polygon segmentation")
    polygons = [shape] if not isinstance(shape[0], list) else shape
    points = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in polygons])
    return RawBox(label, _around(points), drawn=True)


def _parsed(value: object) -> object:
    """A value, also from its JSON text as a table holds it."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        return json.loads(value)
    return value


def _around(points: np.ndarray) -> tuple[float, float, float, float]:
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)
