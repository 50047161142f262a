"""The one rule by which every image becomes RGB uint8.

- Samples of more than 8 bits keep the 8 most significant of their *significant* bits: those the
  file states (BitsPerSample, MaxSampleValue of the form 2**n - 1, OME SignificantBits), else the
  full 16. Nothing is ever stretched by an image's own content, so that equal stain gives equal
  colour in every field. A larger value than the stated bits can hold counts as white.
- Samples of fewer than 8 bits are spread evenly over 0-255.
- Grey is repeated in the three channels; "white is zero" is inverted; palettes are looked up.
- Alpha is composited over white, the colour of an empty field in transmitted light; an alpha of
  nothing, 0 everywhere, is no alpha: the picture under it is read.
- CMYK becomes (1 - ink) * (1 - black). Embedded colour profiles are not applied.
- Floating point and signed samples, and channels that are not a colour (fluorescence), are
  refused: only a guess from the content could make a picture of them.

Shapes: H image height, W image width, S samples per pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.errors import ImageError

WHITE_8BIT = 255

VOID_ALPHA_CAUTION = "its alpha channel is 0 everywhere and was ignored"
#: Some writers mean a mask of 0 and 1; as alpha, 1 of 255 shows as little as 0.
_VOID_ALPHA = 1
#: Bits that cameras have, besides 16.
_CAMERA_BITS = (8, 10, 12, 14)


def eight_bits(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Unsigned or boolean samples of ``bits`` (1-16) significant bits as uint8, same shape."""
    if bits == 8 and samples.dtype == np.uint8:
        return samples
    full = (1 << bits) - 1
    if samples.dtype == np.bool_:
        samples = samples.view(np.uint8)
    if int(np.iinfo(samples.dtype).max) > full:
        samples = np.minimum(samples, full)
    if bits >= 8:
        return (samples >> (bits - 8)).astype(np.uint8, copy=False)
    spread = np.round(np.arange(full + 1) * (WHITE_8BIT / full)).astype(np.uint8)
    return np.take(spread, samples)


def grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat grey ``(H, W)`` in three channels ``(H, W, 3)``."""
    return np.repeat(grey[:, :, None], 3, axis=2)  # (H, W, 3)


def cmyk_to_rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ink ``(H, W, 4)``, 255 is full ink, as RGB ``(H, W, 3)``."""
    light = WHITE_8BIT - cmyk.astype(np.uint16)  # (H, W, 4)
    return _divided_by_255(light[:, :, :3] * light[:, :, 3:])


def ycbcr_to_rgb(ycbcr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Full-range YCbCr ``(H, W, 3)`` (ITU-R BT.601, as in JFIF) as RGB ``(H, W, 3)``."""
    height, width, _ = ycbcr.shape
    image = Image.frombytes("YCbCr", (width, height), ycbcr.tobytes())
    return np.array(image.convert("RGB"))


def over_white(
    rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], *, premultiplied: bool = False
) -> NDArray[np.uint8]:
    """RGB ``(H, W, 3)`` with alpha ``(H, W)`` laid over white."""
    opacity = alpha[:, :, None].astype(np.uint16)  # (H, W, 1)
    if premultiplied:
        lit: NDArray[np.uint16] = np.minimum(rgb + (WHITE_8BIT - opacity), WHITE_8BIT)
        return lit.astype(np.uint8)
    return _divided_by_255(rgb * opacity + WHITE_8BIT * (WHITE_8BIT - opacity))


def is_void(alpha: NDArray[np.uint8]) -> bool:
    """Return whether an alpha channel ``(H, W)`` shows nothing of its picture."""
    return int(alpha.max(initial=0)) <= _VOID_ALPHA


def under_void_alpha(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture ``(H, W, 3)`` under an alpha of nothing; ``ImageError`` where none is left."""
    if (rgb == rgb[:1, :1]).all():
        raise ImageError(
            "the picture is wholly transparent and of one colour: there is nothing to count; "
            "export it again without transparency"
        )
    return rgb


def low_range_caution(highest: int, stored: int, how: str) -> str:
    """Caution for samples that leave the upper bits unused, "" where they use them.

    Args:
        highest: largest sample.
        stored: bits that are stored, all of which the file says it uses.
        how: what the user can do about it.
    """
    bits = next((bits for bits in _CAMERA_BITS if highest < 1 << bits), stored)
    if bits >= stored or highest <= 0:
        return ""
    full = (1 << bits) - 1
    return (
        f"no sample exceeds {full} of {(1 << stored) - 1}, as in a picture of {bits} bits; "
        f"{how.format(full=full, bits=bits)}"
    )


def palette_to_rgb(indices: NDArray[Any], palette: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Look up indices ``(H, W)`` in a TIFF palette ``(3, colours)`` of 16-bit values."""
    # Some writers fill the 16-bit palette with 8-bit values; libtiff makes the same exception.
    colours = eight_bits(palette, 8 if int(palette.max(initial=0)) <= WHITE_8BIT else 16)
    return np.take(colours.T, indices, axis=0, mode="clip")  # (H, W, 3)


def oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels ``(H, W, 3)`` turned upright by an EXIF or TIFF orientation (1-8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def is_turned(orientation: int) -> bool:
    """Return whether an EXIF or TIFF orientation exchanges width and height."""
    return orientation in (5, 6, 7, 8)


def _divided_by_255(product: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Products of two bytes (0-65025) over 255, rounded, without floating point."""
    product = product + np.uint16(128)
    return np.right_shift(product + (product >> 8), 8).astype(np.uint8)
