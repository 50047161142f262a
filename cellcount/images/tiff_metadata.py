"""Metadata of a TIFF: scale, significant bits, channels, planes.

A scale is believed only between 0.01 and 10 um per pixel and only where pixels are square: the
72, 96 and 300 dpi that printing software writes (353, 265 and 85 um) say nothing of a microscope.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from xml.etree import ElementTree

import tifffile

PLAUSIBLE_UM_PER_PX = (0.01, 10.0)

_UM_PER_UNIT = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "micron": 1.0, "microns": 1.0, "µm": 1.0,
    "μm": 1.0, "\\u00b5m": 1.0, "nm": 1e-3, "inch": 25400.0, "in": 25400.0, "å": 1e-4,
}  # fmt: skip
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 1e4}  # inch, centimetre
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_MAX_SAMPLE_VALUES = (281, 341)  # MaxSampleValue, SMaxSampleValue
_PAGE_NAME, _NDPI_LENS = 285, 65421
_LONGEST_NAME = 200
#: Names of pictures that scanners and microscopes put beside a field.
_BESIDE = re.compile(
    r"(?<![a-z])(slide[ _-]?)?(macro|label|barcode|thumb(nail)?|overview|preview|(?<=slide.)map|"
    r"(?<=slide)map)([ _-]?(image|picture|photo))?(?![a-z])",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


def um_per_px(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> float | None:
    """Scale of page ``index`` in um per pixel: OME, ImageJ, Aperio, else the resolution tags."""
    pixels = _ome_pixels(tif, index)
    if pixels is not None:
        sides = [_ome_length(pixels, axis) for axis in "XY"]
    elif tif.is_svs:
        found = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description)
        sides = [float(found[1]) if found else None] * 2
    else:
        unit = _imagej(tif).get("unit") if tif.is_imagej else None
        per_unit = (
            _UM_PER_UNIT.get(str(unit).lower())
            if unit
            else _UM_PER_RESOLUTION_UNIT.get(_number(page, _RESOLUTION_UNIT, 2))
        )
        sides = [_um_of_resolution(page, code, per_unit) for code in (_X_RESOLUTION, _Y_RESOLUTION)]
    return _plausible(*sides)


def significant_bits(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> int:
    """Bits of a sample that carry the image, from the file's statements alone."""
    stored = int(page.bitspersample)
    if stored <= 8:
        return stored
    pixels = _ome_pixels(tif, index)
    stated = "" if pixels is None else pixels.get("SignificantBits", "")
    if stated.isdecimal() and 8 <= int(stated) <= stored:
        return int(stated)
    for code in _MAX_SAMPLE_VALUES:
        # Any other value is likely the brightest pixel of this very image, not a full scale.
        full = _number(page, code, 0)
        if full >= 255 and full & (full + 1) == 0 and full.bit_length() <= stored:
            return full.bit_length()
    return stored


