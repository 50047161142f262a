"""The fixed ``shift`` suite: other stains, lamps, lenses and cameras, applied to test images.

Each member is named, deterministic and independent of the training augmentation's code, so that
its figures can be compared between versions.

Shapes: pixels uint8 (H, W, 3) RGB in and out, same size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage

Pixels = NDArray[np.uint8]
Shift = Callable[[Pixels], Pixels]


def _cast(pixels: Pixels, gains: tuple[float, float, float]) -> Pixels:
    """Lamp or filter colour: a gain per channel."""
    scaled: NDArray[np.float32] = pixels * np.asarray(gains, np.float32) + 0.5
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _gamma(pixels: Pixels, exponent: float) -> Pixels:
    """Camera curve."""
    table = 255 * (np.arange(256) / 255) ** exponent + 0.5
    return table.astype(np.uint8)[pixels]


def _blur(pixels: Pixels, sigma_px: float) -> Pixels:
    """Focus: a Gaussian of ``sigma_px`` in the plane."""
    return np.asarray(ndimage.gaussian_filter(pixels, (sigma_px, sigma_px, 0)), np.uint8)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Compression."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _hue(pixels: Pixels, degrees: float) -> Pixels:
    """Stain: every colour turned by ``degrees``."""
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(degrees * 256 / 360)) % 256
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _saturation(pixels: Pixels, factor: float) -> Pixels:
    """Stain: paler or stronger."""
    return np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor))


def _density(pixels: Pixels, factor: float) -> Pixels:
    """Stain: optical density times ``factor`` (Beer–Lambert), background included."""
    density = -np.log((pixels.astype(np.float32) + 1) / 256) * factor
    return np.clip(256 * np.exp(-density) - 0.5, 0, 255).astype(np.uint8)


#: Name → change, in the order of the tables.
SHIFTS: dict[str, Shift] = {
    "yellow cast": partial(_cast, gains=(1.0, 0.95, 0.65)),
    "blue cast": partial(_cast, gains=(0.75, 0.85, 1.0)),
    "green cast": partial(_cast, gains=(0.78, 1.0, 0.78)),
    "dark": partial(_cast, gains=(0.5, 0.5, 0.5)),
    "gamma 0.6": partial(_gamma, exponent=0.6),
    "gamma 1.6": partial(_gamma, exponent=1.6),
    "hue -20": partial(_hue, degrees=-20),
    "hue +20": partial(_hue, degrees=20),
    "pale stain": partial(_density, factor=0.6),
    "strong stain": partial(_density, factor=1.5),
    "grey": partial(_saturation, factor=0.3),
    "vivid": partial(_saturation, factor=1.7),
    "blur 1.5": partial(_blur, sigma_px=1.5),
    "jpeg 20": partial(_jpeg, quality=20),
}


def resized(pixels: Pixels, factor: float) -> Pixels:
    """The field as another objective or camera would give it: bicubic, antialiased."""
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
