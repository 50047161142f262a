"""Pictures of single cells for a reviewer: the cell with some of what is around it, marked.

Shapes: boxes (4,) or (N, 4) xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.core.records import Picture
from cellcount.files.atomic import atomic_write
from cellcount.images.marks import png_mark
from cellcount.images.source import Source
from cellcount.images.windows import window

_SIDE_PX = 240
_AROUND = 2.2  # side of the picture over that of the cell's box
_TICK, _GAP_PX = 0.18, 4  # length of a corner over the side of the box; room between both
_LEAST_PX = 8.0
_MARGIN_PX = 16  # more than resampling looks beyond a picture
_LARGEST_REACH_PX = 1000


def crop_of(picture: Picture, box_xyxy: Sequence[float]) -> Image.Image:
    """The cell in the middle, with corners drawn around its box; what lies outside is white."""
    x_min, y_min, x_max, y_max = box_xyxy
    side = max(_LEAST_PX, _AROUND * max(x_max - x_min, y_max - y_min))
    centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
    image = Image.fromarray(window(picture.pixels, centre, side, (_SIDE_PX, _SIDE_PX), "bicubic"))
    zoom = _SIDE_PX / side
    half = ((x_max - x_min) * zoom / 2 + _GAP_PX, (y_max - y_min) * zoom / 2 + _GAP_PX)
    draw = ImageDraw.Draw(image)
    for colour, width in (((255, 255, 255), 4), ((0, 0, 0), 2)):
        for right in (-1, 1):
            for down in (-1, 1):
                x, y = _SIDE_PX / 2 + right * half[0], _SIDE_PX / 2 + down * half[1]
                length = 2 * _TICK * min(half)
                draw.line([(x - right * length, y), (x, y), (x, y - down * length)], colour, width)
    return image


def crops_of(source: Source, boxes_xyxy: NDArray[np.float32]) -> Iterator[tuple[int, Image.Image]]:
    """Give pictures of some cells of an image, a whole slide included.

    Args:
        source: the image.
        boxes_xyxy: of the cells, (N, 4).

    Yields:
        Place of a cell among the boxes, and its picture; in any order.

    Raises:
        ImageError: the image cannot be read.
    """
    longest = float((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(initial=0))
    # Of a slide parts are read: what they do not show around a huge box stays white.
    most = min(_LARGEST_REACH_PX, isqrt(source.window_px) // 4)
    for part in source.around(boxes_xyxy, min(ceil(_AROUND * longest) + _MARGIN_PX, most)):
        picture = Picture(part.pixels)
        for place, box in zip(part.which.tolist(), part.boxes_xyxy.tolist(), strict=True):
            yield place, crop_of(picture, box)


def write_crop(path: Path, crop: Image.Image) -> None:
    """Write a picture of a cell as PNG.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as file:
        crop.save(file, "PNG", pnginfo=png_mark())
