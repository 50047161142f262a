"""Mapping of boxes from the annotated picture to the file: resized, turned, or another picture.

Shapes: N boxes; boxes are float64 ``(N, 4)`` xyxy in pixels.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.images.file_types import HEAD_BYTES, file_kind, open_regular

_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_SAME_PROPORTIONS = 0.01
_SLACK = 0.02
# Fewer boxes may all lie in one part of a picture by chance.
_TELLING_BOXES = 10
_OUTSIDE_SHARE, _OUTSIDE_BOXES = 0.1, 2

Array = NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """Transformation that maps boxes of the annotated picture to the file.

    Attributes:
        boxes_xyxy: in pixels of the file as displayed; None where that cannot be decided.
        said: what to tell about it, "" where sizes agree.
    """

    boxes_xyxy: Array | None
    said: str = ""


def framed(path: Path, boxes_xyxy: Array, stated: Size, shown: Size) -> Frame:
    """Boxes of a picture of the stated size, as they lie in the file.

    Args:
        path: the file.
        boxes_xyxy: as annotated.
        stated: width and height that the annotation states, (0, 0) for none.
        shown: those of the file as displayed.
    """
    if not all(stated) or stated == shown:
        outside = _outside(boxes_xyxy, shown)
        if outside >= _OUTSIDE_BOXES and outside > _OUTSIDE_SHARE * len(boxes_xyxy):
            right, lower = boxes_xyxy[:, 2:].max(axis=0)
            return Frame(
                None,
                f"{outside} of its {len(boxes_xyxy)} boxes lie outside the {_px(shown)} of "
                f"{path.name} (they reach x {right:g}, y {lower:g}), as if another picture or "
                "size had been annotated",
            )
        return Frame(boxes_xyxy)
    differ = f"the annotation states {_px(stated)}, but {path.name} has {_px(shown)}"
    if _proportional(stated, shown):
        return _scaled(boxes_xyxy, stated, shown, differ)
    if _proportional(stated[::-1], shown):
        return _turned(path, boxes_xyxy, stated, shown, differ)
    return Frame(None, f"{differ}, in other proportions: another picture or a part of it")


def _scaled(boxes_xyxy: Array, stated: Size, shown: Size, differ: str) -> Frame:
    inside = _outside(boxes_xyxy, shown) == 0
    left_stated = _outside(boxes_xyxy, stated) > _OUTSIDE_SHARE * len(boxes_xyxy)
    in_a_part = (
        len(boxes_xyxy) >= _TELLING_BOXES
        and _reach(boxes_xyxy, stated) < _reach(np.array([[0.0, 0.0, *shown]]), stated) + _SLACK
    )
    smaller = shown[0] * (1 + 2 * _SLACK) < stated[0]
    if inside and (left_stated or (in_a_part and smaller)):
        return Frame(boxes_xyxy, f"{differ}; its boxes fit the file and are taken as they stand")
    scale = np.array([shown[0] / stated[0], shown[1] / stated[1]])
    return Frame(
        boxes_xyxy * np.tile(scale, 2), f"{differ}; its boxes are scaled by {scale[0]:.4g}"
    )


def _turned(path: Path, boxes_xyxy: Array, stated: Size, shown: Size, differ: str) -> Frame:
    """Boxes of a picture whose size is that of the file turned by a quarter."""
    leaves = _outside(boxes_xyxy, stated) > 0
    upright = boxes_xyxy * np.tile([shown[0] / stated[1], shown[1] / stated[0]], 2)
    if leaves and _outside(upright, shown) == 0:
        return Frame(upright, f"{differ}; width and height are exchanged, its boxes fit the file")
    orientation = stored_orientation(path)
    if orientation not in _TURNED:
        return Frame(None, f"{differ}: it was turned by a quarter, to which side is not known")
    scaled = boxes_xyxy * np.tile([shown[1] / stated[0], shown[0] / stated[1]], 2)
    return Frame(
        oriented_boxes(scaled, orientation, shown),
        f"{differ}; that is its size before its EXIF orientation, by which its boxes are turned",
    )


def oriented_boxes(boxes_xyxy: Array, orientation: int, shown: Size) -> Array:
    """Boxes of the picture as stored, turned as it is for display.

    Args:
        boxes_xyxy: in pixels of the picture as stored.
        orientation: of EXIF or TIFF, 1 to 8.
        shown: width and height as displayed.
    """
    x1, y1, x2, y2 = boxes_xyxy.T
    if orientation in _TURNED:
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = shown[0] - x2, shown[0] - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = shown[1] - y2, shown[1] - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def stored_orientation(path: Path) -> int:
    """The orientation (1 to 8) that EXIF or TIFF asks for, 1 where none is readable."""
    with open_regular(path) as file:
        is_tiff = file_kind(file.read(HEAD_BYTES)) == "TIFF"
        file.seek(0)
        try:
            if is_tiff:
                import tifffile

                with tifffile.TiffFile(file) as tiff:
                    tag = tiff.pages.first.tags.get(_EXIF_ORIENTATION)
                    value = 1 if tag is None else tag.value
            else:
                with warnings.catch_warnings(), Image.open(file) as image:
                    warnings.simplefilter("ignore")
                    value = image.getexif().get(_EXIF_ORIENTATION, 1)
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _proportional(first: Size, second: Size) -> bool:
    """Return whether one is the other at another size; whole pixels round."""
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    return bool(abs(np.log(ratio)) <= max(_SAME_PROPORTIONS, 1 / min(*first, *second)))


def _outside(boxes_xyxy: Array, size: Size) -> int:
    """Number of boxes with their middle outside a picture of this size."""
    middles = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    limits = np.array(size, np.float64)
    away = ((middles < -_SLACK * limits) | (middles > (1 + _SLACK) * limits)).any(axis=1)
    return int(away.sum())


def _reach(boxes_xyxy: Array, size: Size) -> float:
    """Largest extent of boxes to the right or down, as a share of a picture of this size."""
    return float((boxes_xyxy[:, 2:] / np.array(size, np.float64)).max()) if len(boxes_xyxy) else 0.0


def _px(size: Size) -> str:
    return f"{size[0]}×{size[1]} px"
