"""Quality of a field: focus, light, clipping, stain. A pure function of its pixels and its scale.

Everything is measured at a fixed number of pixels per red cell, so that neither the camera nor the
detector decides it, and on optical density, so that only ``exposure`` and ``clipped_percent`` see
the lamp. Focus compares fine with coarse detail at the same edges: a ratio, to which it matters
neither how many cells there are nor how dark they are stained.

Shapes: pixels uint8 (H, W, 3) RGB; thumbnails (h, w, 3) at ``COARSE_PX`` per red cell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cellcount.core.records import Quality
from cellcount.images.scale import resized
from cellcount.images.thumbnails import Thumbnails

#: Optical density above the background from which a pixel counts as stained: 11 % darker.
STAINED_DENSITY = 0.05
#: Less of a field stained shows too little to judge focus and stain by.
LEAST_STAINED_PERCENT = 0.2

# Pixels per red cell at which stain is looked at, and focus.
COARSE_PX, _FINE_PX = 8.0, 32.0
# Empty glass is sought this many red cells around.
_BACKGROUND_CELLS = 3
_BACKGROUND_PERCENTILE = 95.0
# Fine and coarse detail, standard deviations in pixels: 0.3 and 0.9 µm.
_FINE, _COARSE = _FINE_PX / 24, _FINE_PX / 8
# Focus is measured on at most 3 x 3 windows, so the cost does not grow with the image.
_WINDOWS, _WINDOW_PX = 3, 256
# Pixels that are filtered together, and how far the widest filter reaches beyond them: products of
# matrices so small are no work for threads.
_TILE_PX, _REACH_PX = 32, round(4 * _COARSE)
_SAMPLES_PER_SIDE = 512
# Logarithm of a pixel's brightness, by the sum of its three channels.
_LOG_BRIGHTNESS = np.log10(np.arange(3 * 255 + 1, dtype=np.float32) / 3 + 1)


def _filter(deviation_px: float, order: int) -> NDArray[np.float32]:
    """Gaussian filter as a matrix: a line of a tile and what lies around it becomes the tile's.

    Args:
        deviation_px: standard deviation.
        order: 0 to smooth, 1 for the slope of what is smooth.
    """
    single = np.eye(_TILE_PX + 2 * _REACH_PX)
    lines = ndimage.gaussian_filter1d(single, deviation_px, axis=0, order=order, mode="constant")
    return np.asarray(lines[_REACH_PX:-_REACH_PX], np.float32)


_FINE_FILTERS = _filter(_FINE, 0), _filter(_FINE, 1)
_COARSE_FILTERS = _filter(_COARSE, 0), _filter(_COARSE, 1)


def measure_quality(
    pixels: NDArray[np.uint8],
    factor: float,
    rbc_diameter_px: float,
    thumbnails: Thumbnails | None = None,
) -> Quality:
    """The quality of a whole field; neither tiles nor batches have a part in it.

    Args:
        pixels: the field (H, W, 3).
        factor: original pixels times this are the model's pixels.
        rbc_diameter_px: mean red-cell diameter at the model's scale.
        thumbnails: its views, where there are any.
    """
    to_one = factor / rbc_diameter_px  # original pixels times this are red cells
    image = (thumbnails or Thumbnails(pixels)).image
    thumbnail = resized(image, to_one * COARSE_PX).astype(np.float32)  # (h, w, 3)
    density = density_above_glass(thumbnail)  # (h, w, 3)
    stained = density.mean(axis=2) > STAINED_DENSITY  # (h, w)
    stained_percent = 100 * float(stained.mean())
    shows = stained_percent >= LEAST_STAINED_PERCENT
    return Quality(
        focus=_focus(image, to_one * _FINE_PX) if shows else None,
        exposure=float(np.percentile(thumbnail.mean(axis=2), _BACKGROUND_PERCENTILE)),
        clipped_percent=_clipped_percent(pixels),
        stain_balance=_stain_balance(density[stained]) if shows else None,
        stained_percent=stained_percent,
    )


def median_quality(
    fields: Sequence[NDArray[np.uint8]],
    factor: float,
    rbc_diameter_px: float,
    thumbnails: Thumbnails | None = None,
) -> Quality:
    """The quality of an image: of each figure the median over its sample fields, where known.

    Args:
        fields: the sample fields; an image that is held whole is its only one.
        factor: original pixels times this are the model's pixels.
        rbc_diameter_px: mean red-cell diameter at the model's scale.
        thumbnails: views of an image that is held whole, where there are any.
    """
    measured = [measure_quality(pixels, factor, rbc_diameter_px, thumbnails) for pixels in fields]
    medians: dict[str, Any] = {}  # only figures that may be unknown are so in any field
    for figure in dataclasses.fields(Quality):
        known = [v for m in measured if (v := getattr(m, figure.name)) is not None]
        medians[figure.name] = float(np.median(known)) if known else None
    return Quality(**medians)


def density_above_glass(thumbnail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density of each channel above the glass nearby, which uneven light leaves alone.

    Args:
        thumbnail: at ``COARSE_PX`` per red cell, (h, w, 3).
    """
    side = 2 * round(_BACKGROUND_CELLS * COARSE_PX / 2) + 1
    glass = ndimage.maximum_filter(thumbnail, size=(side, side, 1), mode="nearest")
    density: NDArray[np.float32] = np.log10((glass + 1) / (thumbnail + 1))
    return density


