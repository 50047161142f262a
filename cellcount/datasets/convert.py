"""One data set in another form: COCO, Pascal VOC, YOLO, or a folder per class of single cells.

Shapes: none; boxes are xyxy in pixels of their field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from cellcount.core.blood import BLOOD_SYNONYMS, RBC
from cellcount.datasets.annotated import AnnotatedSet, Problem
from cellcount.datasets.classes import map_labels
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.crop_writer import write_folders
from cellcount.datasets.crops import boxes_as_crops
from cellcount.datasets.pixels import scale_factors
from cellcount.datasets.writers import new_folder, write_coco, write_voc, write_yolo
from cellcount.errors import AnnotationError, UsageError

Target = Literal["coco", "voc", "yolo", "folders"]
COCO_FILE = "annotations.json"


def convert_data(
    data: CropSet | AnnotatedSet,
    target: Target,
    out: Path,
    *,
    window_rbc: float = 3.2,
    rbc_px: float | None = None,
    on_cell: Callable[[], None] | None = None,
) -> tuple[Problem, ...]:
    """Write the data set to a new folder; return the items that could not be converted.

    Args:
        data: as ``read_data`` gives it.
        target: the form.
        out: new or empty folder.
        window_rbc: with ``folders``, side of the window cut about a box, in red-cell diameters.
        rbc_px: with ``folders``, red-cell diameter in the fields' pixels; None measures the red
            cells that each field has boxes of.
        on_cell: with ``folders``, called after each cell.

    Raises:
        UsageError: single cells have no boxes to write.
        AnnotationError: the scale is needed, not given and cannot be measured.
        OutputError: the folder is not empty or cannot be written.
    """
    if target == "folders":
        if isinstance(data, CropSet):
            return write_folders(
                out, data.items, side_px=lambda c: _side_px(c, window_rbc, rbc_px), on_cell=on_cell
            )
        sides = _sides_px(data, window_rbc, rbc_px)
        cells = boxes_as_crops(data).items
        return write_folders(out, cells, side_px=lambda c: sides[c.path], on_cell=on_cell)
    if isinstance(data, CropSet):
        raise UsageError(
            f"--to {target} needs boxes, but this data set ({data.format}) has one cell per "
            "picture; such cells can be written --to folders"
        )
    if target == "coco":
        new_folder(out)
        write_coco(out / COCO_FILE, data.images, data.classes)
    elif target == "voc":
        write_voc(out, data.images, data.classes)
    else:
        write_yolo(out, data.images, data.classes)
    return ()


def _side_px(cell: LabelledCrop, window_rbc: float, rbc_px: float | None) -> float:
    """Side of the window of a cell whose picture is a field, in pixels of the field."""
    diameter_px = rbc_px or cell.rbc_px
    if not diameter_px:
        raise AnnotationError(
            f"{cell.path} is a field whose scale is unknown, which the window of a cell needs; "
            "state the red-cell diameter in pixels with --rbc-px"
        )
    return window_rbc * diameter_px


def _sides_px(data: AnnotatedSet, window_rbc: float, rbc_px: float | None) -> Mapping[Path, float]:
    """Side of the window of each field in its own pixels."""
    named = map_labels(data, BLOOD_SYNONYMS)
    factors = scale_factors(named.images, scale_class=RBC, target_px=1.0, given_px=rbc_px)
    return {
        image.path: window_rbc / factor for image, factor in zip(data.images, factors, strict=True)
    }
