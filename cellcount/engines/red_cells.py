"""Quick estimate of the size of red cells of a field, in its own pixels.

The detector itself looks at a reduced view; it was trained over a wide range of scales. If what it
sees is far from its own scale, it looks again nearer to it. The result resizes images, and is
never reported as a measurement.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import Detections
from cellcount.engines.base import Engine
from cellcount.engines.field_colours import in_model_colours
from cellcount.images.scale import resize

_VIEW_PX = 320
_SCORE = 0.5
_FEWEST, _REDS_PER_WHITE = 3, 2
_NEAR = 2.0
_ROUNDS = 4
#: Zooms tried, relative to the first view, where no red cells are seen.
_ZOOMS = (1.0, 2.5, 0.4, 6.0, 15.0)
#: The first view of a huge field is a part of it; the whole would show its cells as dots.
_LEAST_START = 0.15
_SMALLEST, _LARGEST = 1 / 32, 8.0
#: Smaller red cells cannot be told from JPEG's blocks.
SMALLEST_FOUND_PX = 19.0


def red_cell_diameter_px(engine: Engine, pixels: NDArray[np.uint8]) -> float | None:
    """Median diameter of whole red cells, None where fewer than three are seen at any zoom."""
    if RBC not in [c.id for c in engine.card.classes]:
        return None
    start = min(1.0, max(_LEAST_START, _VIEW_PX / max(pixels.shape[:2])))
    target = engine.card.rbc_diameter_px
    for zoom in _ZOOMS:
        factor: float = start * zoom
        for _ in range(_ROUNDS):
            if not _SMALLEST <= factor <= _LARGEST:
                break
            seen = _median_at(engine, pixels, factor)
            if seen is None:
                break
            factor_found = factor * target / seen
            if 1 / _NEAR <= seen / target <= _NEAR:
                diameter_px = seen / factor
                if diameter_px < SMALLEST_FOUND_PX:
                    break
                return diameter_px
            factor = factor_found
    return None


def found_diameter_px(engine: Engine, found: Detections, size_px: tuple[int, int]) -> float | None:
    """Median diameter of the whole red cells that were found at one scale only.

    None for fewer than three, and where there are not clearly more red cells than white ones: at
    several times its size a red cell looks like a white one, and a platelet like a red one.

    Args:
        engine: that found them.
        found: in any pixels.
        size_px: width and height of the picture in the same pixels.
    """
    ids = [c.id for c in engine.card.classes]
    if RBC not in ids:
        return None
    labels = found.labels[found.scores >= _SCORE]
    whites = int((labels == ids.index(WBC)).sum()) if WBC in ids else 0
    if (labels == ids.index(RBC)).sum() < _REDS_PER_WHITE * whites:
        return None
    return _median_diameter_px(found, ids.index(RBC), size_px)


def _median_diameter_px(found: Detections, label: int, size_px: tuple[int, int]) -> float | None:
    """Median diameter of whole cells, None for fewer than three."""
    is_sure = (found.labels == label) & (found.scores >= _SCORE)
    boxes, (width, height) = found.boxes_xyxy[is_sure], size_px
    whole = (boxes[:, :2] > 1).all(1) & (boxes[:, 2] < width - 1) & (boxes[:, 3] < height - 1)
    sides = boxes[whole, 2:] - boxes[whole, :2]
    if len(sides) < _FEWEST:
        return None
    return float(np.median(np.sqrt(sides[:, 0] * sides[:, 1])))


def _median_at(engine: Engine, pixels: NDArray[np.uint8], factor: float) -> float | None:
    """Median diameter in pixels of the view, None with fewer than three whole cells."""
    view = in_model_colours(_central_view(pixels, factor), pixels, engine.card.preprocessing)
    red = [c.id for c in engine.card.classes].index(RBC)
    return _median_diameter_px(engine.detect([view])[0], red, (view.shape[1], view.shape[0]))


def _central_view(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The middle of the field at ``factor``, at most 1.5 views wide and high."""
    most = round(1.5 * _VIEW_PX / factor)
    height, width = pixels.shape[:2]
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return resize(np.ascontiguousarray(pixels[top : top + most, left : left + most]), factor)
