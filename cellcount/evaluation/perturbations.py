"""Ways of changing images before a model is evaluated on them: resized, and the ``shift`` suite.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage

from cellcount.images.stain_reference import StainReference


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of changing the images before they are evaluated.

    Attributes:
        name: shown in tables.
        factor: resize of image and boxes.
        change: photometric change, or None.
        prepare: what is done to the changed image before a model sees it, or None.
    """

    name: str
    factor: float = 1.0
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed image."""
        if self.factor != 1.0:
            pixels = resized(pixels, self.factor)
        return pixels if self.change is None else self.change(pixels)

    def prepared(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed image as a model sees it."""
        return pixels if self.prepare is None else self.prepare(pixels)


ORIGINAL = Variant("original")


def variants(resizes: Sequence[float]) -> list[Variant]:
    """The original, the resized and the ``shift`` suite."""
    sizes = [Variant(f"{factor:g}x size", factor) for factor in resizes]
    return [ORIGINAL, *sizes, *(Variant(name, change=change) for name, change in SHIFTS.items())]


def with_stain(chosen: Sequence[Variant], stain: StainReference | None) -> list[Variant]:
    """Each variant as it is and, after it, with its stain normalized; unchanged without any."""
    if stain is None:
        return list(chosen)
    return [
        variant
        for one in chosen
        for variant in (one, replace(one, name=f"{one.name}, stain", prepare=stain.apply))
    ]


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


def _mixed(pixels: Pixels, mixing: tuple[tuple[float, ...], ...], strength: float) -> Pixels:
    """Stain: densities above the glass mixed between the channels, and so many times as strong."""
    density = -np.log((pixels.astype(np.float32) + 1) / 256)
    glass = np.quantile(density[::4, ::4].reshape(-1, 3), 0.05, axis=0)
    stained = np.clip((density - glass) @ np.asarray(mixing, np.float32).T, 0, None) * strength
    return np.asarray(np.clip(256 * np.exp(-(stained + glass)) - 0.5, 0, 255), np.uint8)


_GREY = ((0.4, 0.3, 0.3), (0.3, 0.4, 0.3), (0.3, 0.3, 0.4))
_GREEN = ((0.5, 0.7, 0.0), (0.1, 0.5, 0.1), (0.2, 0.5, 0.4))
_AS_IT_IS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
#: Red cells as other laboratories have them, which a detector may take for white ones.
RED_CELL_SHIFTS: dict[str, Shift] = {
    "grey cells": partial(_mixed, mixing=_GREY, strength=1.0),
    "dark greys": partial(_mixed, mixing=_GREY, strength=2.0),
    "green cells": partial(_mixed, mixing=_GREEN, strength=1.2),
    "dark cells": partial(_mixed, mixing=_AS_IT_IS, strength=2.0),
}


def resized(pixels: Pixels, factor: float) -> Pixels:
    """The field as another objective or camera would give it: bicubic, antialiased."""
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
