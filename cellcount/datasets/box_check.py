"""Check of the boxes of one picture against its file: boxes kept, boxes left out, and reasons.

Shapes: N boxes of one image. Boxes leave as float32 ``(N, 4)`` xyxy in pixels of the image as
displayed, clipped to the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellcount.datasets.annotated import clean_label
from cellcount.datasets.box_copies import without_copies
from cellcount.datasets.box_layouts import Layout, Meaning, numbers_of
from cellcount.datasets.frames import framed
from cellcount.datasets.raw_annotation import Annotation, RawBox, Size

# Sides below this are shares or rounding, no cells; 1 px written in decimals still counts.
_LEAST_SIDE_PX = 0.9
_LARGEST_NUMBER = 1e7

Array = NDArray[np.float64]


@dataclass(slots=True)
class CheckedBoxes:
    """The usable boxes of a picture.

    Attributes:
        boxes_xyxy, labels: those that are kept.
        faults: a text for each box that is not.
        said: what else there is to tell.
        left_out: why the picture must not be used, "" where it may.
    """

    boxes_xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left_out: str = ""


def stacked(boxes: Sequence[RawBox]) -> Array:
    """Stack the corners of all boxes, with NaN for absurdly large numbers."""
    corners = np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4)
    return np.where(np.abs(corners) < _LARGEST_NUMBER, corners, np.nan)


def check_boxes(
    annotation: Annotation, meaning: Meaning, written: Layout, shown: Size
) -> CheckedBoxes:
    """The boxes of a picture in pixels of its file.

    Args:
        annotation: what is said of it.
        meaning: how the numbers of its source are meant.
        written: how the format writes a box.
        shown: width and height of the file as displayed.
    """
    checked = CheckedBoxes()
    corners, faults = _in_pixels(annotation, meaning, written, shown)
    fine = np.array([not fault for fault in faults], bool)
    frame = framed(annotation.image, corners[fine], annotation.stated_px, shown)
    if frame.boxes_xyxy is None:
        checked.left_out = frame.said
        return checked
    checked.said += [frame.said] if frame.said else []
    corners[fine] = frame.boxes_xyxy
    limits = np.array([*shown, *shown], np.float64)
    clipped = np.clip(corners, 0.0, limits).astype(np.float32)
    for index, box in enumerate(annotation.boxes):
        faults[index] = faults[index] or _fault(box, clipped[index], shown)
    kept = [index for index, fault in enumerate(faults) if not fault]
    checked.faults = [
        f"box {index + 1} ({clean_label(box.label) or 'no class'}, {_shown(box.xyxy)}) {fault}; "
        "left out"
        for index, (box, fault) in enumerate(zip(annotation.boxes, faults, strict=True))
        if fault
    ]
    lost = [*annotation.broken, *checked.faults]
    if lost and not kept:
        checked.left_out = (
            f"its only box is unusable: {lost[0]}"
            if len(lost) == 1
            else f"all of its {len(lost)} boxes are unusable, the first: {lost[0]}"
        )
        return checked
    labels = [clean_label(annotation.boxes[index].label) for index in kept]
    _take_unique(checked, clipped[kept], labels)
    return checked


def _take_unique(
    checked: CheckedBoxes, boxes_xyxy: NDArray[np.float32], labels: Sequence[str]
) -> None:
    kept, torn = without_copies(boxes_xyxy, labels)
    copies = len(labels) - len(kept)
    if copies:
        what = "1 box stands" if copies == 1 else f"{copies} boxes stand"
        checked.said.append(f"{what} there more than once; the copies are left out")
    if torn:
        first, second = torn[0]
        what = "1 box has" if len(torn) == 1 else f"{len(torn)} boxes have"
        checked.said.append(
            f"{what} two classes, first {labels[first]} and {labels[second]} at "
            f"{_shown(tuple(boxes_xyxy[first].tolist()))}; both are kept, delete one"
        )
    checked.boxes_xyxy = boxes_xyxy[kept].reshape(-1, 4)
    checked.labels = tuple(labels[index] for index in kept)


def _in_pixels(
    annotation: Annotation, meaning: Meaning, written: Layout, shown: Size
) -> tuple[Array, list[str]]:
    """Return corners in pixels of the annotated picture, and the fault of each box, or ""."""
    stated = annotation.stated_px
    corners = stacked(annotation.boxes)
    frames = np.tile(np.array(stated if all(stated) else shown, np.float64), (len(corners), 1))
    drawn = np.array([box.drawn for box in annotation.boxes], bool)
    as_drawn = Meaning("corners", meaning.unit)
    numbers = np.where(drawn[:, None], corners, numbers_of(corners, written))
    pixels = np.where(
        drawn[:, None], as_drawn.corners(numbers, frames), meaning.corners(numbers, frames)
    )
    is_share = meaning.is_share(numbers)
    faults = []
    for index in range(len(corners)):
        fault = ""
        if not np.isfinite(corners[index]).all():
            fault = "holds a number that is not finite or beyond reason"
        elif not is_share[index]:
            fault = "is not written in shares of the picture as the others are"
        faults.append(fault)
    return pixels, faults


def _fault(box: RawBox, xyxy: NDArray[np.float32], shown: Size) -> str:
    """Name the fault of a box of finite pixels, clipped to the picture; "" without one."""
    width, height = float(xyxy[2] - xyxy[0]), float(xyxy[3] - xyxy[1])
    if width <= 0 or height <= 0:
        return f"has no width or height inside the {shown[0]}×{shown[1]} px image"
    if min(width, height) < _LEAST_SIDE_PX:
        return f"is smaller than a pixel inside the {shown[0]}×{shown[1]} px image"
    return "" if clean_label(box.label) else "names no class"


def _shown(xyxy: Sequence[float]) -> str:
    x1, y1, x2, y2 = xyxy
    return f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"
