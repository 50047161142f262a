"""TIFF in the forms microscopes write, through tifffile and imagecodecs.

Everything that decides how much memory decoding takes (image, tile and embedded sizes, samples,
bits) is checked from headers first, and so is that every strip or tile lies inside the file:
several codecs would otherwise fill what is missing with grey and call it a picture.

Shapes: H image height, W image width, S samples per pixel.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images import pixel_formats, tiff_metadata
from cellcount.images.file_types import check_size

# tifffile logs every oddity of a damaged file; the reason in the image's row is what is wanted.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_PHOTOMETRIC_SAMPLES = {
    _WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3,
}  # fmt: skip
_PREMULTIPLIED, _STRAIGHT = 1, 2  # ExtraSamples that are alpha; 0 means "anything"
_JPEG = frozenset({6, 7, 33007, 34892})
_JPEG2000 = frozenset({33003, 33004, 33005, 34712})
# uncompressed, CCITT, LZW, deflate, PackBits, LZMA, zstd: their output is bounded by the strip
_BOUNDED = frozenset({1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000})
_FREE_SEGMENT_PIXELS = 4096 * 4096
_ORIENTATION = 274
_RANGE = (
    "if it is one, say so with MaxSampleValue {full} (TIFF tag 281) or SignificantBits {bits} (OME)"
)


def tiff_size(file: BinaryIO, index: int, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels of an upright page, from headers only."""
    with opened(file) as tif:
        page = checked_page(tif, index, max_pixels)
        size = page.imagewidth, page.imagelength
        return size[::-1] if pixel_formats.is_turned(orientation_of(page)) else size


def read_page(tif: tifffile.TiffFile, file: BinaryIO, index: int, max_pixels: int) -> Picture:
    """One page as a ``Picture``; ``ImageError`` for forms that are not a colour or grey image."""
    page = checked_page(tif, index, max_pixels)
    _check_segments(page, file)
    samples = page.asarray(squeeze=False, maxworkers=1)  # (S or 1, 1, H, W, S or 1)
    samples = np.moveaxis(samples[:, 0], 0, 2)  # (H, W, S or 1, S or 1)
    samples = samples.reshape(*samples.shape[:2], page.samplesperpixel)  # (H, W, S)
    bits = tiff_metadata.significant_bits(tif, page, index)
    is_void = has_void_alpha(samples, page, bits)
    rgb = to_rgb(samples, page, bits, with_alpha=not is_void)
    if is_void:
        rgb = pixel_formats.under_void_alpha(rgb)
    return Picture(
        pixel_formats.oriented(rgb, orientation_of(page)),
        tiff_metadata.um_per_px(tif, page, index),
        tuple(sample_cautions(samples, page, bits, is_void=is_void)),
    )


def sample_cautions(
    samples: NDArray[Any], page: tifffile.TiffPage, bits: int, *, is_void: bool
) -> Iterator[str]:
    """Cautions of a page's samples ``(H, W, S)``."""
    if is_void:
        yield pixel_formats.VOID_ALPHA_CAUTION
    colours = _PHOTOMETRIC_SAMPLES[page.photometric]
    if bits == page.bitspersample > 8 and page.photometric != _PALETTE:
        highest = int(samples[:, :, :colours].max(initial=0))
        caution = pixel_formats.low_range_caution(highest, bits, _RANGE)
        if caution:
            yield caution


def has_void_alpha(samples: NDArray[Any], page: tifffile.TiffPage, bits: int) -> bool:
    """Return whether the alpha among samples ``(H, W, S)`` shows nothing of the picture."""
    if not _alpha(page):
        return False
    return pixel_formats.is_void(pixel_formats.eight_bits(samples[:, :, -1], bits))


@contextmanager
def opened(file: BinaryIO) -> Iterator[tifffile.TiffFile]:
    """The parsed headers of a TIFF file."""
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        tif.pages.cache = True
        yield tif


def page_of(tif: tifffile.TiffFile, index: int) -> tifffile.TiffPage:
    """A page with a header of its own, else ``ImageError``."""
    page = tif.pages[index]
    if not isinstance(page, tifffile.TiffPage):
        raise ImageError(f"damaged TIFF: page {index + 1} has no header of its own")
    return page


def checked_page(tif: tifffile.TiffFile, index: int, max_pixels: int | None) -> tifffile.TiffPage:
    """A page whose header promises a picture, of bounded size where given, else ``ImageError``."""
    if index >= len(tif.pages):
        raise ImageError(f"truncated TIFF: page {index + 1} is missing")
    page = page_of(tif, index)
    size = page.imagewidth, page.imagelength
    check_size(*size, size[0] * size[1] if max_pixels is None else max_pixels)
    channels = tiff_metadata.separate_channels(tif, page)
    if channels > 1 and len(tif.pages) == 1:
        raise ImageError(
            f"the file states {channels} channels and holds one of them; export the field as RGB"
        )
    if channels > 1:
        raise ImageError(f"{channels} channels in separate pages; export the field as RGB")
    if tif.is_stk and page.imagedepth == 1 and len(page.tags.valueof(33629) or ()) > 1:
        raise ImageError("MetaMorph stack; export its planes as single TIFF files")
    if page.imagedepth != 1:
        raise ImageError(f"{page.imagedepth} planes in one page; export single planes")
    check_form(page)
    return page


