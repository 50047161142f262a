"""Pictures for the page: crops of cells and tiles of images, whole slides included.

Small images are kept decoded while they are looked at. Of a whole slide windows are read; where the
file has reduced copies (a pyramid), coarse tiles are made of these, and else of a view of the whole
that is reduced by eight, which is made once in the background.

Shapes: pixels uint8 (h, w, 3) RGB; boxes xyxy in pixels of the image.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil
from threading import Lock, Thread
from typing import Generic, Literal, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images.source import Field, Source, open_source
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import WholeSlide
from cellcount.images.windows import window

TILE_PX = 512
CROP_PX = 96
_AROUND = 1.6  # side of a crop over that of the cell's box
_LEAST_PX = 16.0
_AROUND_CROP = 0.55  # read to each side over the side of a crop: half, and what a filter reaches
_OVERVIEW_LEVEL = 3  # a whole slide is reduced by 2 ** 3 once
_FARTHEST_COPY = 8  # a tile is made of at most so many times its width and height
_COARSEST_LEVEL = 12
_LARGEST_CROP_PX = 2048  # of a whole slide; of a larger box the middle is shown
_READ_PX = 2048
_PICTURES_BYTES, _JPEG_BYTES = 600_000_000, 96_000_000
_QUALITY = 85

_Value = TypeVar("_Value")


class _Memo(Generic[_Value]):
    """Cache of recent values, of bounded size in bytes."""

    def __init__(self, most_bytes: int, size_of: Callable[[_Value], int]) -> None:
        self._most, self._size_of, self._bytes = most_bytes, size_of, 0
        self._kept: OrderedDict[object, _Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: object, make: Callable[[], _Value]) -> _Value:
        """Return the value of a key, computed now if it is not cached."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._bytes += self._size_of(value)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._size_of(self._kept.popitem(last=False)[1])
        return value


class ImagePixels:
    """The pixels of a run's images.

    Args:
        refs: its images, with paths that hold here.
        size_of: gives the width and height with which an image was analysed.
        max_pixels: most pixels that are decoded at a time.
    """

    def __init__(
        self,
        refs: Sequence[ImageRef],
        size_of: Callable[[int], tuple[int, int]],
        max_pixels: int,
    ) -> None:
        self._refs, self._size_of, self._max_pixels = refs, size_of, max_pixels
        self._sources: _Memo[Source | None] = _Memo(_PICTURES_BYTES, _source_bytes)
        self._jpegs: _Memo[bytes] = _Memo(_JPEG_BYTES, len)
        self._overviews: _Memo[_Overview] = _Memo(_PICTURES_BYTES, lambda o: o.nbytes)
        self._lock = Lock()
        self._opening: dict[int, Lock] = {}

    def crop(self, image: int, box_xyxy: Sequence[float]) -> bytes | None:
        """A cell with its surroundings as JPEG; None where its image is gone or has changed."""
        key = (image, tuple(box_xyxy))
        try:
            return self._jpegs.get(key, lambda: self._crop(image, box_xyxy))
        except ImageError:
            return None

    def tile(
        self, image: int, level: int, column: int, row: int
    ) -> bytes | Literal["later"] | None:
        """A tile as JPEG, ``later`` while the overview of a slide is made, None for no such tile.

        Args:
            image: which.
            level: the image is reduced by 2 to the power of it.
            column, row: of the tile, from 0.
        """
        if level > _COARSEST_LEVEL:  # first of all: a shift by any number takes any memory
            return None
        width, height = self._size_of(image)
        side = TILE_PX << level
        x, y = column * side, row * side
        if x >= width or y >= height:
            return None
        rect = Rect(x, y, min(side, width - x), min(side, height - y))
        try:
            source = self._source(image)
            if source is None:
                return None
            key = (image, level, column, row)
            if isinstance(source, WholeSlide) and (factor := _nearest_copy(source, level)):
                return self._jpegs.get(key, lambda: _jpeg(_of_copy(source, factor, rect, level)))
            if source.picture is None and level >= _OVERVIEW_LEVEL:
                return self._of_overview(image, source, rect, level)
            return self._jpegs.get(key, lambda: _jpeg(_reduced(source.read(rect), level)))
        except ImageError:
            return None

    def _source(self, image: int) -> Source | None:
        with self._lock:
            opening = self._opening.setdefault(image, Lock())
        with opening:  # two that ask for the same image decode it once
            return self._sources.get(image, lambda: self._opened(image))

    def _opened(self, image: int) -> Source | None:
        source = open_source(self._refs[image], max_pixels=self._max_pixels)
        return source if source.size_px == self._size_of(image) else None

    def _crop(self, image: int, box_xyxy: Sequence[float]) -> bytes:
        source = self._source(image)
        if source is None:
            raise ImageError("the image has changed since it was analysed")
        x_min, y_min, x_max, y_max = box_xyxy
        centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
        side = max(_LEAST_PX, _AROUND * max(x_max - x_min, y_max - y_min))
        if source.picture is None:  # a person may have drawn a box about the whole slide
            side = min(side, _LARGEST_CROP_PX)
        pixels, left, top = _around(source, centre, side)
        place = (centre[0] - left, centre[1] - top)
        return _jpeg(window(pixels, place, side, (CROP_PX, CROP_PX), "bicubic"))

    def _of_overview(
        self, image: int, source: Source, rect: Rect, level: int
    ) -> bytes | Literal["later"] | None:
        with self._lock:
            overview = self._overviews.get(image, lambda: _Overview(source))
        pixels = overview.part(rect)
        if pixels is None:
            return None if overview.failed else "later"
        return _jpeg(_reduced(pixels, level - _OVERVIEW_LEVEL))


