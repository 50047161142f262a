"""Data sets of any kind: single cells, or boxes in fields. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.annotations import READERS, read_annotations
from cellcount.datasets.crop_set import CropSet
from cellcount.datasets.crops import CropFormat, Labels, crop_format, read_crops
from cellcount.errors import UsageError

_CROPS = ("table", "lmu", "folders")
#: Of ``read_data``: single cells, or boxes.
DATA_FORMATS = ("auto", *_CROPS, *READERS)


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
