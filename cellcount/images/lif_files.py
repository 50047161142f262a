"""Fields in Leica's LIF and LOF files, read by liffile: colour or grey, one plane each.

A file holds any number of images; each of one plane is a field, a page of the file. Stacks, series
in time, tile scans and channels of fluorescence are passed over, with the reason.

Shapes: H image height, W image width.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images import pixel_formats
from cellcount.images.file_types import check_size
from cellcount.images.tiff_metadata import PLAUSIBLE_UM_PER_PX

if TYPE_CHECKING:
    import liffile

NEEDS_LIFFILE = (
    "a Leica LIF file, which is read by liffile: pip install 'cellcount[cameras]', or export it in "
    "LAS X as TIFF (RGB, 8 bit)"
)
_EXPORT = "export it in LAS X as TIFF (RGB, 8 bit)"
_RANGE = "if it is one, export it in LAS X as TIFF with 8 bit"
_HEADER = struct.Struct("<IIBI")  # its mark, size, mark, and characters of the XML behind it
_XML_CHAR_BYTES = 2
_FULL_BITS = 16
_RED, _GREEN, _BLUE = 1, 2, 3  # ChannelTag of ChannelDescription; 0 is grey
_LIFETIMES = "./Data/SingleMoleculeDetection"
_DESCRIPTION = "./Data/Image/ImageDescription"
_AXES = {"Z": "planes in depth", "T": "points in time", "M": "tiles", "C": "channels"}


class _Channel(NamedTuple):
    """Place of a channel among the bytes of a pixel or image, its colour, its significant bits."""

    place: int
    colour: int
    bits: int


class LifPages(NamedTuple):
    """Images of a file, from 0: fields, and others each with the reason why it is none."""

    fields: tuple[int, ...]
    beside: tuple[tuple[tuple[int, ...], str], ...]


def has_liffile() -> bool:
    """Tell whether liffile is installed."""
    return importlib.util.find_spec("liffile") is not None


def lif_pages(file: BinaryIO) -> LifPages:
    """Tell the images of an open file.

    Raises:
        ImageError: liffile is not installed.
    """
    with _opened(file) as lif:
        reasons = [_known_refusal(image) for image in _images(lif)]
    fields = tuple(page for page, reason in enumerate(reasons) if not reason)
    beside = tuple(((page,), f"not a field: {r}") for page, r in enumerate(reasons) if r)
    # Without a field, reading the first image says why.
    return LifPages(fields, beside) if fields else LifPages((0,), ())


def lif_size(file: BinaryIO, page: int, max_pixels: int) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        ImageError: it is no field, or too large.
    """
    with _opened(file) as lif:
        return _size(_image(lif, page), max_pixels)


def read_lif(file: BinaryIO, page: int, max_pixels: int) -> Picture:
    """Decode an image.

    Raises:
        ImageError: it is no field, too large, or damaged.
    """
    with _opened(file) as lif:
        image = _image(lif, page)
        _size(image, max_pixels)
        block = image.memory_block
        if block.offset + block.size > _bytes_of(file):
            raise ImageError("truncated LIF: its pixels are not all there")
        channels = _channels(image)
        samples = image.asarray()
        if len(channels) == 1:
            grey = _upright(image, samples)
            rgb = pixel_formats.grey_to_rgb(pixel_formats.eight_bits(grey, channels[0].bits))
        else:
            rgb = pixel_formats.eight_bits(_colours(image, samples), channels[0].bits)
        caution = ""
        if channels[0].bits == _FULL_BITS:
            highest = int(samples.max(initial=0))
            caution = pixel_formats.low_range_caution(highest, _FULL_BITS, _RANGE)
        return Picture(np.ascontiguousarray(rgb), _um_per_px(image), (caution,) if caution else ())


@contextmanager
def _opened(file: BinaryIO) -> Iterator[liffile.LifFile]:
    if not has_liffile():
        raise ImageError(NEEDS_LIFFILE)
    import liffile

    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise ImageError("truncated LIF: it ends within its header")
    characters = _HEADER.unpack(header)[3]
    if _HEADER.size + characters * _XML_CHAR_BYTES > _bytes_of(file):
        raise ImageError("truncated LIF: its description is not all there")
    logging.getLogger("liffile").setLevel(logging.ERROR)
    file.seek(0)
    with liffile.LifFile(file) as lif:
        if lif.type not in (liffile.LifFileType.LIF, liffile.LifFileType.LOF):
            raise ImageError(f"a Leica file of the kind {lif.type.name}; {_EXPORT}")
        if lif.xml_element.find("./Element/Children/Reference") is not None:
            raise ImageError(f"a Leica file whose images lie in other files; {_EXPORT}")
        yield lif


