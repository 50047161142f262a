"""Whole slides in the forms of scanners, read window by window by OpenSlide.

OpenSlide (LGPL 2.1) is an optional extra that is called and never copied. TIFF that tifffile reads
by windows, Aperio's SVS among it, is left to `cellcount.images.tiff_windows`, so that its counts do
not depend on what is installed. What a scanner left out, and OpenSlide gives as transparent, is
white like glass.

Shapes: h, w size of a window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellcount.errors import ImageError
from cellcount.images.file_types import DICOM_MARK, SLIDE_SUFFIXES, file_kind
from cellcount.images.pixel_formats import over_white
from cellcount.images.tiff_metadata import PLAUSIBLE_UM_PER_PX
from cellcount.images.tiff_windows import Header, Rect

if TYPE_CHECKING:
    import openslide

NEEDS_OPENSLIDE = (
    "a slide of a scanner, which is read by OpenSlide: pip install 'cellcount[slides]', or export "
    "it as TIFF"
)
_CZI = b"ZISRAWFILE"
_OVERLAPPING = ".bif"
_PARTS = re.compile(r"=\s*([^=\r\n]+\.jpg)\s*$", re.IGNORECASE | re.MULTILINE)
_PARTS_BYTES = 65_536
_LEVEL_TOLERANCE = 0.005  # sizes of levels are rounded
#: A file of these that tifffile refuses is damaged.
_LEFT_TO_TIFFFILE = ("generic-tiff", "aperio")


def has_openslide() -> bool:
    """Return whether OpenSlide is installed, the module and the library that it calls."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):  # openslide-python without openslide-bin
        return False
    return True


def has_slide_name(path: Path) -> bool:
    """Return whether the name ends like a slide's that is no TIFF."""
    return path.suffix.lower() in SLIDE_SUFFIXES


def is_slide(path: Path, head: bytes) -> bool:
    """Return whether OpenSlide alone may read a file, by its name and first bytes.

    Tiles of a Ventana BIF overlap: as they lie in the TIFF, cells would count twice.
    """
    marked = head.startswith(_CZI) or head[DICOM_MARK.start : DICOM_MARK.stop] == b"DICM"
    overlapping = path.suffix.lower() == _OVERLAPPING and file_kind(head) == "TIFF"
    return marked or overlapping or has_slide_name(path)


def why_no_slide(path: Path) -> str:
    """Return the reason why a file with a slide's name cannot be read, "" where it can."""
    if not has_openslide():
        return NEEDS_OPENSLIDE
    if _vendor(path):
        return ""
    return f"not a slide that OpenSlide knows, or damaged{_advice(path)}"


def _advice(path: Path) -> str:
    """Advice on a picture of a camera, of which OpenSlide reads some; "" for other files."""
    return "; export it in ZEN as TIFF" if path.suffix.lower() == ".czi" else ""


def slide_identity(path: Path) -> str:
    """Identity that all files of a DICOM slide share; "" for every other file."""
    if path.suffix.lower() != ".dcm" or not has_openslide():
        return ""
    try:
        with _opened(path) as slide:
            return str(slide.properties.get("openslide.quickhash-1", ""))
    except ImageError:
        return ""


def slide_parts(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Name of each file or folder that holds pixels of a slide beside it → name of the slide."""
    parts: dict[str, str] = {}
    for name in names:
        parts |= dict.fromkeys(_parts_of(folder / name), name)
    return {name: parts[name] for name in names if name in parts}


def _parts_of(path: Path) -> tuple[str, ...]:
    """The folder of an MRXS, the pictures of a VMS."""
    if path.suffix.lower() == ".mrxs":
        return (path.stem,)
    if path.suffix.lower() not in (".vms", ".vmu"):
        return ()
    try:
        with path.open("rb") as file:
            text = file.read(_PARTS_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(name.strip() for name in _PARTS.findall(text))


def slide_header(path: Path) -> Header:
    """Size and scale of a slide at its full resolution.

    Raises:
        ImageError: OpenSlide is not installed, or cannot read it.
    """
    with _opened(path) as slide:
        width, height = slide.dimensions
        return Header(width, height, _um_per_px(slide))


def read_slide_windows(path: Path, rects: Iterable[Rect]) -> Iterator[NDArray[np.uint8]]:
    """Windows of a slide at its full resolution, RGB uint8 ``(h, w, 3)``, in their order.

    Raises:
        ImageError: OpenSlide is not installed, or cannot read it.
    """
    with _opened(path) as slide:
        for rect in rects:
            region = slide.read_region((rect.x, rect.y), 0, (rect.width, rect.height))
            samples = np.asarray(region)
            yield over_white(samples[:, :, :3], samples[:, :, 3], premultiplied=False)


def slide_level_factors(path: Path) -> tuple[int, ...]:
    """Factors by which the levels of a slide are reduced, only powers of two.

    Raises:
        ImageError: OpenSlide is not installed, or cannot read it.
    """
    with _opened(path) as slide:
        return tuple(sorted(_levels(slide)))


def read_slide_level(path: Path, factor: int, rect: Rect) -> NDArray[np.uint8]:
    """A window of a level, in pixels of the level; what reaches beyond it is white.

    Raises:
        ImageError: it cannot be read.
    """
    with _opened(path) as slide:
        level = _levels(slide).get(factor)
        if level is None:
            raise ImageError("the file changed while it was read")
        place = (rect.x * factor, rect.y * factor)
        samples = np.asarray(slide.read_region(place, level, (rect.width, rect.height)))
        return over_white(samples[:, :, :3], samples[:, :, 3], premultiplied=False)


def _levels(slide: openslide.OpenSlide) -> dict[int, int]:
    """Factor → number of the level."""
    found: dict[int, int] = {}
    for number, downsample in enumerate(slide.level_downsamples):
        factor = 1 << round(math.log2(downsample))
        if factor > 1 and abs(downsample / factor - 1) < _LEVEL_TOLERANCE:
            found.setdefault(factor, number)
    return found


def can_open(path: Path) -> bool:
    """Return whether OpenSlide is installed and knows the form of a file that tifffile may not."""
    return has_openslide() and _vendor(path) not in ("", *_LEFT_TO_TIFFFILE)


def _vendor(path: Path) -> str:
    import openslide

    try:
        return openslide.OpenSlide.detect_format(path) or ""
    except openslide.OpenSlideError:
        return ""


@contextmanager
def _opened(path: Path) -> Iterator[openslide.OpenSlide]:
    if not has_openslide():
        raise ImageError(NEEDS_OPENSLIDE)
    import openslide

    try:
        with openslide.OpenSlide(path) as slide:
            yield slide
    except openslide.OpenSlideError as error:
        text = " ".join(str(error).split()) or type(error).__name__
        why = f"not a slide that OpenSlide can read: {text}{_advice(path)}"
        raise ImageError(why) from error


def _um_per_px(slide: openslide.OpenSlide) -> float | None:
    """Mean scale of both directions, None where it is missing or implausible."""
    try:
        values = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    except (KeyError, ValueError):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    mean = math.fsum(values) / len(values)
    return mean if low <= mean <= high else None