def check_form(page: tifffile.TiffPage) -> None:
    """Refuse what has no stated way to RGB: see ``convert`` and ``to_rgb``."""
    bits: Any = page.bitspersample  # a tuple where samples differ
    kind = None if page.dtype is None else page.dtype.kind
    if kind in ("f", "i", "c"):
        name = {"f": "floating point", "i": "signed", "c": "complex"}[kind]
        raise ImageError(f"{bits}-bit {name} samples; save the image with 8 or 16 bit")
    if not isinstance(bits, int) or not 1 <= bits <= 16 or kind not in ("u", "b"):
        raise ImageError(f"{bits}-bit samples; save the image with 8 or 16 bit")
    colour, samples = page.photometric, page.samplesperpixel
    needed = _PHOTOMETRIC_SAMPLES.get(colour)
    if needed is None:
        raise ImageError(f"colour space {_name(colour)}; save the image as RGB")
    extra = samples - needed
    has_place = colour == _RGB or (colour in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and _alpha(page))
    if extra not in ((0, 1) if has_place else (0,)):
        raise ImageError(
            f"{samples} channels as {_name(colour)} are not a colour image; export the field as RGB"
        )
    if page.compression not in _BOUNDED | _JPEG | _JPEG2000:
        raise ImageError(f"TIFF compression {_name(page.compression)} is not read here; use LZW")


def _check_segments(page: tifffile.TiffPage, file: BinaryIO) -> None:
    """Refuse strips or tiles that are missing, cut off, or larger than they may be."""
    limit = max(page.imagewidth * page.imagelength, _FREE_SEGMENT_PIXELS)
    check_listed(page, file, limit)
    if page.compression in _JPEG | _JPEG2000:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            check_embedded(page, file.read(min(count, 65536)), limit)


def check_listed(page: tifffile.TiffPage, file: BinaryIO, limit: int) -> None:
    """Refuse strips or tiles that are missing, cut off, or of more than ``limit`` pixels."""
    if page.is_tiled and not 0 < page.tilewidth * page.tilelength * page.tiledepth <= limit:
        raise ImageError(f"absurd tile size {page.tilewidth} x {page.tilelength}")
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = int(np.prod(page.chunked, dtype=np.int64))
    if not len(offsets) == len(counts) == expected:
        listed = min(len(offsets), len(counts))
        raise ImageError(f"damaged TIFF: {listed} strips or tiles are listed, not {expected}")
    file_bytes = file.seek(0, 2)
    for number, (offset, count) in enumerate(zip(offsets, counts, strict=True), 1):
        # The last uncompressed strip often claims more than it needs: tifffile checks those.
        end = offset + (1 if page.compression == 1 else count)
        if offset < 1 or count < 1 or end > file_bytes:
            raise ImageError(
                f"truncated TIFF: strip or tile {number} of {expected} lies outside the file"
            )


def check_embedded(page: tifffile.TiffPage, code: bytes, limit: int) -> None:
    """Refuse a JPEG or JPEG 2000 strip or tile that announces more than ``limit`` pixels."""
    if page.compression in _JPEG | _JPEG2000:
        width, height = _embedded_size(code)
        if width * height > limit:
            raise ImageError(f"damaged TIFF: embedded image of {width} x {height} pixels")


def _embedded_size(code: bytes) -> tuple[int, int]:
    """Width and height that a JPEG or JPEG 2000 stream announces, 0 x 0 where it does not."""
    start = code.find(b"\xff\x4f\xff\x51")
    if start >= 0 and len(code) >= start + 16:
        width, height = struct.unpack(">II", code[start + 8 : start + 16])
        return width, height
    at = 2
    while at + 9 <= len(code) and code[at] == 0xFF:
        marker, length = code[at + 1], int.from_bytes(code[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", code[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    raise ImageError("damaged TIFF: a JPEG strip or tile without header")


def to_rgb(
    samples: NDArray[Any], page: tifffile.TiffPage, bits: int, *, with_alpha: bool = True
) -> NDArray[np.uint8]:
    """Samples ``(H, W, S)`` of a checked page as RGB ``(H, W, 3)``, alpha laid over white."""
    colour = page.photometric
    if colour == _PALETTE:
        palette = page.colormap
        if palette is None or palette.ndim != 2 or palette.shape[0] != 3 or not palette.size:
            raise ImageError("damaged TIFF: palette image without palette")
        return pixel_formats.palette_to_rgb(samples[:, :, 0], palette)
    values = pixel_formats.eight_bits(samples, bits)
    if colour == _CMYK:
        return pixel_formats.cmyk_to_rgb(values)
    if colour in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        grey = values[:, :, 0]
        rgb = pixel_formats.grey_to_rgb(
            pixel_formats.WHITE_8BIT - grey if colour == _WHITE_IS_ZERO else grey
        )
    elif colour == _YCBCR and page.compression not in _JPEG:
        rgb = pixel_formats.ycbcr_to_rgb(values)
    else:
        rgb = values[:, :, :3]
    alpha = _alpha(page)
    if not alpha or not with_alpha:
        return rgb
    return pixel_formats.over_white(rgb, values[:, :, -1], premultiplied=alpha == _PREMULTIPLIED)


def _alpha(page: tifffile.TiffPage) -> int:
    """The kind of alpha in the last sample, 0 for none; an unspecified extra sample is ignored."""
    extra = tuple(page.extrasamples)
    return int(extra[-1]) if extra and extra[-1] in (_PREMULTIPLIED, _STRAIGHT) else 0


def orientation_of(page: tifffile.TiffPage) -> int:
    """EXIF-like orientation of a page, 1 for upright."""
    value = page.tags.valueof(_ORIENTATION, 1)
    return value if isinstance(value, int) else 1


def _name(code: int) -> str:
    return str(getattr(code, "name", code))
