"""Loading of one image: a source of pixels with the key of its file, or a reason for failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cellcount.core.records import ImageRef, Picture
from cellcount.errors import CellcountError
from cellcount.images.read import read_image
from cellcount.images.source import Field, Source, open_source
from cellcount.store.file_key import FileKey, key_of, with_content

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Loaded:
    """One image read from disk, or the reason why it could not be.

    Attributes:
        ref: who it is.
        file_key: of the file just before it was read.
        source: gives its pixels, None when reading failed.
        reason: why reading failed, else "".
    """

    ref: ImageRef
    file_key: FileKey
    source: Source | None
    reason: str = ""

    @property
    def picture(self) -> Picture | None:
        """The image as a whole, None when reading failed, and for a whole slide."""
        return None if self.source is None else self.source.picture


def load(ref: ImageRef, max_pixels: int) -> Loaded:
    """Load one image, in any thread; of a whole slide the header alone. Failures become reasons."""
    return _loaded(ref, lambda: open_source(ref, max_pixels=max_pixels))


def load_whole(ref: ImageRef, max_pixels: int) -> Loaded:
    """Read one image as ``load`` does, but whole, however large it is within ``max_pixels``."""
    return _loaded(ref, lambda: Field(read_image(ref, max_pixels=max_pixels)))


def _loaded(ref: ImageRef, read: Callable[[], Source]) -> Loaded:
    file_key = key_of(ref)
    try:
        source = read()
        return Loaded(ref, with_content(file_key, ref), source)
    except Exception as error:  # noqa: BLE001 -- one image never ends a batch
        return Loaded(ref, file_key, None, reason_of(error, ref))


def reason_of(error: Exception, ref: ImageRef) -> str:
    """Return the reason why an image failed: an error of ours in words, or a defect by name."""
    if isinstance(error, CellcountError):
        return str(error)
    logger.debug("%s", ref.image, exc_info=error)
    first_line = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first_line}"
