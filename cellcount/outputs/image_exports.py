"""Cells of each image for other programs: GeoJSON for QuPath, labels for YOLO and Pascal VOC.

A file per image, written atomically in a tree like that of the images; where an image has no
result any more, its file goes. A typed cell is called by its type, every other by its class.

Shapes: N cells; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cellcount.core.records import UNCLASSIFIED, CellClass, CellTypes, ImageResult, LabelledImage
from cellcount.datasets.writers import voc_tree, yolo_lines
from cellcount.files.atomic import atomic_write
from cellcount.images.file_types import IMAGE_SUFFIXES
from cellcount.outputs.pictures.annotate import mirrored_path
from cellcount.outputs.pictures.shapes import look_of
from cellcount.outputs.typed import type_values

# Ids of cells are made from the image's name and the cell's number, so they stay the same.
_NAMESPACE = uuid.UUID("5b0a1c0e-6a7b-5f0d-9d59-2f6f0f4c8a11")

Results = Callable[[], Iterator[ImageResult]]


def write_geojson(
    folder: Path,
    results: Iterable[ImageResult],
    classes: Sequence[CellClass],
    types: Sequence[CellClass] = (),
    profile: str = "",
) -> None:
    """Write a GeoJSON file per image, which QuPath opens by dropping it on the image.

    Each cell is a detection: its box, its type (else its class) as the classification, and the
    model's confidence as measurements. The profile, as outputs call it, is a member beside them.

    Raises:
        OutputError: a file cannot be written.
    """
    for result in results:
        path = mirrored_path(folder, result.ref.image, ".geojson")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        with atomic_write(path) as file:
            head = f', "profile": {json.dumps(profile)}' if profile else ""
            file.write(f'{{"type": "FeatureCollection"{head}, "features": ['.encode())
            for number, feature in enumerate(_features(result, classes, types), 1):
                text = json.dumps(feature, ensure_ascii=False, allow_nan=False)
                file.write(b"\n" if number == 1 else b",\n")
                file.write(text.encode("utf-8", "backslashreplace"))
            file.write(b"]}\n")


def write_yolo_labels(
    folder: Path,
    results: Results,
    classes: Sequence[CellClass],
    types: Sequence[CellClass] = (),
    profile: str = "",
) -> None:
    """Write YOLO labels, ``labels/…/NAME.txt`` per image; ``data.yaml`` has classes and profile.

    Images are not copied: the tree below ``labels`` is theirs.

    Raises:
        OutputError: a file cannot be written.
    """
    names = export_names(classes, types)
    numbered = _stems(results)
    for result in results():
        path = mirrored_path(folder / "labels", numbered(result.ref.image), ".txt")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        image = _labelled(result, classes, types)
        with atomic_write(path) as file:
            file.write("".join(yolo_lines(image, names)).encode())
    # JSON strings and lists are YAML too, so names need no further quoting.
    text = f"names: {json.dumps(names, ensure_ascii=False)}\nnc: {len(names)}\n"
    if profile:
        text += f"profile: {json.dumps(profile)}\n"
    with atomic_write(folder / "data.yaml") as file:
        file.write(text.encode())


def write_voc_annotations(
    folder: Path,
    results: Results,
    classes: Sequence[CellClass],
    types: Sequence[CellClass] = (),
    profile: str = "",
) -> None:
    """Write Pascal VOC annotations, ``Annotations/…/NAME.xml`` per image; images are not copied.

    The profile stands where VOC tells the origin of annotations, in ``source/annotation``.

    Raises:
        OutputError: a file cannot be written.
    """
    numbered = _stems(results)
    for result in results():
        path = mirrored_path(folder / "Annotations", numbered(result.ref.image), ".xml")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        source = f"cellcount, profile {_printable(profile)}" if profile else "cellcount"
        name = _printable(result.ref.image)
        root = voc_tree(_labelled(result, classes, types), name, source)
        ET.indent(root)
        with atomic_write(path) as file:
            file.write(ET.tostring(root, "utf-8"))


def export_names(classes: Sequence[CellClass], types: Sequence[CellClass]) -> list[str]:
    """What cells may be called: the detector's classes, then the types, each once."""
    return list(dict.fromkeys(c.id for c in (*classes, *types)))


def _called(
    result: ImageResult, classes: Sequence[CellClass], types: Sequence[CellClass]
) -> list[str]:
    """Of each of the N cells its type, else its class."""
    labels = [classes[label].id for label in result.cells.detections.labels.tolist()]
    said = result.cells.types
    if said is None:
        return labels
    typed = type_values(said, types)["type"]
    return [
        label if name in (None, UNCLASSIFIED) else str(name)
        for name, label in zip(typed, labels, strict=True)
    ]


def _labelled(
    result: ImageResult, classes: Sequence[CellClass], types: Sequence[CellClass]
) -> LabelledImage:
    return LabelledImage(
        Path(result.ref.image),
        result.cells.detections.boxes_xyxy,
        tuple(_called(result, classes, types)),
        result.width_px,
        result.height_px,
    )


def _features(
    result: ImageResult, classes: Sequence[CellClass], types: Sequence[CellClass]
) -> Iterator[dict[str, Any]]:
    detections, names = result.cells.detections, export_names(classes, types)
    full = {c.id: c.name for c in (*types, *classes)}
    said = CellTypes.untyped(len(detections)) if result.cells.types is None else result.cells.types
    typed = type_values(said, types)
    rows = zip(
        _called(result, classes, types),
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        typed["type"],
        typed["type_prob"],
        strict=True,
    )
    for number, (name, box_xyxy, score, kind, prob) in enumerate(rows, 1):
        measurements = {"score": round(score, 4)}
        if isinstance(prob, float) and number - 1 not in result.reviewed:
            measurements["type_prob"] = round(prob, 4)
        label = f"{full[name]} ({UNCLASSIFIED})" if kind == UNCLASSIFIED else full[name]
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, _printable(f"{result.ref.image}\n{number}"))),
            "geometry": {"type": "Polygon", "coordinates": [_ring(box_xyxy)]},
            "properties": {
                "objectType": "detection",
                "name": f"{number}",
                "classification": {"name": label, "color": list(look_of(names.index(name)).color)},
                "measurements": measurements,
            },
        }


def _ring(box_xyxy: Sequence[float]) -> list[list[float]]:
    """The box as a closed ring of x and y, clockwise on the screen."""
    x_min, y_min, x_max, y_max = (round(v, 2) for v in box_xyxy)
    return [[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max], [x_min, y_min]]


def _stems(results: Results) -> Callable[[str], str]:
    """Images are tied to labels by the stem: as such where no other image shares it, else whole."""
    counts = Counter(_stem(result.ref.image).lower() for result in results())

    def name(image: str) -> str:
        stem = _stem(image)
        return image if counts[stem.lower()] > 1 else stem

    return name


def _stem(image: str) -> str:
    path = PurePosixPath(image)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else image


def _printable(text: str) -> str:
    """Names with bytes that are no UTF-8, as other programs can read them."""
    return text.encode("utf-8", "backslashreplace").decode()
