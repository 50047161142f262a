"""An image of a whole slide, or of a large part of one: read window by window, never whole.

A TIFF above ``WHOLE_PIXELS``, or above the limit of ``--max-pixels``, is a whole slide where its
form allows windows, or OpenSlide knows it; so is a slide in another scanner's form. The limit then
bounds each window instead of the image.

Before it is counted, it is sampled:

1. Up to 16 x 16 *spots* of 128 px, spread evenly over the slide, tell the colours of its glass and
   its red cells, by which its colours are balanced, and where anything is stained.
2. Up to nine *sample fields* of 1024 px lie about stained spots, evenly chosen in the order of
   reading (about any spots where none is stained). Scale and quality are those of the sample
   fields.

All of it depends on the slide alone, not on how it is cut to windows or tiles.

Shapes: windows and fields uint8 (h, w, 3) RGB; boxes (N, 4) xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.core.tiles import split
from cellcount.errors import ImageError
from cellcount.images.colour_balance import ColourBalance, measure_balance
from cellcount.images.file_types import SCANNER_TIFF_SUFFIXES, FileKind
from cellcount.images.quality import STAINED_DENSITY
from cellcount.images.read import readable
from cellcount.images.scale import sample_evenly
from cellcount.images.scanner_slides import (
    can_open,
    read_slide_level,
    read_slide_windows,
    slide_header,
    slide_level_factors,
)
from cellcount.images.tiff_levels import level_factors, read_level
from cellcount.images.tiff_windows import (
    WHOLE_PIXELS,
    Header,
    Rect,
    read_windows,
    window_header,
)
from cellcount.images.white_balance import GLASS_WHITE, apply_gains, white_balance_gains
from cellcount.images.windows import Part

#: Pixels of a window that is read at a time, as far as ``max_pixels`` allows them.
WINDOW_PIXELS = 8_000_000
_PART_PX = 4096  # side of a part, as far as ``max_pixels`` allows it
_SPOTS, _SPOT_PX, _SPOT_STEP = 16, 128, 8
_FIELDS, _FIELD_PX = 9, 1024
#: Less of a spot stained is noise.
_STAINED_SHARE = 0.01


class _Sample(NamedTuple):
    """Thinned spots of a slide side by side, (n, N, 3), and its sample fields."""

    spots: NDArray[np.uint8]
    fields: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True)
class WholeSlide:
    """A large image on disk: a source that holds no open file, and no pixels but its sample.

    Attributes:
        path, page: where it lies.
        width_px, height_px: its size.
        um_per_px: scale found in the file's own metadata, or None.
        max_pixels: largest window that is read, in pixels.
        cautions: sentences about the file that a person should read before believing the counts.
        by_openslide: its windows are read by OpenSlide.
    """

    path: Path
    page: int
    width_px: int
    height_px: int
    um_per_px: float | None
    max_pixels: int
    cautions: tuple[str, ...] = ()
    by_openslide: bool = False

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px

    @property
    def picture(self) -> None:
        """None: it is too large to be held whole."""
        return

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
            windows = list(
                read_slide_windows(self.path, rects)
                if self.by_openslide
                else read_windows(file, self.page, rects)
            )
        yield from windows

    @cached_property
    def level_factors(self) -> tuple[int, ...]:
        """Factors of the reduced copies in the file, which serve display and never counts."""
        try:
            if self.by_openslide:
                return slide_level_factors(self.path)
            with readable(self.path) as (file, _):
                return level_factors(file, self.page, self.max_pixels)
        except ImageError:
            return ()

    def read_level(self, factor: int, rect: Rect) -> NDArray[np.uint8]:
        """A window of a reduced copy.

        Args:
            factor: one of `level_factors`.
            rect: in pixels of the copy, within it.

        Raises:
            ImageError: it cannot be read.
        """
        if self.by_openslide:
            return read_slide_level(self.path, factor, rect)
        with readable(self.path) as (file, _):
            return read_level(file, self.page, factor, rect, self.max_pixels)

    def around(self, boxes_xyxy: NDArray[np.floating[Any]], reach_px: int) -> Iterator[Part]:
        """Parts that show each box once, with so many pixels around its centre.

        Raises:
            ImageError: a part cannot be read.
            UsageError: the reach is too large for a part.
        """
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        side = min(_PART_PX, isqrt(self.window_px))
        for tile in split(*self.size_px, tile_px=side, margin_px=reach_px):
            which = np.flatnonzero(tile.owns(centres))
            if len(which):
                pixels = self.read(Rect(tile.x, tile.y, tile.width, tile.height))
                # In float64, so that the place of a tile never moves a box.
                moved = boxes_xyxy[which] - np.array([tile.x, tile.y] * 2, np.float64)
                yield Part(which, pixels, moved)

    def sample_fields(self) -> tuple[NDArray[np.uint8], ...]:
        """Up to nine fields (h, w, 3) where the slide is stained.

        Raises:
            ImageError: they cannot be read.
        """
        return self._sample.fields

    def balance(self, *, red_cell_hue: bool) -> ColourBalance:
        """Balance of the colours of the whole slide, measured on spots all over it.

        Raises:
            ImageError: it cannot be read.
        """
        return measure_balance(self._sample.spots, red_cell_hue=red_cell_hue)

    @cached_property
    def _sample(self) -> _Sample:
        """Read spots all over the slide, then its sample fields."""
        side = min(_SPOT_PX, isqrt(self.max_pixels), *self.size_px)
        places = [
            Rect(x, y, side, side)
            for y in _spread(self.height_px, side)
            for x in _spread(self.width_px, side)
        ]
        step = max(1, side // (_SPOT_PX // _SPOT_STEP))
        thinned = [np.ascontiguousarray(s[::step, ::step]) for s in self.read_all(places)]
        samples = np.stack([spot.reshape(-1, 3) for spot in thinned], axis=1)  # (side², N, 3)
        gains = white_balance_gains(samples)
        stained = [at for at, spot in enumerate(thinned) if _is_stained(spot, gains)]
        chosen = stained or list(range(len(places)))
        rects = [self._about(places[chosen[i]]) for i in sample_evenly(len(chosen), _FIELDS)]
        return _Sample(samples, tuple(self.read_all(rects)))

    def _about(self, spot: Rect) -> Rect:
        """Cut the sample field around a spot, shifted so that it lies in the slide."""
        side = min(_FIELD_PX, isqrt(self.max_pixels))
        width, height = min(side, self.width_px), min(side, self.height_px)
        x = spot.x + spot.width // 2 - width // 2
        y = spot.y + spot.height // 2 - height // 2
        return Rect(
            min(max(x, 0), self.width_px - width),
            min(max(y, 0), self.height_px - height),
            width,
            height,
        )


def _spread(length: int, side: int) -> list[int]:
    """Starts of spots: in the middle of each of equal parts of the length."""
    count = min(_SPOTS, max(1, length // side))
    middles = (np.arange(count) + 0.5) * length / count
    starts: list[int] = np.floor(middles - side / 2).astype(int).tolist()
    return starts


def _is_stained(spot: NDArray[np.uint8], gains: NDArray[np.float32]) -> bool:
    """Return whether more than noise of it is clearly darker than the slide's glass."""
    balanced = apply_gains(spot, gains).astype(np.float32)
    density = np.log10((GLASS_WHITE + 1) / (balanced + 1)).mean(axis=2)
    return bool((density > STAINED_DENSITY).mean() >= _STAINED_SHARE)