def separate_channels(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Number of channels of one field that are stored as pages of their own, 1 where none are.

    Statements about samples are held against the samples that the page has.
    """
    samples = max(1, int(page.samplesperpixel))
    pixels = _ome_pixels(tif, 0)
    if pixels is not None:
        return max(1, _size(pixels, "C") // samples)
    if tif.is_imagej:
        return max(1, _count(_imagej(tif), "channels") // samples)
    return _leading_axes(page).get("C", 1)


class Planes(NamedTuple):
    """Pages of one field: a z-stack, a time series, or both.

    Attributes:
        pages: in this file, from 0.
        stated: how many planes the file says there are.
    """

    pages: tuple[int, ...]
    stated: int


def stated_planes(tif: tifffile.TiffFile, index: int) -> Planes:
    """Return the planes of the field of page ``index``, by the axes that the file states."""
    count = len(tif.pages)
    alone = Planes((index,), 1)
    if tif.is_ome:
        found = _ome_of(tif, index)
        if found is None:
            return alone
        stated = _size(found.pixels, "Z") * _size(found.pixels, "T")
        pages = tuple(page for first, last in found.pages for page in range(first, last))
        return Planes(tuple(p for p in pages if p < count), stated) if stated > 1 else alone
    if tif.is_imagej:
        stated = _count(_imagej(tif), "slices") * _count(_imagej(tif), "frames")
        return Planes(tuple(range(count)), stated) if stated > 1 else alone
    if tif.is_lsm:
        found_lsm = tif.lsm_metadata or {}
        stated = _count(found_lsm, "DimensionZ") * _count(found_lsm, "DimensionTime")
        full = tuple(i for i in range(count) if not _is_reduced(tif, i))
        return Planes(full, stated) if stated > 1 and index in full else alone
    return _shaped_planes(tif, index) or alone


def _shaped_planes(tif: tifffile.TiffFile, index: int) -> Planes | None:
    """Return the planes that tifffile states in the description of a series' first page."""
    for first in range(index, -1, -1):
        page = tif.pages[first]
        if not isinstance(page, tifffile.TiffPage) or not page.description:
            continue
        axes = _leading_axes(page)
        stated = axes.get("Z", 1) * axes.get("T", 1)
        pages = range(first, min(len(tif.pages), first + math.prod(axes.values())))
        return Planes(tuple(pages), stated) if stated > 1 and index in pages else None
    return None


def _is_reduced(tif: tifffile.TiffFile, index: int) -> bool:
    page = tif.pages[index]
    return isinstance(page, tifffile.TiffPage) and page.is_reduced


def name_beside(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> str:
    """Name of a page that is no field ("macro image"), else ""."""
    lens = page.tags.valueof(_NDPI_LENS)
    if isinstance(lens, int | float) and lens < 0:  # as Hamamatsu marks macro and map
        return "macro" if lens == -1 else "slide map"
    image = _ome_of(tif, index) if tif.is_ome else None
    described: Any = page.description if image is None else image.name
    names = [described, page.tags.valueof(_PAGE_NAME, "")]
    for name in names:
        short = name.strip() if isinstance(name, str) else ""
        if len(short) <= _LONGEST_NAME and _BESIDE.search(short):
            return " ".join(short.split())
    return ""


def _leading_axes(page: tifffile.TiffPage) -> dict[str, int]:
    """Axis → length of those before Y and X, as tifffile writes them with the first page."""
    text = page.description
    if not text.startswith("{") or '"axes"' not in text:
        return {}
    try:
        facts = json.loads(text)
        axes, shape = str(facts["axes"]).upper(), [int(n) for n in facts["shape"]]
    except (ValueError, TypeError, LookupError):
        return {}
    at = axes.find("Y")
    if len(axes) != len(shape) or at < 0 or min(shape, default=0) < 1:
        return {}
    return dict(zip(axes[:at], shape[:at], strict=True))


class _OmeImage(NamedTuple):
    """An image of OME-XML: its name, its ``Pixels`` and half-open ranges of its pages."""

    name: str
    pixels: ElementTree.Element
    pages: tuple[tuple[int, int], ...]


def _ome_of(tif: tifffile.TiffFile, index: int) -> _OmeImage | None:
    """The OME image that claims page ``index``, or the only one."""
    images = _ome_images(tif.ome_metadata or "")
    for image in images:
        if any(first <= index < last for first, last in image.pages):
            return image
    return images[0] if len(images) == 1 else None


@lru_cache(maxsize=8)  # the pages of a file share it
def _ome_images(text: str) -> tuple[_OmeImage, ...]:
    try:
        found = list(ElementTree.fromstring(text).iter()) if text else []
    except (ElementTree.ParseError, ValueError) as error:
        log.debug("OME-XML cannot be read: %s", error)
        return ()
    return tuple(
        _OmeImage(image.get("Name", ""), pixels, tuple(_ome_pages(pixels)))
        for image in found
        if _tag(image) == "Image"
        for pixels in image.iter()
        if _tag(pixels) == "Pixels"
    )


def _ome_pixels(tif: tifffile.TiffFile, index: int) -> ElementTree.Element | None:
    """The OME ``Pixels`` element that describes page ``index``, else the first, or None."""
    if not tif.is_ome:
        return None
    image = _ome_of(tif, index) or next(iter(_ome_images(tif.ome_metadata or "")), None)
    return None if image is None else image.pixels


def _ome_pages(pixels: ElementTree.Element) -> Iterator[tuple[int, int]]:
    """Half-open ranges of pages that belong to a ``Pixels`` element."""
    channels = sum(_tag(child) == "Channel" for child in pixels) or 1
    planes = _size(pixels, "Z") * _size(pixels, "T") * channels
    for data in pixels:
        if _tag(data) != "TiffData":
            continue
        first, count = data.get("IFD", ""), data.get("PlaneCount", "")
        if first.isdecimal():
            yield int(first), int(first) + (int(count) if count.isdecimal() else 1)
        else:  # all planes, from the first page
            yield 0, int(count) if count.isdecimal() else planes


def _size(pixels: ElementTree.Element, axis: str) -> int:
    text = pixels.get(f"Size{axis}", "")
    return max(1, int(text)) if text.isdecimal() else 1


def _count(facts: dict[str, Any], name: str) -> int:
    value = facts.get(name, 1)
    return max(1, value) if isinstance(value, int) else 1


def _ome_length(pixels: ElementTree.Element, axis: str) -> float | None:
    unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
    per_unit = _UM_PER_UNIT.get(unit.lower())
    try:
        return float(pixels.get(f"PhysicalSize{axis}", "")) * (per_unit or math.nan)
    except ValueError:
        return None


def _um_of_resolution(
    page: tifffile.TiffPage, code: int, um_per_unit: float | None
) -> float | None:
    value = page.tags.valueof(code)
    if um_per_unit is None or not isinstance(value, tuple) or len(value) != 2:
        return None
    numerator, denominator = value
    return um_per_unit * denominator / numerator if numerator else None


def _plausible(x_um: float | None, y_um: float | None) -> float | None:
    """The common side of a square pixel within the believable range, else None."""
    if x_um is None or not math.isfinite(x_um):
        return None
    if y_um is not None and not math.isclose(x_um, y_um, rel_tol=0.01):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    return x_um if low <= x_um <= high else None


def _number(page: tifffile.TiffPage, code: int, default: int) -> int:
    """A tag's (first) whole number."""
    value = page.tags.valueof(code, default)
    if isinstance(value, tuple):
        value = value[0] if value else default
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else default


def _imagej(tif: tifffile.TiffFile) -> dict[str, Any]:
    return tif.imagej_metadata or {}


def _tag(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
