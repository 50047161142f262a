"""YOLO text labels: one ``class x_centre y_centre width height`` line per cell, in 0–1.

Layouts: ``images/`` + ``labels/``, with or without ``train``/``val``/``test`` below or above
them, or label files beside their images (darknet). Class names come from ``data.yaml`` or
``classes.txt``. A line of three or more points is a segmentation polygon or a turned box and
becomes its box; what a program adds at the end of a line (confidence, number of a track) is passed
over. An image without a label file holds no cell, which is YOLO's own convention; it is reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellcount.datasets.annotated import AnnotatedSet, clean_label
from cellcount.datasets.raw_annotation import Annotation, RawBox
from cellcount.datasets.reading import Reading
from cellcount.datasets.sources import is_export, read_text, relative_posix, walk_files
from cellcount.datasets.yolo_splits import yolo_splits
from cellcount.datasets.yolo_yaml import has_keypoints, parse_yaml_names
from cellcount.errors import AnnotationError
from cellcount.files.names import loosely
from cellcount.images.file_types import has_image_name

LOOKED_FOR = "YOLO: labels/*.txt with images/, and data.yaml or classes.txt"

_LIST_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "_darknet.labels", "classes.names")
# Tools round outwards and polygons overshoot a little; anything beyond is not normalised.
_TOLERANCE = 0.1
_CLASS_LISTS = {"classes", "predefined_classes"}
_ROOT_TEXTS = {"train", "val", "valid", "test", "readme", "license", "notes", "requirements"}


def sniff(source: Path) -> bool:
    """Return whether a folder (or a data.yaml) looks like YOLO."""
    root = _root(source)
    if not root.is_dir():
        return False
    if source.is_file():
        return True
    for pattern in ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "*.txt"):
        for path in root.glob(pattern):
            written = any(is_export(p) for p in path.parents if p != root and root in p.parents)
            if not written and _is_label_file(path, root) and _looks_like_labels(path):
                return True
    return False


def read(source: Path) -> AnnotatedSet:
    """Reads a YOLO data set from its folder or its data.yaml; raises AnnotationError."""
    root = _root(source)
    yaml, classes = _class_names(root, source if source.is_file() else None)
    # All label files of a set are written by one program.
    reading = Reading(root, "centre and size", one_source=True, shares_usual=True)
    exports: list[Path] = []
    files = walk_files(root, exports)
    reading.note_exports(exports)
    images = [path for path in files if has_image_name(path)]
    splits, complaints = yolo_splits(root, yaml, images)
    for what in complaints:
        reading.problem(yaml or root, what)
    labels = _Labels(root, [path for path in files if _is_label_file(path, root)], images)
    form = _Form(classes, keypoints=yaml is not None and has_keypoints(read_text(yaml)))
    for image in images:
        _read_image(image, labels, form, reading, splits[image])
    for path in labels.unused():
        if "labels" in path.relative_to(root).parts or _looks_like_labels(path):
            reading.problem(path, "has no image of the same name; left out")
    if form.confidences:
        reading.problem(
            root,
            f"{form.confidences} label lines hold a confidence, so that a program has found these "
            "boxes and no person; they are read without it",
        )
    return reading.finish("yolo", classes)


@dataclass(slots=True)
class _Form:
    """Format of the lines of all label files, and problems found in them.

    Attributes:
        classes: names in the order of their numbers.
        keypoints: whether points stand behind each box.
        confidences: lines with a confidence so far.
    """

    classes: tuple[str, ...]
    keypoints: bool = False
    confidences: int = 0


class _Labels:
    """Assignment of label files to images."""

    def __init__(self, root: Path, labels: Sequence[Path], images: Sequence[Path]) -> None:
        self.root = root
        self.has_folders = any("labels" in path.relative_to(root).parts for path in labels)
        self._labels = {path.with_suffix(""): path for path in labels}
        self._folded: dict[str, list[Path]] = defaultdict(list)
        for path in labels:
            self._folded[loosely(path.with_suffix("").as_posix())].append(path)
        self._images_of: dict[Path, list[Path]] = defaultdict(list)
        self._label_of: dict[Path, Path] = {}
        for image in images:
            label = self._by_place(image)
            if label is not None:
                self._label_of[image] = label
                self._images_of[label].append(image)
        self._same_stem(images)

    def _by_place(self, image: Path) -> Path | None:
        for stem in _label_stems(image, self.root):
            if stem in self._labels:
                return self._labels[stem]
        for stem in _label_stems(image, self.root):
            others = self._folded.get(loosely(stem.as_posix()), [])
            if len(others) == 1:
                return others[0]
        return None

    def _same_stem(self, images: Sequence[Path]) -> None:
        """Finds the images that a label file of another folder may belong to."""
        self._loose: dict[str, list[Path]] = defaultdict(list)
        for path in self.unused():
            if "labels" in path.relative_to(self.root).parts:
                self._loose[loosely(path.stem)].append(path)

    def of(self, image: Path) -> Path | None:
        """The label file of an image, None where it has none."""
        return self._label_of.get(image)

    def rivals(self, image: Path) -> list[Path]:
        """Other images that the label file of this one belongs to as well."""
        label = self._label_of.get(image)
        return [] if label is None else [i for i in self._images_of[label] if i != image]

    def loose(self, image: Path) -> list[Path]:
        """Label files of the image's stem elsewhere that belong to no image."""
        return self._loose.get(loosely(image.stem), [])

    def unused(self) -> list[Path]:
        """Label files that belong to no image."""
        return sorted(path for path in self._labels.values() if path not in self._images_of)


