"""Windows of a TIFF page that is too large to be decoded whole, from the strips or tiles under it.

Only what a window touches is read and decoded. Every form that ``cellcount.images.tiff`` reads
whole is read by windows, too, to the same pixels, as long as no strip or tile of it is itself too
large; of uncompressed rows any number can be read, however they are cut to strips.

Shapes: H page height, W page width, S samples per pixel; h, w size of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellcount.errors import ImageError
from cellcount.images import tiff_metadata
from cellcount.images.tiff import (
    check_embedded,
    check_listed,
    checked_page,
    has_void_alpha,
    opened,
    orientation_of,
    page_of,
    sample_cautions,
    to_rgb,
)

#: Images of more pixels are read window by window where their form allows it.
WHOLE_PIXELS = 1 << 26
_MEMO_BYTES = 1 << 26
#: Most pixels of a strip or tile.
SEGMENT_PIXELS = 1 << 24
#: Windows along each side that tell whether alpha and upper bits are used, and their size.
_SPOTS, _SPOT_PX = 3, 64
#: Bytes of pixels per stored byte. JPEG cannot pack more than 192, nor empty glass of a camera
#: without loss more than a few; a whole slide of nothing at all would.
_MOST_PACKED = 500


class Rect(NamedTuple):
    """A rectangle of whole pixels: upper left corner and size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Area in pixels."""
        return self.width * self.height


class Header(NamedTuple):
    """Size in pixels of a page, its scale where the file states it, and its cautions."""

    width_px: int
    height_px: int
    um_per_px: float | None
    cautions: tuple[str, ...] = ()


def window_header(file: BinaryIO, index: int, max_pixels: int) -> Header | None:
    """Header of a page that is to be read by windows; None for any other, good or bad.

    Args:
        file: the TIFF file.
        index: of the page.
        max_pixels: most pixels that are decoded at a time.

    Raises:
        ImageError: it is such a page, but damaged or of a form that is not read.
    """
    with opened(file) as tif:
        if index >= len(tif.pages):
            return None
        page = page_of(tif, index)
        width, height = page.imagewidth, page.imagelength
        if width * height <= min(WHOLE_PIXELS, max_pixels) or orientation_of(page) != 1:
            return None
        limit = min(SEGMENT_PIXELS, max_pixels)
        if not page.is_final and segment_pixels(page) > limit:
            return None
        checked_page(tif, index, max_pixels=None)
        check_windows(page, file, limit)
        cautions = _cautions(tif, page, file, index)
        return Header(width, height, tiff_metadata.um_per_px(tif, page, index), cautions)


def check_windows(page: tifffile.TiffPage, file: BinaryIO, limit: int) -> None:
    """Refuse a page whose strips or tiles are missing, or would be work without end.

    Args:
        page: of a form that is read.
        file: it lies in.
        limit: most pixels of a strip or tile; rows that lie as they are have none.

    Raises:
        ImageError: they are.
    """
    check_listed(page, file, max(limit, segment_pixels(page)))
    if sum(page.databytecounts) > file.seek(0, 2):
        # A small file whose tiles are all the same bytes would be work for days.
        raise ImageError("damaged TIFF: its strips or tiles overlap in the file")
    _check_packing(page)


def read_windows(file: BinaryIO, index: int, rects: Iterable[Rect]) -> Iterator[NDArray[np.uint8]]:
    """The windows of a page in their order, RGB uint8 ``(h, w, 3)``.

    Args:
        file: the TIFF file.
        index: of a page for which ``window_header`` is not None.
        rects: parts of the page.
    """
    with opened(file) as tif:
        page = checked_page(tif, index, max_pixels=None)
        bits = tiff_metadata.significant_bits(tif, page, index)
        yield from page_windows(page, file, rects, bits)


def page_windows(
    page: tifffile.TiffPage, file: BinaryIO, rects: Iterable[Rect], bits: int
) -> Iterator[NDArray[np.uint8]]:
    """The windows of a page that was checked.

    Args:
        page: the page.
        file: it lies in.
        rects: parts of the page.
        bits: of a sample that are used.
    """
    segments = None if page.is_final else _Segments(page, file)
    with_alpha = not (page.extrasamples and has_void_alpha(_spots(page, file), page, bits))
    for rect in rects:
        if rect.x + rect.width > page.imagewidth or rect.y + rect.height > page.imagelength:
            raise ImageError("the file changed while it was read")
        samples = _rows(page, file, rect) if segments is None else segments.window(rect)
        yield to_rgb(samples, page, bits, with_alpha=with_alpha)


def _cautions(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, file: BinaryIO, index: int
) -> tuple[str, ...]:
    """Cautions of a page, from its header and some of its samples."""
    planes = tiff_metadata.stated_planes(tif, index)
    said = (f"{planes.stated} planes (z-stack or time series), of which this one is counted",)
    bits = tiff_metadata.significant_bits(tif, page, index)
    try:
        spots = _spots(page, file)
    except Exception:  # noqa: BLE001 (reading the page will say what is wrong with it)
        spots = np.zeros((0, 1, page.samplesperpixel), page.dtype)
    is_void = bool(len(spots)) and has_void_alpha(spots, page, bits)
    own = tuple(sample_cautions(spots, page, bits, is_void=is_void))
    return (*said, *own) if planes.stated > 1 else own


def _spots(page: tifffile.TiffPage, file: BinaryIO) -> NDArray[Any]:
    """Samples ``(N, 1, S)`` of small windows spread over a page."""
    segments = None if page.is_final else _Segments(page, file)
    side = min(_SPOT_PX, page.imagewidth, page.imagelength)
    spots = []
    for row in range(_SPOTS):
        for column in range(_SPOTS):
            x = (2 * column + 1) * (page.imagewidth - side) // (2 * _SPOTS)
            y = (2 * row + 1) * (page.imagelength - side) // (2 * _SPOTS)
            rect = Rect(x, y, side, side)
            samples = _rows(page, file, rect) if segments is None else segments.window(rect)
            spots.append(samples.reshape(-1, 1, page.samplesperpixel))
    return np.concatenate(spots)


def segment_pixels(page: tifffile.TiffPage) -> int:
    """Pixels of a strip or tile."""
    if page.is_tiled:
        return int(page.tilewidth * page.tilelength * page.tiledepth)
    return int(page.imagewidth * min(page.rowsperstrip, page.imagelength))


def _check_packing(page: tifffile.TiffPage) -> None:
    """Refuses small files that would be work for hours: a bomb of tiles, each small by itself."""
    stored = sum(page.databytecounts)
    held = page.imagewidth * page.imagelength * page.samplesperpixel * np.dtype(page.dtype).itemsize
    if held > _MOST_PACKED * stored:
        raise ImageError(
            f"its {stored / 1e6:.3g} MB would be {held / 1e9:.3g} GB of pixels, more than "
            f"{_MOST_PACKED} times as many, which no picture of cells is"
        )


def _rows(page: tifffile.TiffPage, file: BinaryIO, rect: Rect) -> NDArray[Any]:
    """Samples ``(h, w, S)`` of a page whose rows lie in the file as they are."""
    planes, _, height, width, contiguous = page.shaped  # planes * contiguous = S
    own: np.dtype[Any] = np.dtype(page.dtype)
    dtype = own.newbyteorder(page.parent.byteorder)
    pixel_bytes = contiguous * dtype.itemsize
    samples = np.empty((rect.height, rect.width, planes * contiguous), dtype)
    for plane in range(planes):
        own_samples = slice(plane * contiguous, (plane + 1) * contiguous)
        # Not the rows as a whole: a page may be wider than memory.
        for row in range(rect.height):
            before = (plane * height + rect.y + row) * width + rect.x
            file.seek(page.dataoffsets[0] + before * pixel_bytes)
            data = file.read(rect.width * pixel_bytes)
            if len(data) < rect.width * pixel_bytes:
                raise ImageError(f"truncated TIFF: row {rect.y + row + 1} lies outside the file")
            samples[row, :, own_samples] = np.frombuffer(data, dtype).reshape(-1, contiguous)
    return samples.astype(own, copy=False)


class _Segments:
    """The strips or tiles of a page; a few are remembered, since windows touch or overlap.

    Args:
        page: checked.
        file: it lies in.
    """

    def __init__(self, page: tifffile.TiffPage, file: BinaryIO) -> None:
        self._page, self._file = page, file
        self._known: dict[int, NDArray[Any]] = {}
        self._bytes = 0

    def window(self, rect: Rect) -> NDArray[Any]:
        """Samples ``(h, w, S)``."""
        page = self._page
        separate = page.planarconfig == 2 and page.samplesperpixel > 1
        samples = np.zeros((rect.height, rect.width, page.samplesperpixel), page.dtype)
        for index, plane, y, x in self._under(rect):
            segment = self._segment(index)  # (length, width, S or 1)
            top, left = max(y, rect.y), max(x, rect.x)
            bottom = min(y + segment.shape[0], rect.y + rect.height)
            right = min(x + segment.shape[1], rect.x + rect.width)
            part = segment[top - y : bottom - y, left - x : right - x]
            place = samples[top - rect.y : bottom - rect.y, left - rect.x : right - rect.x]
            place[:, :, plane : plane + 1 if separate else None] = part
        return samples

    def _under(self, rect: Rect) -> Iterator[tuple[int, int, int, int]]:
        """Index, plane, y and x of every strip or tile that a window touches."""
        page = self._page
        down = page.tilelength if page.is_tiled else page.rowsperstrip
        across = page.tilewidth if page.is_tiled else page.imagewidth
        rows, columns = -(-page.imagelength // down), -(-page.imagewidth // across)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        for plane in range(planes):
            for row in range(rect.y // down, (rect.y + rect.height - 1) // down + 1):
                for column in range(rect.x // across, (rect.x + rect.width - 1) // across + 1):
                    index = (plane * rows + row) * columns + column
                    yield index, plane, row * down, column * across

    def _segment(self, index: int) -> NDArray[Any]:
        """One decoded strip or tile ``(length, width, S or 1)``."""
        if index in self._known:
            return self._known[index]
        page, file = self._page, self._file
        count = page.databytecounts[index]
        file.seek(page.dataoffsets[index])
        code = file.read(count)
        if len(code) < count:
            raise ImageError(f"truncated TIFF: strip or tile {index + 1} lies outside the file")
        check_embedded(page, code, SEGMENT_PIXELS)
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        data, _, _ = page.decode(code, index, **tables)
        if data is None:
            raise ImageError(f"damaged TIFF: strip or tile {index + 1} is empty")
        segment: NDArray[Any] = data[0]
        if self._bytes + segment.nbytes > _MEMO_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[index] = segment
        self._bytes += segment.nbytes
        return segment