class _Overview:
    """A whole slide reduced by eight, made in the background from the top down."""

    def __init__(self, source: Source) -> None:
        width, height = source.size_px
        self._source = source
        scale = 1 << _OVERVIEW_LEVEL
        self._pixels = np.full((ceil(height / scale), ceil(width / scale), 3), 255, np.uint8)
        self._done_rows = 0
        self.nbytes = self._pixels.nbytes
        self.failed = False
        Thread(target=_make, args=(ref(self),), daemon=True).start()

    def part(self, rect: Rect) -> NDArray[np.uint8] | None:
        """Pixels of a rectangle of the slide; None as long as the overview is not made."""
        scale = 1 << _OVERVIEW_LEVEL
        top, bottom = rect.y // scale, ceil((rect.y + rect.height) / scale)
        if bottom > self._done_rows:
            return None
        return self._pixels[top:bottom, rect.x // scale : ceil((rect.x + rect.width) / scale)]

    def read_rows(self, y: int) -> bool:
        """Read the rows from a place on; False where they are the last, or cannot be read."""
        width, height = self._source.size_px
        scale = 1 << _OVERVIEW_LEVEL
        is_read = False
        try:
            for x in range(0, width, _READ_PX):
                rect = Rect(x, y, min(_READ_PX, width - x), min(_READ_PX, height - y))
                small = _reduced(self._source.read(rect), _OVERVIEW_LEVEL)
                rows, columns = small.shape[:2]
                self._pixels[y // scale : y // scale + rows, x // scale : x // scale + columns] = (
                    small
                )
            self._done_rows = ceil(min(height, y + _READ_PX) / scale)
            is_read = True
        except ImageError:
            return False
        finally:  # whatever went wrong: else the page would wait for it forever
            self.failed = not is_read
        return self._done_rows < len(self._pixels)


def _make(known: Callable[[], _Overview | None]) -> None:
    """Read a slide from the top down, for as long as its overview is kept."""
    y = 0
    while (overview := known()) is not None and overview.read_rows(y):
        del overview  # else this would be what keeps it
        y += _READ_PX


def _around(
    source: Source, centre: tuple[float, float], side: float
) -> tuple[NDArray[np.uint8], int, int]:
    """Pixels about a place, and where they begin."""
    if source.picture is not None:
        return source.picture.pixels, 0, 0
    # No more than it shows: a cell is a hundredth of the work that a block of them is.
    reach = ceil(side * _AROUND_CROP) + 16
    width, height = source.size_px
    x, y = int(centre[0]), int(centre[1])
    left, top = max(0, x - reach), max(0, y - reach)
    right, bottom = min(width, x + reach), min(height, y + reach)
    return source.read(Rect(left, top, right - left, bottom - top)), left, top


def _nearest_copy(source: WholeSlide, level: int) -> int:
    """Factor of the reduced copy in the file that a tile is best made of; 0 where there is none."""
    scale = 1 << level
    fitting = [f for f in source.level_factors if f <= scale <= f * _FARTHEST_COPY]
    return max(fitting, default=0)


def _of_copy(source: WholeSlide, factor: int, rect: Rect, level: int) -> NDArray[np.uint8]:
    width, height = (ceil(side / factor) for side in (rect.width, rect.height))
    pixels = source.read_level(factor, Rect(rect.x // factor, rect.y // factor, width, height))
    return _reduced(pixels, level - factor.bit_length() + 1)


def _reduced(pixels: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    return pixels if level == 0 else np.asarray(Image.fromarray(pixels).reduce(1 << level))


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _source_bytes(source: Source | None) -> int:
    return source.picture.pixels.nbytes if isinstance(source, Field) else 1000
