"""Annotation files out: COCO, Pascal VOC and YOLO, each as its own reader and other tools read it.

Boxes are written in pixels of the image as displayed, 0-based, unrounded. COCO only points at
the images; the two folder formats need the images inside and copy them.
"""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cellcount.core.records import LabelledImage
from cellcount.datasets.sources import displayed_size_px, relative_posix
from cellcount.errors import OutputError
from cellcount.files.atomic import atomic_write, check_folder_writable
from cellcount.images.file_types import EXPORT_MARK


def write_coco(path: Path, images: Sequence[LabelledImage], classes: Sequence[str]) -> None:
    """Writes one COCO JSON; category ids count from 1, image paths are relative to the file.

    A split goes into the key ``split`` of its image, which other tools pass over.
    """
    _check(images, classes)
    ids = {name: number for number, name in enumerate(classes, start=1)}
    image_entries: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for image_id, image in enumerate(images, start=1):
        width, height = _size_px(image)
        entry: dict[str, object] = {
            "id": image_id,
            "file_name": relative_posix(image.path, path.parent),
            "width": width,
            "height": height,
        }
        image_entries.append(entry | ({"split": image.split} if image.split else {}))
        for (x1, y1, x2, y2), label in zip(image.boxes_xyxy.tolist(), image.labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    content = {
        "images": image_entries,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_voc(folder: Path, images: Sequence[LabelledImage], classes: Sequence[str]) -> None:
    """Writes a Pascal VOC folder: Annotations, JPEGImages and a list of each split.

    VOC has no list of classes; ``classes`` only checks the labels.
    """
    _check(images, classes)
    new_folder(folder)
    (folder / "Annotations").mkdir()
    lists: dict[str, list[str]] = {}
    for image, name in _with_names(images):
        stem = Path(name).stem
        _copy(image.path, folder / "JPEGImages" / name)
        tree = ET.ElementTree(voc_tree(image, name))
        ET.indent(tree)
        tree.write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
        if image.split:
            lists.setdefault(image.split, []).append(stem)
    for split, stems in lists.items():
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def write_yolo(folder: Path, images: Sequence[LabelledImage], classes: Sequence[str]) -> None:
    """Writes a YOLO folder: images and labels, below their split if they have one; data.yaml."""
    _check(images, classes)
    new_folder(folder)
    for image, name in _with_names(images):
        _copy(image.path, folder / "images" / image.split / name)
        label_path = folder / "labels" / image.split / f"{Path(name).stem}.txt"
        label_path.parent.mkdir(parents=True, exist_ok=True)
        label_path.write_text("".join(yolo_lines(image, classes)), encoding="utf-8")
    # JSON strings and lists are YAML too, so names need no further quoting.
    lines = [f"names: {json.dumps(list(classes), ensure_ascii=False)}", f"nc: {len(classes)}"]
    for split in sorted({image.split for image in images} - {""}):
        lines.append(f"{split}: images/{split}")
    (folder / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def yolo_lines(image: LabelledImage, classes: Sequence[str]) -> Iterator[str]:
    """The lines of a label file: number of the class, middle and size as shares of the image."""
    width, height = _size_px(image)
    for (x1, y1, x2, y2), label in zip(image.boxes_xyxy.tolist(), image.labels, strict=True):
        values = (
            (x1 + x2) / 2 / width,
            (y1 + y2) / 2 / height,
            (x2 - x1) / width,
            (y2 - y1) / height,
        )
        yield f"{classes.index(label)} " + " ".join(f"{value:.9f}" for value in values) + "\n"


def voc_tree(image: LabelledImage, name: str, source: str = "") -> ET.Element:
    """Return the annotation of an image whose file is called ``name``; ``source`` is its maker."""
    width, height = _size_px(image)
    root = ET.Element("annotation")
    _text(root, "folder", "JPEGImages")
    _text(root, "filename", name)
    if source:
        _text(ET.SubElement(root, "source"), "annotation", source)
    size = ET.SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _text(size, key, value)
    for corners, label in zip(image.boxes_xyxy.tolist(), image.labels, strict=True):
        item = ET.SubElement(root, "object")
        _text(item, "name", label)
        for key in ("truncated", "difficult"):
            _text(item, key, 0)
        bndbox = ET.SubElement(item, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            # Whole numbers without ".0": some readers of VOC take integers only.
            _text(bndbox, key, int(corner) if corner.is_integer() else corner)
    return root


def _text(parent: ET.Element, tag: str, value: object) -> None:
    ET.SubElement(parent, tag).text = str(value)


def _with_names(images: Sequence[LabelledImage]) -> Iterator[tuple[LabelledImage, str]]:
    """Pair each image with a file name of its own stem, since stems tie labels to images."""
    stems = Counter(image.path.stem.lower() for image in images)
    taken: set[str] = set()
    for image in images:
        stem = image.path.stem
        if stems[stem.lower()] > 1:
            stem = f"{image.path.parent.name}_{stem}"
        unique, number = stem, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}_{number}"
        taken.add(unique.lower())
        yield image, unique + image.path.suffix


def _check(images: Sequence[LabelledImage], classes: Sequence[str]) -> None:
    """Raises OutputError for labels without class, and splits that are no plain folder name."""
    unknown = {label for image in images for label in image.labels} - set(classes)
    if unknown:
        raise OutputError(f"labels {sorted(unknown)} are not among the classes {list(classes)}")
    check_splits({image.split for image in images})


def check_splits(splits: set[str]) -> None:
    """Raises OutputError for splits that are no plain folder name; "" stands for none."""
    odd = {split for split in splits if split and not split.isidentifier()}
    if odd:
        raise OutputError(
            f"the splits {sorted(odd)} cannot name files, expected names such as train, val, test"
        )


def new_folder(folder: Path) -> None:
    """Makes the folder; raises OutputError where it holds an older data set: they must not mix."""
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty; name a new folder for the data set")
    mark_export(folder)


def mark_export(folder: Path) -> None:
    """Makes the folder and marks it as written by us, so that it is passed over below others.

    It is read where it is named itself. Raises OutputError where nothing can be written there.
    """
    check_folder_writable(folder)
    with atomic_write(folder / EXPORT_MARK) as file:
        file.write(b"Written by cellcount from other pictures, which it is no addition to.\n")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _size_px(image: LabelledImage) -> tuple[int, int]:
    if image.width_px and image.height_px:
        return image.width_px, image.height_px
    return displayed_size_px(image.path)
