"""Cells of each image as a set of ImageJ's regions of interest (ROIs).

A zip per image, written atomically in a tree like that of the images; ImageJ opens it by dropping
it on its window. Where an image has no result any more, its file goes.

Shapes: N cells; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from cellcount.core.records import ImageResult
from cellcount.files.atomic import atomic_write
from cellcount.files.dateless_zip import DatelessZip
from cellcount.outputs.drawn_labels import drawn_labels, last_review
from cellcount.outputs.image_labels import as_utf8, called
from cellcount.outputs.pictures.annotate import mirrored_path
from cellcount.outputs.pictures.shapes import look_of
from cellcount.outputs.run_content import Labels, RunContent

#: Properties of a ROI by which it is known again.
NAME, LABEL, LAST_REVIEW = "cellcount_name", "cellcount_label", "cellcount_last_review"

_VERSION = 228  # of ImageJ's format, with rectangles of parts of pixels and properties
_OPAQUE = 255


def write_rois(folder: Path, content: RunContent) -> None:
    """Write a set per image: a rectangle per cell, named by its number and its type or class.

    Raises:
        OutputError: a file cannot be written.
    """
    labels = content.labels
    for result in content.results():
        path = mirrored_path(folder, result.ref.image, ".zip")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        with atomic_write(path) as file, DatelessZip(file, "w") as archive:
            for name, data in _rois(result, labels):
                archive.writestr(f"{name}.roi", data)


def _rois(result: ImageResult, labels: Labels) -> Iterator[tuple[str, bytes]]:
    """Name and content of the ROI of each cell."""
    import roifile

    names = labels.names
    rows = zip(
        called(result, labels),
        drawn_labels(result, labels),
        result.cells.detections.boxes_xyxy.tolist(),
        strict=True,
    )
    reviewed = last_review(result)
    for place, (kind, label, (x_min, y_min, x_max, y_max)) in enumerate(rows):
        name = as_utf8(f"{result.cells.number_of(place)} {label}").replace("/", "_")
        roi = roifile.ImagejRoi(
            roitype=roifile.ROI_TYPE.RECT,
            version=_VERSION,
            options=roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
            name=name,
            left=math.floor(x_min),
            top=math.floor(y_min),
            right=math.ceil(x_max),
            bottom=math.ceil(y_max),
            xd=x_min,
            yd=y_min,
            widthd=x_max - x_min,
            heightd=y_max - y_min,
            stroke_color=bytes((_OPAQUE, *look_of(names.index(kind)).color)),
        )
        said = {NAME: name, LABEL: as_utf8(label)}
        said |= {LAST_REVIEW: f"{reviewed}"} if reviewed else {}
        roi.props = "".join(f"{key}: {value}\n" for key, value in said.items())
        yield name, roi.tobytes()
