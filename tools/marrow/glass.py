"""Glass of a field: its colour, slow changes and grain, taken from a picture's empty places.

Shapes: density float32 (H, W, 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tools.marrow.contours import Floats

#: Density up to which a smoothed pixel is glass, and distance from all that is not.
_EMPTY, _APART_PX = 0.04, 3
_SLOW_PX, _REDUCED = 18, 6
#: Side of the squares of grain; neighbours overlap by half.
_SQUARE = 24
_FEWEST_SQUARES = 6
_WEAK = 1e-3


def glass_field(density: Floats, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Density of an empty field, against the picture's glass.

    Args:
        density: of a picture that shows the glass between cells.
        shape: height and width of the field.
        random: draws the places from which grain is taken.
    """
    empty = ndimage.uniform_filter(density.mean(-1), 5) < _EMPTY
    empty = ndimage.binary_erosion(empty, iterations=_APART_PX)
    slow = _filled(density, empty)
    grain = _grain(density - slow, empty, shape, random)
    turned = np.rot90(slow, int(random.integers(4)))
    return _enlarged(turned, shape) + grain


def _filled(density: Floats, empty: NDArray[np.bool_]) -> Floats:
    """The smooth glass, filled in below cells from around them."""
    if not empty.any():
        return np.zeros_like(density)
    # Slow changes are as clear in a picture of a fraction of the size.
    weight = _reduced(empty.astype(np.float32)[..., None])
    values = _reduced(density * empty[..., None])
    total, mass = np.zeros_like(values), np.zeros_like(weight)
    for times in (1, 3, 9):
        sigma, share = _SLOW_PX / _REDUCED * times, _WEAK ** (times // 3)
        total += share * ndimage.gaussian_filter(values, (sigma, sigma, 0))
        mass += share * ndimage.gaussian_filter(weight, (sigma, sigma, 0))
    filled = np.asarray(total / np.maximum(mass, 1e-12), np.float32)
    return _enlarged(filled, density.shape[:2])


def _reduced(values: Floats) -> Floats:
    """Means over squares; rows and columns that fill none are left out."""
    height, width = (length // _REDUCED for length in values.shape[:2])
    whole = values[: height * _REDUCED, : width * _REDUCED]
    squares = whole.reshape(height, _REDUCED, width, _REDUCED, -1)
    return np.asarray(squares.mean((1, 3)), np.float32)


def _enlarged(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Values between those of a smaller picture, by straight lines."""
    zoom = (shape[0] / values.shape[0], shape[1] / values.shape[1], 1)
    wide = ndimage.zoom(values, zoom, order=1, mode="nearest", grid_mode=True)
    return np.asarray(wide, np.float32)


def _grain(
    rest: Floats, empty: NDArray[np.bool_], shape: tuple[int, int], random: np.random.Generator
) -> Floats:
    """Grain of the glass: squares of what the smooth glass lacks, drawn and blended at random.

    Weights are such that grain stays as strong between squares as within.
    """
    half = _SQUARE // 2
    full = ndimage.minimum_filter(empty, _SQUARE)[half:-half, half:-half]
    places = np.argwhere(full)
    if len(places) < _FEWEST_SQUARES:
        spread = float(rest[empty].std()) if empty.any() else 0.01
        noise = random.normal(0, 1, (*shape, 3)).astype(np.float32)
        return np.asarray(ndimage.gaussian_filter(noise, (0.7, 0.7, 0)) * 2 * spread, np.float32)
    window = np.sin(np.pi * (np.arange(_SQUARE) + 0.5) / _SQUARE)
    weight = (window[:, None] * window).astype(np.float32)[..., None]
    canvas = np.zeros((shape[0] + 2 * _SQUARE, shape[1] + 2 * _SQUARE, 3), np.float32)
    for top in range(0, shape[0] + _SQUARE, half):
        for left in range(0, shape[1] + _SQUARE, half):
            y, x = places[int(random.integers(len(places)))]
            square = np.rot90(rest[y : y + _SQUARE, x : x + _SQUARE], int(random.integers(4)))
            canvas[top : top + _SQUARE, left : left + _SQUARE] += square * weight
    return canvas[_SQUARE : _SQUARE + shape[0], _SQUARE : _SQUARE + shape[1]]
