"""Pascal VOC: one XML file per image, lists of a split under ``ImageSets/Main``.

Layouts: ``Annotations/*.xml`` + ``JPEGImages/`` (or ``images/``), or XML files beside their
images. Coordinates are kept as they stand: VOC's own are 1-based and inclusive, but most tools
that write VOC (labelImg, Roboflow, CVAT) write 0-based corners, and a file does not say which;
one pixel at most is at stake.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.image_finder import Clues, ImageFinder
from cellcount.datasets.raw_annotation import Annotation, RawBox, stated_pixels
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import MAX_LABEL_BYTES, files_near, walk_files
from cellcount.datasets.splits import folder_split, list_key, read_split_lists
from cellcount.errors import AnnotationError
from cellcount.files.encodings import decoded, stated_xml_encoding
from cellcount.files.names import loosely

LOOKED_FOR = "Pascal VOC: Annotations/*.xml with JPEGImages/, or *.xml beside the images"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TURNED = ("cx", "cy", "w", "h", "angle")
_HEAD_BYTES = 8192


def sniff(source: Path) -> bool:
    """Return whether a folder (or one XML file) looks like Pascal VOC."""
    return any(_is_voc(path) for path in _files(source)[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads a Pascal VOC data set; raises AnnotationError where there is no XML file at all."""
    root = source.parent if source.is_file() else source
    files = _files(source)
    if not files:
        raise AnnotationError(f"{source} holds no *.xml file, expected {LOOKED_FOR}")
    # All XML files of a set are written by one program.
    reading, finder = Reading(root, one_source=True), ImageFinder(root)
    lists = root / "ImageSets" / "Main"
    listed = read_split_lists(lists)
    splits = listed.resolve(files, root)
    for what in listed.complaints:
        reading.problem(lists, what)
    for path in files:
        try:
            _read_one(path, reading, finder, splits[path])
        except (AnnotationError, ET.ParseError) as error:
            reading.problem(path, f"is not readable as Pascal VOC ({error}); left out", 1)
    known = {loosely(list_key(path.name)) for path in files}
    for name, split in listed.names():
        if name.rpartition("/")[2] not in known:
            reading.problem(lists / f"{split}.txt", f"names {name}, which has no annotation file")
    if source.is_dir():
        reading.note_unlisted(finder.images)
        reading.note_exports(finder.passed_over)
    return reading.finish("voc")


def _files(source: Path) -> list[Path]:
    """The XML files of a set, sorted; below Annotations in a tree like that of the images."""
    found = set(files_near(source, ".xml", depth=2))
    for folder in source.iterdir() if source.is_dir() else ():
        if folder.name.lower() == "annotations" and folder.is_dir():
            found.update(p for p in walk_files(folder) if p.suffix.lower() == ".xml")
    return sorted(found)


def parse_xml(path: Path) -> ET.Element:
    """The root of an XML file, with document types and entities refused (entity bombs).

    The text is read in the encoding that the file states. One that states none and is not UTF-8
    is read as far as it is ASCII; all other bytes become U+FFFD.

    Raises:
        AnnotationError: too large, not in the encoding that it states, or with a document type.
        ET.ParseError: not well-formed.
    """
    text = _xml_text(path)
    if "<!doctype" in text.lower() or "<!entity" in text.lower():
        raise AnnotationError("holds a document type or entity, which annotations never need")
    # The text is decoded already: what it states of its encoding must not be followed again.
    start = text.find("?>") + 2 if text.lstrip().startswith("<?xml") else 0
    return ET.fromstring(text[start:].strip())


def _xml_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise AnnotationError(f"it has more than {MAX_LABEL_BYTES:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"it cannot be read: {error.strerror or error}") from error
    stated = stated_xml_encoding(data)
    try:
        return data.decode(stated) if stated else decoded(data)
    except UnicodeError as error:
        if stated and stated != "utf-8":
            raise AnnotationError(
                f"it is not in {stated}, which it states as its encoding; save it as UTF-8"
            ) from error
        return data.decode("ascii", "replace")


def _is_voc(path: Path) -> bool:
    try:
        return parse_xml(path).tag == "annotation"
    except (AnnotationError, ET.ParseError):
        # A broken file is to be told as such, not as no annotation at all.
        return _begins_as_voc(path)


def _begins_as_voc(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).replace(b"\0", b"")
    except OSError:
        return False
    return b"<annotation>" in head and b"<!" not in head


def _read_one(path: Path, reading: Reading, finder: ImageFinder, listed: str | None) -> None:
    tree = parse_xml(path)
    if tree.tag != "annotation":
        raise AnnotationError(f"its root is <{tree.tag}>, expected <annotation>")
    named = (tree.findtext("filename") or "").strip()
    size = (
        stated_pixels(tree.findtext("size/width")),
        stated_pixels(tree.findtext("size/height")),
    )
    clues = Clues(folder_split(path, reading.root), size_px=size)
    image, sure = reading.found_of_file(named, path, clues, finder)
    if image is None:
        return
    boxes: list[RawBox] = []
    broken: list[str] = []
    for number, item in enumerate(tree.iter("object"), start=1):
        try:
            boxes.append(_box(item))
        except ValueError as error:
            broken.append(f"object {number} {error}; left out")
    reading.add(
        Annotation(
            image,
            boxes,
            path,
            where=path,
            broken=broken,
            stated_px=size,
            split=listed,
            sure=sure,
        )
    )


def _box(item: ET.Element) -> RawBox:
    label = item.findtext("name") or ""
    if "\ufffd" in label:
        raise ValueError("names its class in an unknown encoding; save the file as UTF-8")
    if item.find("bndbox") is None and item.find("robndbox") is not None:
        return RawBox(label, _turned_box(item), drawn=True)
    if item.find("bndbox") is None and item.find("polygon") is not None:
        return RawBox(label, _polygon_box(item), drawn=True)
    x_min, y_min, x_max, y_max = (_number(item, f"bndbox/{corner}") for corner in _CORNERS)
    return RawBox(label, (x_min, y_min, x_max, y_max))


def _turned_box(item: ET.Element) -> tuple[float, float, float, float]:
    """The box around roLabelImg's turned one; its angle is in radians."""
    x, y, width, height, angle = (_number(item, f"robndbox/{key}") for key in _TURNED)
    half_width = (abs(width * math.cos(angle)) + abs(height * math.sin(angle))) / 2
    half_height = (abs(width * math.sin(angle)) + abs(height * math.cos(angle))) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _polygon_box(item: ET.Element) -> tuple[float, float, float, float]:
    """The box around points, as x1, y1, x2 … or as pt elements with x and y."""
    found: dict[str, list[float]] = {"x": [], "y": []}
    for point in item.iter():
        axis = point.tag[:1]
        if axis in found and (point.tag == axis or point.tag[1:].isdecimal()) and point.text:
            found[axis].append(float(point.text))
    xs, ys = found["x"], found["y"]
    if len(xs) != len(ys) or len(xs) < 2:
        raise ValueError(f"has a polygon of {len(xs)} points, expected 3 and more")
    return min(xs), min(ys), max(xs), max(ys)


def _number(item: ET.Element, place: str) -> float:
    name = place.rpartition("/")[2]
    text = item.findtext(place)
    if text is None:
        raise ValueError(f"has no {name}")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"has {name} {text.strip()[:30]!r}, expected a number") from None
