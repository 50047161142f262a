"""What a TIFF says about itself beside its pixels: scale, significant bits, channels.

A scale is believed only between 0.01 and 10 um per pixel and only where pixels are square: the
72, 96 and 300 dpi that printing software writes (353, 265 and 85 um) say nothing of a microscope.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from typing import Any
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


def separate_channels(tif: tifffile.TiffFile) -> int:
    """How many channels of one field are stored as pages of their own, 1 where none are."""
    if tif.is_ome:
        pixels = _ome_pixels(tif, 0)
        if pixels is not None:
            sizes = [c.get("SamplesPerPixel", "1") for c in pixels if _tag(c) == "Channel"]
            samples = int(sizes[0]) if sizes and sizes[0].isdecimal() else 1
            channels = pixels.get("SizeC", "1")
            return max(1, int(channels) // max(1, samples)) if channels.isdecimal() else 1
    if tif.is_imagej:
        channels = _imagej(tif).get("channels", 1)
        return channels if isinstance(channels, int) else 1
    return 1


def _ome_pixels(tif: tifffile.TiffFile, index: int) -> ElementTree.Element | None:
    """The OME ``Pixels`` element that describes page ``index``, or None."""
    text = tif.ome_metadata if tif.is_ome else None
    if not text:
        return None
    try:
        found = [e for e in ElementTree.fromstring(text).iter() if _tag(e) == "Pixels"]
    except (ElementTree.ParseError, ValueError) as error:
        log.debug("OME-XML cannot be read: %s", error)
        return None
    for pixels in found:
        if any(first <= index < last for first, last in _ome_pages(pixels)):
            return pixels
    return found[0] if found else None


def _ome_pages(pixels: ElementTree.Element) -> Iterator[tuple[int, int]]:
    """Half-open ranges of pages that belong to a ``Pixels`` element."""
    for data in pixels:
        if _tag(data) != "TiffData":
            continue
        first, count = data.get("IFD", ""), data.get("PlaneCount", "")
        if first.isdecimal():
            yield int(first), int(first) + (int(count) if count.isdecimal() else 1)


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