def _read_image(
    image: Path, labels: _Labels, form: _Form, reading: Reading, split: str | None
) -> None:
    """Add one image with the boxes of its label file; a missing or shared one is a problem."""
    label, rivals = labels.of(image), labels.rivals(image)
    if label is not None and rivals:
        if image < rivals[0]:
            names = " and ".join(path.name for path in sorted([image, *rivals]))
            reading.problem(
                label,
                f"belongs to {names}, which have the same stem, so that its boxes may be of any; "
                "they are left out. Give each picture a label file of its own",
                1 + len(rivals),
            )
        reading.size_px(image)
        return
    if label is None:
        loose = labels.loose(image)
        if loose:
            where = " or ".join(relative_posix(path, reading.root) for path in loose[:3])
            what = f"has no label file in its folder; whether {where} is its own is not known"
            reading.problem(image, f"{what}; left out", 1)
            return
        if labels.has_folders and "images" not in image.relative_to(reading.root).parts:
            reading.problem(image, "has no label file and lies outside images/; left out", 1)
            return
        reading.problem(image, "has no label file; taken as an image without cells")
    size = reading.size_px(image)
    if size is None:
        return
    try:
        boxes, broken = ([], []) if label is None else _boxes(label, form, size)
    except AnnotationError as error:
        reading.problem(label or image, f"{error}; its image is left out", 1)
        return
    reading.add(Annotation(image, boxes, label or image, where=label, broken=broken, split=split))


def _root(source: Path) -> Path:
    is_yaml = source.suffix.lower() in {".yaml", ".yml"}
    return source.parent if source.is_file() and is_yaml else source


def _is_label_file(path: Path, root: Path) -> bool:
    """Return whether a text file may be labels; lists and legal texts at the root are none."""
    stem = path.stem.lower()
    if path.suffix.lower() != ".txt" or stem in _CLASS_LISTS:
        return False
    return path.parent != root or stem.split(".")[0] not in _ROOT_TEXTS


def _label_stems(image: Path, root: Path) -> Iterator[Path]:
    """Places of an image's label file, without its suffix.

    With the image's own suffix first: so cellcount names the labels of two files of one stem.
    """
    for name in (image.relative_to(root), image.relative_to(root).with_suffix("")):
        parts = list(name.parts)
        for index in range(len(parts) - 2, -1, -1):
            if parts[index].lower() == "images":
                yield root.joinpath(*parts[:index], "labels", *parts[index + 1 :])
        yield root / name


def _looks_like_labels(path: Path) -> bool:
    """Return whether the first line is a class index and four or more numbers, or nothing."""
    try:
        first = next((line for line in read_text(path).splitlines() if line.strip()), "")
        values = [float(word) for word in first.split()]
    except (AnnotationError, ValueError):
        return False
    return len(values) >= 5 if first else path.parent.name == "labels"


def _boxes(path: Path, form: _Form, size: tuple[int, int]) -> tuple[list[RawBox], list[str]]:
    """The boxes of a label file in pixels, and a text for each line that is none.

    Raises AnnotationError where it is unreadable.
    """
    boxes: list[RawBox] = []
    broken: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            boxes.append(_box(line, form, size))
        except ValueError as error:
            broken.append(f"line {number} ({line.strip()[:60]!r}) {error}; left out")
    return boxes, broken


def _box(line: str, form: _Form, size: tuple[int, int]) -> RawBox:
    try:
        index, *values = (float(word) for word in line.split())
    except ValueError:
        raise ValueError("holds something that is no number") from None
    if not (index.is_integer() and 0 <= index < len(form.classes)):
        raise ValueError(f"has class {index:g}, expected 0 to {len(form.classes) - 1}")
    if len(values) < 4:
        raise ValueError(
            f"has {len(values)} numbers after the class, expected 4, or 6 and more in pairs"
        )
    values, confidence = _without_additions(values, keypoints=form.keypoints)
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        raise ValueError("has a coordinate outside 0–1")  # also catches nan and inf
    form.confidences += confidence
    width, height = size
    label = form.classes[int(index)]
    if len(values) == 4:
        x, y, w, h = values
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        xs, ys = values[::2], values[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    scaled = (corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height)
    return RawBox(label, scaled, drawn=len(values) > 4)


def _without_additions(values: list[float], *, keypoints: bool) -> tuple[list[float], bool]:
    """The numbers of the box or polygon, and whether a confidence stood behind them.

    Coordinates come in pairs, so an odd number at the end is a confidence (or the number of a
    track, which is whole and may stand behind one).
    """
    if keypoints:
        return values[:4], False
    is_track = values[-1].is_integer() and values[-1] > 1
    if len(values) == 6 and is_track:
        return values[:4], True
    if len(values) % 2 == 0:
        return values, False
    if not (0 <= values[-1] <= 1 or is_track):
        raise ValueError(f"ends in {values[-1]:g}, expected a confidence from 0 to 1")
    return values[:-1], not is_track


def _class_names(root: Path, named: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """The data.yaml, if there is one, and class names in index order from it or a list."""
    yamls = [named] if named else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    for path in yamls:
        names = parse_yaml_names(read_text(path))
        if names:
            return path, names
    for name in _LIST_FILES:
        path = root / name
        if path.is_file():
            names = tuple(clean_label(x) for x in read_text(path).splitlines() if x.strip())
            if names:
                return yamls[0] if yamls else None, names
    raise AnnotationError(
        f"{root} holds YOLO labels but no class names: looked for names: in data.yaml and for "
        f"{', '.join(_LIST_FILES)}. Add classes.txt with one name per line, class 0 first"
    )