def _stain_balance(density: NDArray[np.float32]) -> float:
    """Return red's share of the density (N, 3) in the median stained pixel, high for a blue dye."""
    return float(np.median(density[:, 0] / density.sum(axis=1)))


def _clipped_percent(pixels: NDArray[np.uint8]) -> float:
    """Percent of pixels, on a regular grid, of which a channel is as dark or bright as can be."""
    step_y = max(1, pixels.shape[0] // _SAMPLES_PER_SIDE)
    step_x = max(1, pixels.shape[1] // _SAMPLES_PER_SIDE)
    sample = pixels[::step_y, ::step_x]
    # One more, and bytes begin anew: 255 becomes 0, and 0 becomes 1.
    clipped = (sample + np.uint8(1) < 2).ravel()
    # Of every three neighbours, since steps over memory take longer than passing over the results
    # that belong to two pixels.
    any_channel = (clipped[:-2] | clipped[1:-1] | clipped[2:])[::3]
    return 100 * (np.count_nonzero(any_channel) / len(any_channel))


def _focus(image: Image.Image, factor: float) -> float | None:
    """1 for perfectly sharp edges, 0 for hopeless ones; None without any detail.

    The slope of the gradient at the fine scale on that at the coarse scale, which noise, being
    fine and of no direction, hardly enters. For a straight edge blurred by b pixels it is
    sqrt((2 C² + 2 b²) / (F² + C² + 2 b²)) and falls from 1.34 to 1.
    """
    together = coarse_alone = 0.0
    for window in _windows(image, factor):
        red, green, blue = np.moveaxis(resized(window, factor), 2, 0)
        tiles, shown = _tiles(_LOG_BRIGHTNESS.take(red.astype(np.uint16) + green + blue))
        for down, across in ((0, 1), (1, 0)):
            fine = _FINE_FILTERS[down] @ tiles @ _FINE_FILTERS[across].T
            coarse = _COARSE_FILTERS[down] @ tiles @ _COARSE_FILTERS[across].T * shown
            together += float((fine * coarse).sum(dtype=np.float64))
            coarse_alone += float((coarse * coarse).sum(dtype=np.float64))
    if coarse_alone <= 0:
        return None
    sharpest = math.sqrt(2 * _COARSE**2 / (_FINE**2 + _COARSE**2))
    return (together / coarse_alone - 1) / (sharpest - 1)


def _tiles(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A grey picture (h, w) in tiles with what lies around them, and which of their pixels it has.

    Returns:
        Views (rows, columns, side, side), and a mask (rows, columns, tile, tile).
    """
    beyond = [-length % _TILE_PX for length in grey.shape]
    widths = [(_REACH_PX, _REACH_PX + more) for more in beyond]
    # Small numbers round less, and a flat picture has no detail at all.
    around = np.pad(grey - grey[0, 0], widths, mode="edge")
    side = _TILE_PX + 2 * _REACH_PX
    tiles = sliding_window_view(around, (side, side))[::_TILE_PX, ::_TILE_PX]
    inside = np.pad(np.ones(grey.shape, np.bool_), [(0, more) for more in beyond])
    return tiles, sliding_window_view(inside, (_TILE_PX, _TILE_PX))[::_TILE_PX, ::_TILE_PX]


def _windows(image: Image.Image, factor: float) -> Iterator[Image.Image]:
    side = max(1, round(_WINDOW_PX / factor))
    columns = _spans(image.width, side)
    for top, bottom in _spans(image.height, side):
        for left, right in columns:
            box = (left, top, right, bottom)
            yield image if box == (0, 0, *image.size) else image.crop(box)


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Places of equal spans spread over a length; all of it where the spans would overlap."""
    if length <= _WINDOWS * side:
        return [(0, length)]
    starts = np.linspace(0, length - side, _WINDOWS).round().astype(int).tolist()
    return [(start, start + side) for start in starts]