def open_whole_slide(ref: ImageRef, *, max_pixels: int) -> WholeSlide | None:
    """Open an image by its header; None where it is decoded whole, or cannot be.

    Raises:
        ImageError: it is a whole slide, but damaged or of a form that is not read.
    """
    with readable(ref.path) as (file, kind):
        header, by_openslide = _header(file, kind, ref, max_pixels)
    if header is None:
        return None
    width, height, um_per_px, cautions = header
    return WholeSlide(
        ref.path, ref.page, width, height, um_per_px, max_pixels, cautions, by_openslide
    )


def _header(
    file: BinaryIO, kind: FileKind, ref: ImageRef, max_pixels: int
) -> tuple[Header | None, bool]:
    """Header of a whole slide, and whether OpenSlide reads it; None for any other image."""
    refusal: ImageError | None = None
    if kind == "TIFF":
        try:
            header = window_header(file, ref.page, max_pixels)
        except ImageError as error:
            header, refusal = None, error
        asked = refusal is not None or ref.path.suffix.lower() in SCANNER_TIFF_SUFFIXES
        if header is not None or not asked or not can_open(ref.path):
            if refusal is not None:
                raise refusal
            return header, False
    elif kind != "slide":
        return None, False
    header = slide_header(ref.path)
    if header.width_px * header.height_px <= min(WHOLE_PIXELS, max_pixels):
        return None, False
    return header, True
