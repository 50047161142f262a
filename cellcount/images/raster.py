"""JPEG, PNG, BMP, WebP and GIF through Pillow: first frame only, which is said, upright, RGB.

Shapes: H image height, W image width.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images import pixel_formats
from cellcount.images.animations import FRAMES_CAUTION, count_frames, frames_text, gif_frames
from cellcount.images.file_types import HEAD_BYTES, FileKind, check_size
from cellcount.images.unfinished import UNFINISHED_CAUTION, completed, png_lacks_end, whole_webp

# Pillow's fixed limit gives way to --max-pixels, which is checked from the header in its stead.
Image.MAX_IMAGE_PIXELS = None

_EXIF_ORIENTATION = 0x0112
#: Reads that Pillow may need for a header; it looks for the end of junk byte by byte.
_MOST_HEADER_READS = 100_000
_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB"})
_PNG_DEPTH = 24  # where the header states the bits of a sample
_PNG_RANGE = "if it is one, export it with samples from 0 to 65535, or as TIFF that states its bits"
_16_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})  # "I" before Pillow 11


def raster_size(file: BinaryIO, kind: FileKind, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from its header only."""
    with _opened(file, kind, max_pixels) as image:
        return image.size[::-1] if pixel_formats.is_turned(_orientation(image)) else image.size


def read_raster(file: BinaryIO, kind: FileKind, max_pixels: int) -> Picture:
    """Read the first frame as a ``Picture``; a truncated file is an error."""
    with _opened(file, kind, max_pixels) as image:
        orientation = _orientation(image)
        loaded, is_whole = _loaded(image, file, kind, max_pixels)
        rgb, cautions = _to_rgb(loaded, file)
        frames = count_frames(image, file, kind)
        if frames > 1:
            cautions.append(FRAMES_CAUTION.format(frames_text(frames)))
        if not is_whole:
            cautions.append(UNFINISHED_CAUTION)
        return Picture(pixel_formats.oriented(rgb, orientation), cautions=tuple(cautions))


def _loaded(
    image: ImageFile.ImageFile, file: BinaryIO, kind: FileKind, max_pixels: int
) -> tuple[Image.Image, bool]:
    """The decoded image, and whether its file ends as it should."""
    try:
        image.load()
    except OSError:
        whole = completed(file, kind, lambda mended: _opened(mended, kind, max_pixels))
        if whole is None:
            raise
        return whole, False
    if kind == "WebP":
        return image, _missing_webp_bytes(file) <= 0
    if kind == "GIF":
        return image, gif_frames(file)[1]
    return image, not (kind == "PNG" and png_lacks_end(file))


def _opened(file: BinaryIO, kind: FileKind, max_pixels: int) -> ImageFile.ImageFile:
    file.seek(0)
    if kind == "WebP":
        file = _checked_webp(file, max_pixels)
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
        """Read from the file, but only so often while its header is read."""
        if self.is_header:
            self._left -= 1
            if self._left < 0:
                raise _EndlessError
        return self._file.read(size)


def _checked_webp(file: BinaryIO, max_pixels: int) -> BinaryIO:
    """The file, or its whole part where it was cut off after its picture.

    Pillow reads all of it and sets up the canvas on opening, so its size is checked first.
    """
    head = file.read(HEAD_BYTES)
    check_size(*_webp_size(head), max_pixels)
    missing = _missing_webp_bytes(file)
    file.seek(0)
    if missing <= 0:
        return file
    data = file.read()
    mended = whole_webp(data)
    if mended is None:
        raise ImageError(f"truncated WebP: {len(data)} of {len(data) + missing} bytes are there")
    return io.BytesIO(mended)


def _missing_webp_bytes(file: BinaryIO) -> int:
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), "little") - file.seek(0, 2)


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


def _to_rgb(image: Image.Image, file: BinaryIO) -> tuple[NDArray[np.uint8], list[str]]:
    """A loaded image of any mode that Pillow gives for these formats as ``(H, W, 3)``.

    With it come the cautions that its samples and its alpha call for.
    """
    if image.mode in _16_BIT_MODES:  # PNG demands that samples span the full 16 bits
        samples = np.asarray(image).astype(np.uint16)
        caution = pixel_formats.low_range_caution(int(samples.max(initial=0)), 16, _PNG_RANGE)
        rgb = pixel_formats.grey_to_rgb(pixel_formats.eight_bits(samples, 16))
        return rgb, [caution] if caution else []
    if image.mode == "CMYK":  # Pillow has already undone Adobe's inversion
        return pixel_formats.cmyk_to_rgb(np.asarray(image)), []
    if image.mode in _OPAQUE_MODES and "transparency" not in image.info:
        image = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
        rgb = np.array(image)  # np.asarray would be read-only
        return rgb, _high_byte_cautions(rgb, file)
    if image.mode not in _OPAQUE_MODES | {"LA", "PA", "RGBA", "La", "RGBa"}:
        raise ImageError(f"{image.mode} pixels; save the image as RGB")
    rgba = np.asarray(image.convert("RGBA"))  # (H, W, 4)
    rgb, alpha = rgba[:, :, :3], rgba[:, :, 3]
    if pixel_formats.is_void(alpha):
        return np.ascontiguousarray(pixel_formats.under_void_alpha(rgb)), [
            pixel_formats.VOID_ALPHA_CAUTION,
            *_high_byte_cautions(rgb, file),
        ]
    return pixel_formats.over_white(rgb, alpha), _high_byte_cautions(rgb, file)


def _high_byte_cautions(rgb: NDArray[np.uint8], file: BinaryIO) -> list[str]:
    """Return the cautions of a 16-bit PNG, of which Pillow gives the upper byte alone."""
    file.seek(0)
    head = file.read(_PNG_DEPTH + 1)
    if not head.startswith(b"\x89PNG") or head[_PNG_DEPTH:] != b"\x10":
        return []
    highest = (int(rgb.max(initial=0)) << 8) | 0xFF
    caution = pixel_formats.low_range_caution(highest, 16, _PNG_RANGE)
    return [caution] if caution else []