def _bytes_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _images(lif: liffile.LifFile) -> list[liffile.LifImage]:
    """Yield every image in order; ``lif.images`` itself has only one of those of one name."""
    import liffile

    return [
        liffile.LifImage(lif, element, element.attrib.get("Name", ""))
        for element in lif.xml_element.iter("Element")
        if any(element.find(path) is not None for path in ("./Data/Image", _LIFETIMES))
    ]


def _image(lif: liffile.LifFile, page: int) -> liffile.LifImage:
    """An image that is a field.

    Raises:
        ImageError: it is none, or there is none.
    """
    images = _images(lif)
    if page >= len(images):
        raise ImageError("a LIF file without images" if not images else "its image is missing")
    if reason := _refusal(images[page]):
        raise ImageError(reason)
    return images[page]


def _known_refusal(image: liffile.LifImage) -> str:
    """Return the reason why an image is no field; "" also for a damaged one, refused when read."""
    try:
        return _refusal(image)
    except Exception:  # noqa: BLE001 -- liffile raises anything, and the other images are sound
        return ""


def _refusal(image: liffile.LifImage) -> str:
    """Tell why an image is no field, "" where it is one."""
    if image.xml_element.find(_LIFETIMES) is not None:
        return f"an image of fluorescence lifetimes; {_EXPORT}"
    sizes, channels = image.sizes, _channels(image)
    if not {"X", "Y"} <= set(sizes):
        return "no picture: it has no width and height"
    for axis, count in sizes.items():
        if axis not in ("X", "Y", "S") and not (axis == "C" and _is_colour(channels)):
            return f"{count} {_AXES.get(axis, f'of the axis {axis}')}; {_EXPORT}"
    if len(channels) != 1 and not _is_colour(channels):
        return f"{len(channels)} channels that are not red, green and blue; {_EXPORT}"
    if image.dtype.kind != "u" or channels[0].bits > _FULL_BITS:
        return f"samples of {channels[0].bits} bits ({image.dtype}); {_EXPORT}"
    return ""


def _channels(image: liffile.LifImage) -> list[_Channel]:
    """The channels in the order of their bytes."""
    found = image.xml_element.findall(f"{_DESCRIPTION}/Channels/ChannelDescription")
    names = ("BytesInc", "ChannelTag", "Resolution")
    return sorted(_Channel(*(int(one.attrib[name]) for name in names)) for one in found)


def _is_colour(channels: list[_Channel]) -> bool:
    colours = sorted(channel.colour for channel in channels)
    return colours == [_RED, _GREEN, _BLUE] and len({c.bits for c in channels}) == 1


def _size(image: liffile.LifImage, max_pixels: int) -> tuple[int, int]:
    width, height = image.sizes["X"], image.sizes["Y"]
    check_size(width, height, max_pixels)
    return width, height


def _colours(image: liffile.LifImage, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Samples as ``(H, W, 3)``, red first."""
    axes = tuple(image.sizes)
    last = axes.index("S" if "S" in axes else "C")
    samples = _upright(image, np.moveaxis(samples, last, -1))
    stored = [channel.colour for channel in _channels(image)]
    if "S" in axes and stored == [_BLUE, _GREEN, _RED]:  # liffile has put red first
        return samples
    return samples[..., np.argsort(stored)]


def _upright(image: liffile.LifImage, samples: NDArray[Any]) -> NDArray[Any]:
    """Samples with the rows first, where the file may have stored columns one after the other."""
    axes = [axis for axis in image.sizes if axis in "XY"]
    return samples.swapaxes(0, 1) if axes == ["X", "Y"] else samples


def _um_per_px(image: liffile.LifImage) -> float | None:
    """The scale that the dimensions tell in metres, None where they do not, or differ."""
    found = []
    for one in image.xml_element.findall(f"{_DESCRIPTION}/Dimensions/DimensionDescription"):
        count = int(one.attrib["NumberOfElements"])
        if one.attrib["DimID"] in ("1", "2") and one.attrib["Unit"] == "m" and count > 1:
            # From the middle of the first pixel to that of the last.
            found.append(1e6 * abs(float(one.attrib["Length"])) / (count - 1))
    if len(found) != 2 or not math.isclose(*found, rel_tol=0.01):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    mean = math.fsum(found) / 2
    return mean if low <= mean <= high else None
