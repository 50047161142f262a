"""What is asked of a scan as a whole, before it is counted window by window.

1. Up to 16 x 16 *spots* of 128 px, spread evenly over the scan, tell the colour of its glass, which
   gives the white balance, and where anything is stained.
2. Up to nine *sample fields* of 1024 px lie about stained spots, evenly chosen in the order of
   reading (about any spots where none is stained). Scale and quality are those of the sample
   fields: the medians.

All of it depends on the scan alone, not on how it is cut to windows or tiles.

Shapes: fields uint8 (h, w, 3) RGB; gains float32 (3,).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Quality
from cellcount.images.quality import STAINED_DENSITY, measure_quality
from cellcount.images.scale import sample_evenly
from cellcount.images.tiff_windows import Rect
from cellcount.images.white_balance import WHITE, apply_gains, white_balance_gains
from cellcount.images.whole_slide import Scan

_SPOTS, _SPOT_PX, _SPOT_STEP = 16, 128, 8
_FIELDS, _FIELD_PX = 9, 1024
#: Less of a spot stained is noise.
_STAINED_SHARE = 0.01


@dataclass(frozen=True, eq=False, slots=True)
class Survey:
    """A scan, sampled.

    Attributes:
        gains: white balance of the whole scan, float32 (3,).
        fields: the sample fields.
    """

    gains: NDArray[np.float32]
    fields: tuple[NDArray[np.uint8], ...]


def survey(scan: Scan) -> Survey:
    """Looks at spots all over a scan, then reads its sample fields.

    Raises:
        ImageError: it cannot be read.
    """
    side = min(_SPOT_PX, isqrt(scan.max_pixels), scan.width_px, scan.height_px)
    places = [
        Rect(x, y, side, side)
        for y in _spread(scan.height_px, side)
        for x in _spread(scan.width_px, side)
    ]
    step = max(1, side // (_SPOT_PX // _SPOT_STEP))
    thinned = [np.ascontiguousarray(s[::step, ::step]) for s in scan.read_all(places)]
    samples = np.stack([spot.reshape(-1, 3) for spot in thinned], axis=1)  # (side², N, 3)
    gains = white_balance_gains(samples)
    stained = [at for at, spot in enumerate(thinned) if _is_stained(spot, gains)]
    chosen = stained or list(range(len(places)))
    rects = [_about(places[chosen[i]], scan) for i in sample_evenly(len(chosen), _FIELDS)]
    return Survey(gains, tuple(scan.read_all(rects)))


def survey_quality(
    fields: Sequence[NDArray[np.uint8]], factor: float, rbc_diameter_px: float
) -> Quality:
    """The quality of a scan: of each figure the median over its sample fields, where known.

    Args:
        fields: the sample fields.
        factor: original pixels times this are the model's pixels.
        rbc_diameter_px: mean red-cell diameter at the model's scale.
    """
    measured = [measure_quality(pixels, factor, rbc_diameter_px) for pixels in fields]
    medians: dict[str, Any] = {}  # only figures that may be unknown are so in any field
    for figure in dataclasses.fields(Quality):
        known = [v for m in measured if (v := getattr(m, figure.name)) is not None]
        medians[figure.name] = float(np.median(known)) if known else None
    return Quality(**medians)


def _spread(length: int, side: int) -> list[int]:
    """Starts of spots: in the middle of each of equal parts of the length."""
    count = min(_SPOTS, max(1, length // side))
    middles = (np.arange(count) + 0.5) * length / count
    starts: list[int] = np.floor(middles - side / 2).astype(int).tolist()
    return starts


def _is_stained(spot: NDArray[np.uint8], gains: NDArray[np.float32]) -> bool:
    """Whether more than noise of it is clearly darker than the scan's glass."""
    balanced = apply_gains(spot, gains).astype(np.float32)
    density = np.log10((WHITE + 1) / (balanced + 1)).mean(axis=2)
    return bool((density > STAINED_DENSITY).mean() >= _STAINED_SHARE)


def _about(spot: Rect, scan: Scan) -> Rect:
    """The sample field about a spot, shifted into the scan."""
    side = min(_FIELD_PX, isqrt(scan.max_pixels))
    width, height = min(side, scan.width_px), min(side, scan.height_px)
    x = spot.x + spot.width // 2 - width // 2
    y = spot.y + spot.height // 2 - height // 2
    return Rect(
        min(max(x, 0), scan.width_px - width),
        min(max(y, 0), scan.height_px - height),
        width,
        height,
    )
