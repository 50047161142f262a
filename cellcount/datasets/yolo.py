"""YOLO text labels: one ``class x_centre y_centre width height`` line per cell, in 0–1.

Layouts: ``images/`` + ``labels/``, with or without ``train``/``val``/``test`` below or above
them, or label files beside their images (darknet). Class names come from ``data.yaml`` or
``classes.txt``. A line of three or more points is a segmentation polygon and becomes its box.
An image without a label file holds no cell, which is YOLO's own convention; it is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cellcount.datasets.annotated import AnnotatedSet, RawBox, Reading, clean_label
from cellcount.datasets.sources import read_text, walk_files
from cellcount.datasets.splits import list_key, read_split_lists
from cellcount.errors import AnnotationError
from cellcount.images.file_types import has_image_name

LOOKED_FOR = "YOLO: labels/*.txt with images/, and data.yaml or classes.txt"

_LIST_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "_darknet.labels", "classes.names")
# Tools round outwards and polygons overshoot a little; anything beyond is not normalised.
_TOLERANCE = 0.1
_FLOW_ITEM = re.compile(r"""\s*((?:\d+\s*:\s*)?(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[^,\]}]*))\s*""")
_ESCAPE = re.compile(r"\\(.)")
_CLASS_LISTS = {"classes", "predefined_classes"}
_ROOT_TEXTS = {"train", "val", "valid", "test", "readme", "license", "notes", "requirements"}


def sniff(source: Path) -> bool:
    """Whether a folder (or a data.yaml) looks like YOLO."""
    root = _root(source)
    if not root.is_dir():
        return False
    if source.is_file():
        return True
    for pattern in ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "*.txt"):
        for path in root.glob(pattern):
            if _is_label_file(path, root) and _looks_like_labels(path):
                return True
    return False


def read(source: Path) -> AnnotatedSet:
    """Reads a YOLO data set from its folder or its data.yaml; raises AnnotationError."""
    root = _root(source)
    classes = _class_names(root, source if source.is_file() else None)
    reading = Reading(root)
    files = walk_files(root)
    labels = {p.with_suffix(""): p for p in files if _is_label_file(p, root)}
    has_folders = any("labels" in stem.relative_to(root).parts for stem in labels)
    used: set[Path] = set()
    splits = read_split_lists(root)
    for image in (p for p in files if has_image_name(p)):
        label = next((labels[k] for k in _label_stems(image, root) if k in labels), None)
        if label is not None:
            used.add(label)
        elif has_folders and "images" not in image.relative_to(root).parts:
            reading.problem(image, "has no label file and lies outside images/; left out")
            continue
        else:
            reading.problem(image, "has no label file; taken as an image without cells")
        size = reading.size_px(image)
        boxes = _boxes(reading, label, classes, size) if size else None
        if boxes is not None:
            split = splits.get(list_key(image.name), "")
            reading.add(image, boxes, split=split, where=label)
    for path in sorted(set(labels.values()) - used):
        if "labels" in path.relative_to(root).parts or _looks_like_labels(path):
            reading.problem(path, "has no image of the same name; left out")
    return reading.finish("yolo", classes)


def _root(source: Path) -> Path:
    is_yaml = source.suffix.lower() in {".yaml", ".yml"}
    return source.parent if source.is_file() and is_yaml else source


def _is_label_file(path: Path, root: Path) -> bool:
    """Whether a text file may be labels; at the root, lists and legal texts are no labels."""
    stem = path.stem.lower()
    if path.suffix.lower() != ".txt" or stem in _CLASS_LISTS:
        return False
    return path.parent != root or stem.split(".")[0] not in _ROOT_TEXTS


def _label_stems(image: Path, root: Path) -> Iterator[Path]:
    """Where the label file of an image may lie, without its suffix."""
    parts = list(image.relative_to(root).with_suffix("").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() == "images":
            yield root.joinpath(*parts[:index], "labels", *parts[index + 1 :])
    yield image.with_suffix("")


def _looks_like_labels(path: Path) -> bool:
    """Whether the first line is a class index and at least four numbers (or nothing at all)."""
    try:
        first = next((line for line in read_text(path).splitlines() if line.strip()), "")
        values = [float(word) for word in first.split()]
    except (AnnotationError, ValueError):
        return False
    return len(values) >= 5 if first else path.parent.name == "labels"


def _boxes(
    reading: Reading, path: Path | None, classes: tuple[str, ...], size: tuple[int, int]
) -> list[RawBox] | None:
    """The boxes of a label file in pixels, None where it is unreadable; all else are problems."""
    boxes: list[RawBox] = []
    if path is None:
        return boxes
    try:
        lines = read_text(path).splitlines()
    except AnnotationError as error:
        reading.problem(path, f"{error}; its image is left out")
        return None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            boxes.append(_box(line, classes, size))
        except ValueError as error:
            reading.problem(path, f"line {number} ({line.strip()[:60]!r}) {error}; left out")
    return boxes


def _box(line: str, classes: tuple[str, ...], size: tuple[int, int]) -> RawBox:
    try:
        index, *values = (float(word) for word in line.split())
    except ValueError:
        raise ValueError("holds something that is no number") from None
    if not (index.is_integer() and 0 <= index < len(classes)):
        raise ValueError(f"has class {index:g}, expected 0 to {len(classes) - 1}")
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        raise ValueError("has a coordinate outside 0–1")  # also catches nan and inf
    if len(values) == 4:
        x, y, w, h = values
        xs, ys = [x - w / 2, x + w / 2], [y - h / 2, y + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
    else:
        raise ValueError(
            f"has {len(values)} numbers after the class, expected 4, or 6 and more in pairs"
        )
    width, height = size
    # min and max would turn a negative width round; only a polygon may be in any order.
    if len(values) > 4:
        xs, ys = [min(xs), max(xs)], [min(ys), max(ys)]
    return RawBox(
        classes[int(index)], (xs[0] * width, ys[0] * height, xs[1] * width, ys[1] * height)
    )


def _class_names(root: Path, named: Path | None) -> tuple[str, ...]:
    """Class names in index order, from data.yaml or a list of names."""
    yamls = [named] if named else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    for path in yamls:
        names = parse_yaml_names(read_text(path))
        if names:
            return names
    for name in _LIST_FILES:
        path = root / name
        if path.is_file():
            names = tuple(clean_label(x) for x in read_text(path).splitlines() if x.strip())
            if names:
                return names
    raise AnnotationError(
        f"{root} holds YOLO labels but no class names: looked for names: in data.yaml and for "
        f"{', '.join(_LIST_FILES)}. Add classes.txt with one name per line, class 0 first"
    )


def parse_yaml_names(text: str) -> tuple[str, ...]:
    """The class names of a data.yaml: ``names:`` as list or mapping, in one line or several.

    Only this key is understood; raises AnnotationError where indices have gaps.
    """
    lines = [_without_comment(line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return ()
    inline = lines[start].split(":", 1)[1].strip()
    if inline:
        is_list = inline.startswith("[")
        items = _flow_items(" ".join([inline, *(line.strip() for line in lines[start + 1 :])]))
    else:
        block = _indented(lines[start + 1 :])
        is_list = bool(block) and block[0].startswith("-")
        items = [line.removeprefix("-").strip() for line in block]
    return tuple(_unquoted(item) for item in items) if is_list else _in_index_order(items)


def _indented(lines: list[str]) -> list[str]:
    """The stripped lines up to the next key of the top level; a list may stand unindented."""
    block = []
    for line in filter(None, lines):
        if not line.startswith((" ", "\t", "-")):
            break
        block.append(line.strip())
    return block


def _in_index_order(items: list[str]) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for item in items:
        key, _, name = item.partition(":")
        if not _unquoted(key).isdigit():
            raise AnnotationError(f"names: in the YAML file has the key {key!r}, expected 0, 1, …")
        names[int(_unquoted(key))] = _unquoted(name)
    if sorted(names) != list(range(len(names))):
        raise AnnotationError(
            f"names: in the YAML file has the indices {sorted(names)}, expected 0, 1, … no gaps"
        )
    return tuple(names[index] for index in range(len(names)))


def _flow_items(flow: str) -> list[str]:
    """The items of ``[a, "b, c"]`` or ``{0: a, 1: b}``, split at commas outside quotes."""
    items, position = [], 1
    while match := _FLOW_ITEM.match(flow, position):
        items.append(match[1].strip())
        position = match.end() + 1
        if flow[match.end() : position] != ",":
            break
    return [item for item in items if item]


def _without_comment(line: str) -> str:
    quote = ""
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (index == 0 or line[index - 1].isspace()):
            return line[:index].rstrip()
    return line.rstrip()


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = text[1:-1]
        text = inner.replace("''", "'") if text[0] == "'" else _ESCAPE.sub(r"\1", inner)
    return clean_label(text)
