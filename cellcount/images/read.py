"""One file to one RGB picture, within stated bounds, or one ``ImageError`` that says why not.

JPEG, PNG, BMP, WebP and GIF are decoded by Pillow, TIFF by tifffile and imagecodecs, slides in the
forms of scanners by OpenSlide, LIF by liffile; the first bytes decide which, so a wrong extension
does no harm. The rule by which samples become RGB uint8 stands in
``cellcount.images.pixel_formats``. Whatever a decoder raises on a hostile file is turned into an
``ImageError`` here and nowhere else.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from cellcount.core.records import ImageRef, Picture
from cellcount.errors import ImageError
from cellcount.images.file_types import (
    HEAD_BYTES,
    SCANNER_TIFF_SUFFIXES,
    SLIDE_SUFFIXES,
    FileKind,
    check_size,
    file_kind,
    open_regular,
    stranger,
    why,
)
from cellcount.images.marks import MARKED_BYTES, drawn_by

_REASON_CHARS = 160
_CUT_OFF_WORDS = (
    "truncat",
    "broken data stream",
    "premature",
    "unexpected end",
    "not enough data",
    "failed to read",
)

# Errors of decoders on a header of nonsense; their texts speak of Python, not of the file.
_SENSELESS = (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError)


def read_image(ref: ImageRef, *, max_pixels: int) -> Picture:
    """Decode one field: RGB uint8 ``(H, W, 3)``, upright, with the scale its metadata gives.

    Raises ``ImageError`` with a one-line reason for anything that cannot be used.
    """
    with readable(ref.path) as (file, kind):
        if kind == "TIFF":
            from cellcount.images.tiff_pages import read_tiff

            picture = read_tiff(file, ref.page, max_pixels)
        elif kind == "slide":
            picture = _read_slide(ref.path, max_pixels)
        elif kind == "LIF":
            from cellcount.images.lif_files import read_lif

            picture = read_lif(file, ref.page, max_pixels)
        else:
            from cellcount.images.raster import read_raster

            picture = read_raster(file, kind, max_pixels)
        from cellcount.images.negatives import NEGATIVE_CAUTION, is_negative

        if is_negative(picture.pixels):
            return replace(picture, cautions=(*picture.cautions, NEGATIVE_CAUTION))
        return picture


def _read_slide(path: Path, max_pixels: int) -> Picture:
    """A slide of a scanner as a whole, where it is small enough."""
    from cellcount.images.scanner_slides import read_slide_windows, slide_header
    from cellcount.images.tiff_windows import Rect

    width, height, um_per_px, cautions = slide_header(path)
    check_size(width, height, max_pixels)
    pixels = next(read_slide_windows(path, [Rect(0, 0, width, height)]))
    return Picture(pixels, um_per_px, cautions)


def probe_size(ref: ImageRef, *, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels of one upright field, from its header; raises ``ImageError``."""
    with readable(ref.path) as (file, kind):
        if kind == "TIFF":
            from cellcount.images.tiff import tiff_size

            return tiff_size(file, ref.page, max_pixels)
        if kind == "slide":
            from cellcount.images.scanner_slides import slide_header

            width, height, *_ = slide_header(ref.path)
            check_size(width, height, max_pixels)
            return width, height
        if kind == "LIF":
            from cellcount.images.lif_files import lif_size

            return lif_size(file, ref.page, max_pixels)
        from cellcount.images.raster import raster_size

        return raster_size(file, kind, max_pixels)


@dataclass(frozen=True, slots=True)
class FieldsIn:
    """Fields and other pages of a file.

    Attributes:
        pages: those (from 0) that are fields of their own; ``(0,)`` where reading will fail.
        beside: the other pages, and why they are no fields of their own.
        drawn: kind of picture that cellcount drew in it, "" for a file that may hold fields.
    """

    pages: tuple[int, ...] = (0,)
    beside: tuple[tuple[tuple[int, ...], str], ...] = ()
    drawn: str = ""


def field_pages(path: Path) -> tuple[int, ...]:
    """Pages (from 0) of a file that are fields of their own; ``(0,)`` where reading will fail."""
    return fields_in(path).pages


def fields_in(path: Path) -> FieldsIn:
    """Return the fields in a file, and its other pages."""
    try:
        with readable(path) as (file, kind):
            if kind in ("PNG", "JPEG"):
                file.seek(0)
                return FieldsIn(drawn=drawn_by(file.read(MARKED_BYTES)))
            if kind == "LIF":
                from cellcount.images.lif_files import lif_pages

                return FieldsIn(*lif_pages(file))
            if kind != "TIFF":
                return FieldsIn()
            from cellcount.images.tiff_pages import pages_of

            pages = pages_of(file)
            return FieldsIn(pages.fields, pages.beside)
    except ImageError:
        return FieldsIn()


@contextmanager
def readable(path: Path) -> Iterator[tuple[BinaryIO, FileKind]]:
    """An open image file and its kind; every failure inside becomes an ``ImageError``."""
    with open_regular(path) as file, _Quiet():
        name = "image"
        try:
            head = file.read(HEAD_BYTES)
            kind = _kind_of(path, head)
            if kind is None:
                raise ImageError(stranger(head))
            name = kind
            yield file, kind
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError("not enough memory to decode it") from error
        except Exception as error:  # decoders raise anything on damaged files
            raise ImageError(_reason(error, name)) from error


def _kind_of(path: Path, head: bytes) -> FileKind | None:
    kind = file_kind(head)
    if kind is not None and path.suffix.lower() not in SLIDE_SUFFIXES | SCANNER_TIFF_SUFFIXES:
        return kind
    from cellcount.images.scanner_slides import is_slide

    return "slide" if is_slide(path, head) else kind


def _reason(error: Exception, kind: str) -> str:
    """A decoder's complaint in one short line."""
    if isinstance(error, OSError) and error.errno is not None:
        return why(error)
    if isinstance(error, _SENSELESS):
        return f"damaged {kind}: its headers contradict each other"
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"
    if isinstance(error, NotImplementedError):
        return f"a form of {kind} that is not read here: {text}"
    cut_off = any(word in text.lower() for word in _CUT_OFF_WORDS)
    return f"{'truncated' if cut_off else 'damaged'} {kind}: {text}"


class _Quiet:
    """Silence decoders' warnings while at least one thread is reading.

    ``warnings.catch_warnings`` alone restores the wrong filters when threads overlap, so the
    first thread in saves them and the last one out restores them.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _readers: ClassVar[int] = 0
    _saved: ClassVar[Any] = None

    def __enter__(self) -> None:
        cls = type(self)
        with cls._lock:
            cls._readers += 1
            if cls._readers == 1:
                cls._saved = warnings.catch_warnings()
                cls._saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        cls = type(self)
        with cls._lock:
            cls._readers -= 1
            if cls._readers == 0:
                cls._saved.__exit__(None, None, None)
                cls._saved = None
