"""VGG Image Annotator 2: its CSV export, JSON export and project file.

Rectangles, circles, ellipses and polygons become boxes. The class is the region attribute named
type, class, label or name, else the only attribute that every region has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellcount.datasets.annotated import AnnotatedSet, clean_label
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.raw_annotation import Annotation, RawBox, stated_pixels
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import files_near, read_json, read_table
from cellcount.datasets.splits import folder_split, split_of_name
from cellcount.errors import AnnotationError
from cellcount.files.sheets import sheet_header

LOOKED_FOR = "VIA: a CSV with region_shape_attributes, or a JSON with filename and regions"

DEFAULT_CLASS = "cell"
_CLASS_ATTRIBUTES = ("type", "class", "label", "name")
_CSV_COLUMNS = {"filename", "region_shape_attributes", "region_attributes"}

Corners = tuple[float, float, float, float]


#: A picture as VIA names it: file name and size in bytes, 0 where it states none.
_Image = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Region:
    """One region as VIA states it: its image, its shape and its attributes."""

    image: _Image
    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class _File:
    """Content of one VIA file.

    Attributes:
        images: image → a text for each of its regions that is none.
        regions: all others.
    """

    images: dict[_Image, list[str]] = field(default_factory=dict)
    regions: list[_Region] = field(default_factory=list)


def sniff(source: Path) -> bool:
    """Return whether a CSV or JSON file, or one in a folder, comes from VIA."""
    return bool(_files(source, 20))


def read(source: Path) -> AnnotatedSet:
    """Reads one or several VIA files; raises AnnotationError where there is none."""
    files = _files(source)
    if not files:
        raise AnnotationError(f"{source} holds no VIA file, expected {LOOKED_FOR}")
    root = source.parent if source.is_file() else source
    reading, finder = Reading(root), ImageFinder(root)
    for path in files:
        load = _from_csv if path.suffix.lower() == ".csv" else _from_json
        _add_images(path, load(path), reading, finder)
    if source.is_dir():
        reading.note_unlisted(finder.images)
        reading.note_exports(finder.passed_over)
    return reading.finish("via")


def _files(source: Path, limit: int | None = None) -> list[Path]:
    tables = [p for p in files_near(source, ".csv")[:limit] if _is_csv(p)]
    return tables + [p for p in files_near(source, ".json")[:limit] if _entries(p) is not None]


def _is_csv(path: Path) -> bool:
    return {name.lstrip("#") for name in sheet_header(path)} >= _CSV_COLUMNS


def _entries(path: Path) -> list[dict[str, Any]] | None:
    """The image entries of a VIA export or project file, None where it is something else."""
    try:
        content = read_json(path)
    except AnnotationError:
        return None
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict) or not content:
        return None
    entries = list(content.values())
    is_via = all(isinstance(e, dict) and "filename" in e and "regions" in e for e in entries)
    return entries if is_via else None


def _from_json(path: Path) -> _File:
    """The images and regions of a JSON file."""
    found = _File()
    for entry in _entries(path) or []:
        image = (str(entry["filename"]), stated_pixels(entry.get("size")))
        broken = found.images.setdefault(image, [])
        regions = entry["regions"]  # a list, in VIA 1 a mapping with numbers as keys
        for region in regions.values() if isinstance(regions, dict) else regions or ():
            stated = region if isinstance(region, dict) else {}
            shape, attributes = stated.get("shape_attributes"), stated.get("region_attributes")
            if isinstance(shape, dict) and isinstance(attributes, dict):
                found.regions.append(_Region(image, shape, attributes))
            else:
                broken.append(f"a region of {image[0]} has no shape; left out")
    return found


def _from_csv(path: Path) -> _File:
    """The images and regions of a CSV file; an image without regions has one empty row."""
    sheet = read_table(path)
    header = [name.lstrip("#") for name in sheet.header]
    found = _File()
    for number, _, cells in sheet.body:
        row = dict(zip(header, cells, strict=False))
        if not row.get("filename"):
            continue
        image = (row["filename"], stated_pixels(row.get("file_size")))
        broken = found.images.setdefault(image, [])
        try:
            shape = json.loads(row["region_shape_attributes"])
            attributes = json.loads(row["region_attributes"])
        except (KeyError, json.JSONDecodeError):
            shape = attributes = None
        if not (isinstance(shape, dict) and isinstance(attributes, dict)):
            broken.append(f"row {number} is incomplete or not JSON; left out")
        elif shape:
            found.regions.append(_Region(image, shape, attributes))
    return found


def _add_images(path: Path, file: _File, reading: Reading, finder: ImageFinder) -> None:
    boxes: dict[_Image, list[RawBox]] = {image: [] for image in file.images}
    attribute = _class_attribute(path, [region.attributes for region in file.regions])
    if attribute is None and file.regions:
        reading.problem(path, f"its regions have no attributes; all are called {DEFAULT_CLASS!r}")
    for region in file.regions:
        label = DEFAULT_CLASS if attribute is None else _text(region.attributes.get(attribute))
        try:
            boxes[region.image].append(RawBox(label, _corners(region.shape), drawn=True))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            file.images[region.image].append(
                f"a {region.shape.get('name')} of {region.image[0]} is no box ({error}); left out"
            )
    split = split_of_name(path.stem) or folder_split(path, reading.root)
    for image, mine in boxes.items():
        name, size_bytes = image
        found = finder.find(name, path, Clues(split, size_bytes=size_bytes))
        if found.path is None:
            reading.not_found(path, name, found)
        else:
            broken = file.images[image]
            reading.add(Annotation(found.path, mine, path, broken=broken, split=split))


def _class_attribute(path: Path, attributes: list[Mapping[str, Any]]) -> str | None:
    """Attribute that holds the class, None where regions have no attributes at all."""
    coverage: dict[str, int] = {}
    for each in attributes:
        for name, value in each.items():
            coverage[name] = coverage.get(name, 0) + bool(_text(value))
    usual = [n for n in coverage if n.lower() in _CLASS_ATTRIBUTES and coverage[n]]
    if usual:
        rank = _CLASS_ATTRIBUTES.index
        return min(usual, key=lambda n: (-coverage[n], rank(n.lower())))
    everywhere = [n for n in coverage if coverage[n] == len(attributes)]
    if len(everywhere) == 1:
        return everywhere[0]
    if not any(coverage.values()):
        return None
    raise AnnotationError(
        f"{path}: which region attribute holds the class is not clear: of {len(attributes)} "
        f"regions, {coverage} have one. Name it type, class, label or name, or give it to all"
    )


def _text(value: object) -> str:
    """An attribute as text: a choice, free text, or the boxes ticked of a check list."""
    if isinstance(value, dict):
        return clean_label("+".join(sorted(str(key) for key, ticked in value.items() if ticked)))
    return "" if value is None else clean_label(value)


def _rectangle(shape: Mapping[str, Any]) -> Corners:
    x, y = float(shape["x"]), float(shape["y"])
    return x, y, x + float(shape["width"]), y + float(shape["height"])


def _circle(shape: Mapping[str, Any]) -> Corners:
    x, y, radius = float(shape["cx"]), float(shape["cy"]), float(shape["r"])
    return x - radius, y - radius, x + radius, y + radius


def _ellipse(shape: Mapping[str, Any]) -> Corners:
    """The box around a turned ellipse; theta in radians, as VIA writes it."""
    x, y, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
    theta = float(shape.get("theta", 0))
    half_width = math.hypot(rx * math.cos(theta), ry * math.sin(theta))
    half_height = math.hypot(rx * math.sin(theta), ry * math.cos(theta))
    return x - half_width, y - half_height, x + half_width, y + half_height


def _polygon(shape: Mapping[str, Any]) -> Corners:
    xs = [float(x) for x in shape["all_points_x"]]
    ys = [float(y) for y in shape["all_points_y"]]
    return min(xs), min(ys), max(xs), max(ys)


_SHAPES: dict[str, Callable[[Mapping[str, Any]], Corners]] = {
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "polyline": _polygon,
}


def _corners(shape: Mapping[str, Any]) -> Corners:
    kind = str(shape.get("name"))
    if kind not in _SHAPES:
        raise ValueError(f"expected one of {', '.join(_SHAPES)}")
    return _SHAPES[kind](shape)
