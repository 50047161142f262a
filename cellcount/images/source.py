"""One image as a source of pixels, whether it fits into memory or not.

A ``Field`` holds its pixels; a ``WholeSlide`` reads windows of them from disk. Scale, quality,
detection, types and pictures ask either the same questions, and only those that need the image as a
whole ask for ``picture``.

Shapes: pixels uint8 (h, w, 3) RGB; boxes (N, 4) xyxy in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, Picture
from cellcount.images.colour_balance import ColourBalance, measure_balance
from cellcount.images.read import read_image
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import open_whole_slide
from cellcount.images.windows import Part


class Source(Protocol):
    """An image that gives pixels; every method raises ``ImageError`` where it cannot read them."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        ...

    @property
    def um_per_px(self) -> float | None:
        """Scale found in the file's own metadata, or None."""
        ...

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences about the file that a person should read before believing the counts."""
        ...

    @property
    def picture(self) -> Picture | None:
        """The image as a whole, None where it is too large to be held."""
        ...

    @property
    def window_px(self) -> int:
        """Pixels that are read at a time."""
        ...

    def read(self, rect: Rect) -> NDArray[np.uint8]:
        """The pixels of a rectangle that lies within the image."""
        ...

    def around(self, boxes_xyxy: NDArray[np.floating[Any]], reach_px: int) -> Iterator[Part]:
        """Parts of the image that show each box once, with so many pixels around its centre."""
        ...

    def sample_fields(self) -> tuple[NDArray[np.uint8], ...]:
        """The fields by which the image's scale and quality are judged."""
        ...

    def balance(self, *, red_cell_hue: bool) -> ColourBalance:
        """Balance of the colours of the image as a whole (``measure_balance``)."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """An image that is held whole.

    Attributes:
        picture: its pixels.
    """

    picture: Picture

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.width_px, self.picture.height_px

    @property
    def um_per_px(self) -> float | None:
        """Scale found in the file's own metadata, or None."""
        return self.picture.um_per_px

    @property
    def cautions(self) -> tuple[str, ...]:
        """Cautions that reading gave."""
        return self.picture.cautions

    @property
    def window_px(self) -> int:
        """All of its pixels."""
        return self.picture.width_px * self.picture.height_px

    def read(self, rect: Rect) -> NDArray[np.uint8]:
        """The pixels of a rectangle, not copied."""
        rows, columns = slice(rect.y, rect.y + rect.height), slice(rect.x, rect.x + rect.width)
        return self.picture.pixels[rows, columns]

    def around(self, boxes_xyxy: NDArray[np.floating[Any]], reach_px: int) -> Iterator[Part]:
        """One part, the whole field, as far as there are boxes."""
        if len(boxes_xyxy):
            yield Part(np.arange(len(boxes_xyxy)), self.picture.pixels, boxes_xyxy)

    def sample_fields(self) -> tuple[NDArray[np.uint8], ...]:
        """The field itself."""
        return (self.picture.pixels,)

    def balance(self, *, red_cell_hue: bool) -> ColourBalance:
        """Balance of the colours of the field."""
        return measure_balance(self.picture.pixels, red_cell_hue=red_cell_hue)


def open_source(ref: ImageRef, *, max_pixels: int) -> Source:
    """Open an image: decoded whole, or by its header where it is a whole slide.

    Args:
        ref: the image.
        max_pixels: most pixels that are decoded at a time.

    Raises:
        ImageError: it cannot be read.
    """
    slide = open_whole_slide(ref, max_pixels=max_pixels)
    return slide or Field(read_image(ref, max_pixels=max_pixels))
