"""JPEG, PNG, BMP, WebP and GIF through Pillow: first frame only, upright, RGB.

Shapes: H image height, W image width.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images import pixel_formats
from cellcount.images.file_types import HEAD_BYTES, FileKind, check_size

# Pillow's fixed limit gives way to --max-pixels, which is checked from the header in its stead.
Image.MAX_IMAGE_PIXELS = None

_EXIF_ORIENTATION = 0x0112
#: Reads that Pillow may need for a header; it looks for the end of junk byte by byte.
_MOST_HEADER_READS = 100_000
_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB"})
_16_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})  # "I" before Pillow 11


def raster_size(file: BinaryIO, kind: FileKind, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from its header only."""
    with _opened(file, kind, max_pixels) as image:
        return image.size[::-1] if pixel_formats.is_turned(_orientation(image)) else image.size


def read_raster(file: BinaryIO, kind: FileKind, max_pixels: int) -> Picture:
    """The first frame as a ``Picture``; a truncated file is an error, never a grey rest."""
    with _opened(file, kind, max_pixels) as image:
        orientation = _orientation(image)
        image.load()
        return Picture(pixel_formats.oriented(_to_rgb(image), orientation))


def _opened(file: BinaryIO, kind: FileKind, max_pixels: int) -> ImageFile.ImageFile:
    file.seek(0)
    if kind == "WebP":
        _check_webp(file, max_pixels)
    counted = _Counted(file)
    try:
        image = Image.open(cast(BinaryIO, counted), formats=[kind])
    except UnidentifiedImageError as error:  # its text is the file object and the whole path
        raise ImageError(f"damaged {kind}: its header cannot be read") from error
    except _EndlessError:
        raise ImageError(f"damaged {kind}: its header has no end") from None
    counted.is_header = False
    check_size(*image.size, max_pixels)
    return image


class _EndlessError(Exception):
    """A header that would be read for hours."""


class _Counted:
    """A file that ends the reading of an endless header.

    Attributes:
        is_header: whether reads are counted still.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MOST_HEADER_READS
        self.is_header = True
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of the file."""
        if self.is_header:
            self._left -= 1
            if self._left < 0:
                raise _EndlessError
        return self._file.read(size)


def _check_webp(file: BinaryIO, max_pixels: int) -> None:
    """What must be known first: Pillow reads all of it and sets up the canvas on opening."""
    head = file.read(HEAD_BYTES)
    check_size(*_webp_size(head), max_pixels)
    promised, there = 8 + int.from_bytes(head[4:8], "little"), file.seek(0, 2)
    if promised > there:
        raise ImageError(f"truncated WebP: {there} of {promised} bytes are there")
    file.seek(0)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Canvas width and height in a WebP header (RFC 9649, sections 2.5-2.7)."""
    chunk = head[12:16]
    if len(head) < 30:
        raise ImageError("truncated WebP: it ends within its header")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError(f"damaged WebP: unknown first chunk {chunk!r}")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (broken EXIF fails in many ways and hides no pixel)
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded image of any mode that Pillow gives for these formats as ``(H, W, 3)``."""
    if image.mode in _16_BIT_MODES:  # PNG demands that samples span the full 16 bits
        return pixel_formats.grey_to_rgb(
            pixel_formats.eight_bits(np.asarray(image).astype(np.uint16), 16)
        )
    if image.mode == "CMYK":  # Pillow has already undone Adobe's inversion
        return pixel_formats.cmyk_to_rgb(np.asarray(image))
    if image.mode in _OPAQUE_MODES and "transparency" not in image.info:
        return np.array(image.convert("RGB"))  # np.asarray would be read-only
    if image.mode not in _OPAQUE_MODES | {"LA", "PA", "RGBA", "La", "RGBa"}:
        raise ImageError(f"{image.mode} pixels; save the image as RGB")
    rgba = np.asarray(image.convert("RGBA"))  # (H, W, 4)
    return pixel_formats.over_white(rgba[:, :, :3], rgba[:, :, 3])
