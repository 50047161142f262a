"""Annotation files in and out: COCO, Pascal VOC, YOLO, VIA, LabelMe and CSV tables. No torch.

``read_annotations`` finds the format by itself; every reader survives broken boxes and files and
reports them as problems.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import cast

from cellcount.datasets import coco, csv_boxes, labelme, via, voc, yolo
from cellcount.datasets.annotated import AnnotatedSet, Problem, random_split
from cellcount.datasets.classes import BLOOD_CLASSES, BLOOD_SYNONYMS, blood_classes, map_labels
from cellcount.datasets.crops import CropFormat, CropSet, Labels, crop_format, read_crops
from cellcount.datasets.writers import write_coco, write_voc, write_yolo
from cellcount.errors import AnnotationError, UsageError

__all__ = [
    "BLOOD_CLASSES",
    "BLOOD_SYNONYMS",
    "DATA_FORMATS",
    "FORMATS",
    "AnnotatedSet",
    "Problem",
    "blood_classes",
    "map_labels",
    "random_split",
    "read_annotations",
    "read_data",
    "write_coco",
    "write_voc",
    "write_yolo",
]

_READERS: dict[str, ModuleType] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "via": via,
    "labelme": labelme,
    "csv": csv_boxes,
}

FORMATS = ("auto", *_READERS)
_CROPS = ("table", "lmu", "folders")
#: Of ``read_data``: single cells, or boxes.
DATA_FORMATS = ("auto", *_CROPS, *_READERS)


def read_annotations(
    source: Path, *, format: str = "auto", split: str | None = None
) -> AnnotatedSet:
    """Reads an annotated data set.

    Args:
        source: folder of the data set, or its annotation file.
        format: one of ``FORMATS``; ``auto`` looks for each of them.
        split: keep only the images of this split.

    Raises:
        AnnotationError: no or several formats fit, no image is usable, or the split is unknown.
        UsageError: there is no such format.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}, expected one of {', '.join(FORMATS)}")
    source = Path(source)
    if not source.exists():
        raise AnnotationError(f"{source} does not exist, expected a data set's folder or file")
    reader = _READERS[_sniffed(source) if format == "auto" else format]
    annotated: AnnotatedSet = reader.read(source)
    if not annotated.images:
        reasons = "; ".join(str(problem) for problem in annotated.problems[:3])
        raise AnnotationError(
            f"{source} was read as {annotated.format} but holds no usable image: "
            f"{reasons or 'no image was found'}"
        )
    return annotated if split is None else annotated.subset(split)


def read_data(
    source: Path, *, format: str = "auto", labels: Labels = "class"
) -> CropSet | AnnotatedSet:
    """Reads whatever data set this is: one cell per picture, or boxes in fields.

    Args:
        source: folder, table or annotation file.
        format: one of ``DATA_FORMATS``.
        labels: of single cells, as for ``read_crops``.

    Raises:
        AnnotationError: nothing fits, or nothing is usable.
        UsageError: there is no such format.
    """
    if format not in DATA_FORMATS:
        raise UsageError(
            f"there is no format {format!r}, expected one of {', '.join(DATA_FORMATS)}"
        )
    source = Path(source)
    exists = source.exists()
    kind = crop_format(source) if format == "auto" and exists else format
    if kind in _CROPS:
        return read_crops(source, labels=labels, format=cast(CropFormat, kind))
    return read_annotations(source, format="auto" if kind == "boxes" else kind)


def _sniffed(source: Path) -> str:
    """The one format that fits; raises AnnotationError for none or several."""
    fitting = [name for name, reader in _READERS.items() if reader.sniff(source)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise AnnotationError(
            f"{source} can be read as {' and as '.join(fitting)}; name one as the format"
        )
    looked_for = "\n".join(f"  - {reader.LOOKED_FOR}" for reader in _READERS.values())
    raise AnnotationError(
        f"{source} fits no known annotation format. Looked for:\n{looked_for}\n"
        f"Found: {_contents(source)}"
    )


def _contents(source: Path) -> str:
    """What a person would see there, in one line."""
    if source.is_file():
        return f"one file of {source.stat().st_size:,} bytes"
    names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in source.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "nothing") + more
