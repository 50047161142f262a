"""Reduced copies of a large TIFF page that lie beside it in the file: the levels of a pyramid.

They are for the eye alone: counts come from the page itself. A level has the size of the page over
a power of two. It is a SubIFD of the page, another page of a scanner's file, or a page that is
marked as reduced and follows the page before any other field.

Shapes: windows uint8 (h, w, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellcount.errors import ImageError
from cellcount.images import tiff_metadata
from cellcount.images.tiff import check_form, checked_page, opened, orientation_of
from cellcount.images.tiff_pages import REDUCED, is_scanner_file
from cellcount.images.tiff_windows import (
    SEGMENT_PIXELS,
    Rect,
    check_windows,
    page_windows,
    segment_pixels,
)

_MOST_PAGES, _LARGEST_FACTOR = 64, 1 << 12


def level_factors(file: BinaryIO, index: int, max_pixels: int) -> tuple[int, ...]:
    """Factors by which the levels of a page are reduced, ascending; none without a pyramid.

    Args:
        file: the TIFF file.
        index: of the page.
        max_pixels: most pixels that are decoded at a time.

    Raises:
        ImageError: the file is damaged.
    """
    with opened(file) as tif:
        return tuple(sorted(_levels(tif, index, file, max_pixels)))


def read_level(
    file: BinaryIO, index: int, factor: int, rect: Rect, max_pixels: int
) -> NDArray[np.uint8]:
    """A window of a level.

    Args:
        file: the TIFF file.
        index: of the page.
        factor: one of `level_factors`.
        rect: in pixels of the level; what reaches beyond it is cut off.
        max_pixels: as for `level_factors`.

    Raises:
        ImageError: it cannot be read.
    """
    with opened(file) as tif:
        level = _levels(tif, index, file, max_pixels).get(factor)
        if level is None:
            raise ImageError("the file changed while it was read")
        width = min(rect.width, level.imagewidth - rect.x)
        height = min(rect.height, level.imagelength - rect.y)
        if min(width, height) < 1:
            raise ImageError("the window lies outside the level")
        bits = tiff_metadata.significant_bits(tif, level, index)
        return next(page_windows(level, file, [Rect(rect.x, rect.y, width, height)], bits))


def factor_of(size: tuple[int, int], reduced: tuple[int, int]) -> int:
    """The power of two by which a size was reduced, rounded in any way; 0 for no such."""
    exponent = round(log2(max(size) / max(reduced))) if min(reduced) > 0 else 0
    if exponent < 1:
        return 0
    factor = 1 << exponent
    fits = all(n // factor <= m <= ceil(n / factor) for n, m in zip(size, reduced, strict=True))
    return factor if fits and factor <= _LARGEST_FACTOR else 0


def _levels(
    tif: tifffile.TiffFile, index: int, file: BinaryIO, max_pixels: int
) -> dict[int, tifffile.TiffPage]:
    """Factor → level, of those that can be read by windows."""
    page = checked_page(tif, index, max_pixels=None)
    found: dict[int, tifffile.TiffPage] = {}
    for other in _candidates(tif, page, index):
        size, reduced = (
            (page.imagewidth, page.imagelength),
            (other.imagewidth, other.imagelength),
        )
        factor = factor_of(size, reduced)
        if factor and factor not in found and _is_readable(other, file, max_pixels):
            found[factor] = other
    return found


def _candidates(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int
) -> Iterator[tifffile.TiffPage]:
    """Pages that may be levels of a page, the SubIFDs of it first."""
    below = page.pages if page.subifds else None
    for place in range(min(_MOST_PAGES, len(below) if below else 0)):
        other = below[place] if below else None
        if isinstance(other, tifffile.TiffPage):
            yield other
    scanner = is_scanner_file(tif)
    first = 0 if scanner else index + 1
    for place in range(first, min(first + _MOST_PAGES, len(tif.pages))):
        other = tif.pages[place]
        if place == index or not isinstance(other, tifffile.TiffPage):
            continue
        if scanner or other.subfiletype & REDUCED:
            yield other
        elif not other.subfiletype and _pixels(other) >= _pixels(page) / 2:
            return  # another field, followed by levels of its own


def _pixels(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth * page.imagelength)


def _is_readable(page: tifffile.TiffPage, file: BinaryIO, max_pixels: int) -> bool:
    """Return whether a level has a form that is read by windows, and is whole."""
    limit = min(SEGMENT_PIXELS, max_pixels)
    try:
        check_form(page)
        if page.imagedepth != 1 or orientation_of(page) != 1:
            return False
        if not page.is_final and segment_pixels(page) > limit:
            return False
        check_windows(page, file, limit)
    except ImageError:
        return False
    return True
