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

from cellcount.datasets.annotated import AnnotatedSet, RawBox, Reading
from cellcount.datasets.sources import ImageFinder, files_near, read_text
from cellcount.datasets.splits import list_key, read_split_lists
from cellcount.errors import AnnotationError

LOOKED_FOR = "Pascal VOC: Annotations/*.xml with JPEGImages/, or *.xml beside the images"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def sniff(source: Path) -> bool:
    """Whether a folder (or one XML file) looks like Pascal VOC."""
    return any(_is_voc(path) for path in files_near(source, ".xml", depth=2)[:20])


def read(source: Path) -> AnnotatedSet:
    """Reads a Pascal VOC data set; raises AnnotationError where there is no XML file at all."""
    root = source.parent if source.is_file() else source
    files = files_near(source, ".xml", depth=2)
    if not files:
        raise AnnotationError(f"{source} holds no *.xml file, expected {LOOKED_FOR}")
    reading, finder = Reading(root), ImageFinder(root)
    splits = read_split_lists(root / "ImageSets" / "Main")
    for path in files:
        try:
            _read_one(path, reading, finder, splits)
        except (AnnotationError, ET.ParseError) as error:
            reading.problem(path, f"is not readable as Pascal VOC ({error}); left out")
    known = {list_key(path.name) for path in files}
    for name, split in splits.items():
        if name not in known:
            reading.problem(
                root / "ImageSets" / "Main" / f"{split}.txt",
                f"names {name}, which has no annotation file",
            )
    if source.is_dir():
        reading.note_unlisted(finder.images)
    return reading.finish("voc")


def parse_xml(path: Path) -> ET.Element:
    """The root of an XML file, with document types and entities refused (entity bombs).

    Raises:
        AnnotationError: too large, not UTF-8, or with a document type.
        ET.ParseError: not well-formed.
    """
    text = read_text(path)
    if "<!doctype" in text.lower() or "<!entity" in text.lower():
        raise AnnotationError("holds a document type or entity, which annotations never need")
    return ET.fromstring(text)


def _is_voc(path: Path) -> bool:
    try:
        return parse_xml(path).tag == "annotation"
    except (AnnotationError, ET.ParseError):
        return False


def _read_one(path: Path, reading: Reading, finder: ImageFinder, splits: dict[str, str]) -> None:
    tree = parse_xml(path)
    if tree.tag != "annotation":
        raise AnnotationError(f"its root is <{tree.tag}>, expected <annotation>")
    named = (tree.findtext("filename") or "").strip()
    image = (finder.find(named, path) if named else None) or finder.find(path.stem, path)
    if image is None:
        reading.problem(path, f"its image {named or path.stem} was not found; left out")
        return
    boxes = []
    for number, item in enumerate(tree.iter("object"), start=1):
        try:
            boxes.append(_box(item))
        except ValueError as error:
            reading.problem(path, f"object {number} {error}; left out")
    width, height = (_size(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    reading.add(
        image,
        boxes,
        stated_px=(width, height),
        split=splits.get(list_key(path.name), ""),
        where=path,
    )


def _box(item: ET.Element) -> RawBox:
    values = []
    for corner in _CORNERS:
        text = item.findtext(f"bndbox/{corner}")
        if text is None:
            raise ValueError(f"has no {corner}")
        try:
            values.append(float(text))
        except ValueError:
            raise ValueError(f"has {corner} {text.strip()[:30]!r}, expected a number") from None
    return RawBox(item.findtext("name") or "", (values[0], values[1], values[2], values[3]))


def _size(text: str | None) -> int:
    """A stated side in pixels, 0 where it is missing or nonsense."""
    try:
        value = float(text or "0")
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and value > 0 else 0
