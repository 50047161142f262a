"""A picture of a whole slide, or of a large part of one: read window by window, never whole.

A TIFF above ``WHOLE_PIXELS``, or above the limit of ``--max-pixels``, is a scan where its form
allows windows. Then not the picture as a whole is bounded by the limit, but each window is.

Shapes: windows uint8 (h, w, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images.read import readable
from cellcount.images.tiff_windows import Rect, read_windows, window_header

#: Pixels of a window that is read at a time, as far as ``max_pixels`` allows them.
WINDOW_PIXELS = 32_000_000


@dataclass(frozen=True, slots=True)
class Scan:
    """A large picture on disk; it holds no pixels and no open file.

    Attributes:
        path, page: where it lies.
        width_px, height_px: its size.
        um_per_px: scale found in the file's own metadata, or None.
        max_pixels: largest window that is read, in pixels.
    """

    path: Path
    page: int
    width_px: int
    height_px: int
    um_per_px: float | None
    max_pixels: int

    @property
    def window_px(self) -> int:
        """Pixels that are read at a time."""
        return min(WINDOW_PIXELS, self.max_pixels)

    def read(self, rect: Rect) -> NDArray[np.uint8]:
        """One window (h, w, 3).

        Raises:
            ImageError: it is too large, or cannot be read.
        """
        return next(iter(self.read_all([rect])))

    def read_all(self, rects: Sequence[Rect]) -> Iterator[NDArray[np.uint8]]:
        """Windows in their order; those that lie side by side cost little more than one.

        Raises:
            ImageError: one is too large, or cannot be read.
        """
        largest = max((rect.pixels for rect in rects), default=0)
        if largest > self.max_pixels:
            raise ImageError(
                f"a window of {largest} pixels is needed, the limit is {self.max_pixels}; raise "
                "--max-pixels, or use a smaller --tile-px"
            )
        with readable(self.path) as (file, _):
            windows = list(read_windows(file, self.page, rects))
        yield from windows


def open_scan(ref: ImageRef, *, max_pixels: int) -> Scan | None:
    """The scan that an image is, None where it is decoded whole, or cannot be.

    Raises:
        ImageError: it is a scan, but damaged or of a form that is not read.
    """
    with readable(ref.path) as (file, kind):
        header = window_header(file, ref.page, max_pixels) if kind == "TIFF" else None
    if header is None:
        return None
    return Scan(ref.path, ref.page, *header, max_pixels)
