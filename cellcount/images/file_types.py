"""Image files as files: names that look like images, signatures of first bytes, opening one.

Only regular files are ever opened (opening a pipe may block for ever, opening a device may do
anything), and the kind of an image is told by its first bytes, never by its name.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from cellcount.errors import ImageError

FileKind = Literal["TIFF", "JPEG", "PNG", "BMP", "WebP", "GIF", "slide", "LIF"]

#: Slides of scanners that are a kind of TIFF.
SCANNER_TIFF_SUFFIXES = frozenset({".svs", ".ndpi", ".scn", ".bif"})
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif"}
    | {".tif", ".tiff", ".btf", ".tf8", ".tf2"}
    | SCANNER_TIFF_SUFFIXES
)
#: Slides of scanners that are no TIFF.
SLIDE_SUFFIXES = frozenset({".mrxs", ".czi", ".dcm", ".vms", ".vmu", ".svslide"})
#: Leica's files of camera pictures.
CAMERA_SUFFIXES = frozenset({".lif", ".lof"})
#: Bytes at which a DICOM file carries its mark.
DICOM_MARK = range(128, 132)
HEAD_BYTES = 132
#: Lies in every folder of annotated pictures, so that no later run takes these for images.
DRAWN_MARK = ".cellcount-annotated"
#: Lies in every folder of copied pictures or of labels, which are passed over below a data set.
EXPORT_MARK = ".cellcount-export"

_SIGNATURES: tuple[tuple[bytes, FileKind], ...] = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
_LIF_MARKS = (b"\x70\x00\x00\x00", b"\x2a")  # at byte 0 and at byte 8
_STRANGERS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a rar archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"%PDF", "a PDF"),
    (
        b"\xda\xce\xbe\x0a",
        "a Nikon ND2 file; save it in NIS-Elements as TIFF (RGB, 8 bit, with its calibration)",
    ),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 file; save it as TIFF or PNG"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "a text or XML file"),
    (b"{", "a text file"),
)
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def has_image_name(path: Path) -> bool:
    """Return whether the name ends like an image's, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def special_file(mode: int) -> str:
    """Name the kind of a special path ("a pipe"), "" for files and folders."""
    return next((name for is_kind, name in _SPECIAL if is_kind(mode)), "")


def file_kind(head: bytes) -> FileKind | None:
    """The image format that the first ``HEAD_BYTES`` bytes announce, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if (head[:4], head[8:9]) == _LIF_MARKS:
        return "LIF"
    return next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)


def stranger(head: bytes) -> str:
    """Describe the likely kind of a file that is no image, for the reason given to the user."""
    if not head:
        return "empty file"
    if head[4:8] == b"ftyp":
        return "not an image that is read here: HEIC, AVIF or video; save it as JPEG, PNG or TIFF"
    for magic, name in _STRANGERS:
        if head.startswith(magic):
            return f"not an image: {name}"
    return f"not an image: starts with {head[:8]!r}"


def open_regular(path: Path) -> BinaryIO:
    """Open an existing regular file for reading; anything else is an ``ImageError``, unopened."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError("a folder, not an image file")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{special_file(mode) or 'a special file'}, not an image file")
        return open(path, "rb")
    except OSError as error:
        raise ImageError(why(error)) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError("the file name cannot be used on this system") from error


def why(error: OSError) -> str:
    """Put an operating system's error into a few words."""
    if isinstance(error, FileNotFoundError):
        return "file is gone"
    if isinstance(error, PermissionError):
        return "permission denied"
    if error.errno == errno.ELOOP:
        return "a link that leads nowhere"
    return error.strerror or str(error) or type(error).__name__


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Refuse an empty image and one above the limit, from its header, before it is decoded."""
    if width_px < 1 or height_px < 1:
        raise ImageError(f"image is empty: {width_px} x {height_px} pixels")
    if width_px * height_px > max_pixels:
        raise ImageError(
            f"image has {width_px * height_px} pixels ({width_px} x {height_px}), "
            f"the limit is {max_pixels}; raise --max-pixels if it is genuine"
        )
