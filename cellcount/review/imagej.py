"""Sets of ImageJ's regions of interest (ROIs), read back: what encloses each, and its name.

Shapes: boxes are xyxy in pixels of the original image; n points of a polygon.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellcount.outputs.imagej_export import LABEL, LAST_REVIEW, NAME
from cellcount.review.drawn_cells import DrawnCell, DrawnImage

if TYPE_CHECKING:
    import roifile

SUFFIX = ".zip"
_MOST_BYTES = 2**28
#: A password is a RuntimeError of zipfile's; roifile ends with a TypeError on places too few.
_NO_SET = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, TypeError)
_NUMBERED = re.compile(r"(?P<number>\d{1,7}) (?P<label>.*\S)", re.DOTALL)
#: How ImageJ names what was drawn: places along y and x.
_UNNAMED = re.compile(r"\d+(-\d+)+")


def read_rois(path: Path) -> DrawnImage:
    """Read the cells of an image from a zip.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    cells, reviewed = [], 0
    for name, roi in _rois(path):
        said = dict(line.split(": ", 1) for line in roi.props.splitlines() if ": " in line)
        cells.append(_cell(name, roi, said))
        last = said.get(LAST_REVIEW, "")
        reviewed = max(reviewed, int(last) if last.isdecimal() else 0)
    return DrawnImage(cells, reviewed)


def _rois(path: Path) -> Iterator[tuple[str, roifile.ImagejRoi]]:
    """The ROIs of a set with the names that ImageJ gave their entries."""
    import roifile

    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if e.filename.endswith(".roi")]
            size = sum(entry.file_size for entry in entries)
            if size > _MOST_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes, expected at most {_MOST_BYTES:,}")
            for entry in entries:
                roi = roifile.ImagejRoi.frombytes(archive.read(entry))
                yield entry.filename.removesuffix(".roi"), roi
    except _NO_SET as error:
        raise ValueError(f"it is no set of ROIs: {error}") from error


def _cell(name: str, roi: roifile.ImagejRoi, said: dict[str, str]) -> DrawnCell:
    numbered = _NUMBERED.fullmatch(name)
    label = numbered["label"] if numbered else "" if _UNNAMED.fullmatch(name) else name
    if said.get(NAME) == name:
        label = said.get(LABEL, label)
    # A ROI that ImageJ's user copied has the properties of another one.
    number = int(numbered["number"]) if numbered else None
    return DrawnCell(number, _box(roi, name), label, f"ROI {name!r}")


def _box(roi: roifile.ImagejRoi, name: str) -> tuple[float, float, float, float]:
    import roifile

    if roi.roitype in (roifile.ROI_TYPE.POINT, roifile.ROI_TYPE.LINE):
        raise ValueError(f"ROI {name!r} is no area; draw a rectangle or polygon about the cell")
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    if roi.n_coordinates:
        found = roi.coordinates()
        points = np.concatenate([found] if isinstance(found, np.ndarray) else found)  # (n, 2)
        xs, ys = points.T.tolist()
        return min(xs), min(ys), max(xs), max(ys)
    return float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)
