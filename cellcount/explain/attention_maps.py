"""Attention of a model for one cell, recorded while its tile is detected again.

Both engines call the same module, so this serves both.

Shapes: R regions of a tile, T looks, A attention heads, L places; boxes xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cellcount.core.boxes import clip, pairwise_iou
from cellcount.core.tiles import Tile
from cellcount.engines.batching import BatchedEngine
from cellcount.engines.field_detector import FieldDetector, cut
from cellcount.errors import CellcountError, UsageError
from cellcount.explain.picture import AttentionTrace
from cellcount.models.attention import AttentionRefinement, Refined

_SAME_CELL = 0.9  # clipping and rounding to 0.01 px leave less than this of a tiny cell alone


class _Seen(NamedTuple):
    """Recorded call of attention refinement: the boxes it started from (R, 4), and its output."""

    start: Tensor
    refined: Refined


def refinement_of(detector: FieldDetector) -> AttentionRefinement:
    """The module of attention refinement of a model.

    Raises:
        UsageError: the model has none.
    """
    engine = detector.engine
    module = engine.refinement if isinstance(engine, BatchedEngine) else None
    if module is None:
        raise UsageError(
            f"{engine.card.name!r} looks at every cell once, so there is no second look to "
            "explain; name a model with attention refinement, such as one trained with "
            "train detector --refine-steps 2"
        )
    return module


def attention_at(
    detector: FieldDetector,
    pixels: NDArray[np.uint8],
    factor: float,
    box_xyxy: NDArray[np.float32],
) -> AttentionTrace:
    """Trace the model's attention for the cell with this box, as it is found on this image.

    Args:
        detector: as it found the cell.
        pixels: the whole image.
        factor: original pixels times this are the model's pixels.
        box_xyxy: the cell, (4,) in original pixels.

    Raises:
        UsageError: the model has no second look.
        CellcountError: the cell was not looked at again.
    """
    module = refinement_of(detector)
    field, tiles = detector.tiles_of(pixels, factor)
    height, width = field.shape[:2]
    back = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
    centre = (box_xyxy[:2] + box_xyxy[2:]) / 2 / back
    best, found = 0.0, None
    for tile in tiles:
        if not _shows(tile, centre):
            continue
        with _watched(module) as calls:
            detector.engine.detect([cut(field, tile)])
        for seen in calls:
            ends = _on_image(seen.refined.boxes[-1], tile, back).astype(np.float32)
            last = clip(ends, pixels.shape[1], pixels.shape[0])
            overlaps = pairwise_iou(box_xyxy[None], last)[0]
            region = int(overlaps.argmax())
            if overlaps[region] > best:
                best, found = float(overlaps[region]), (seen, region, tile)
    if found is None or best < _SAME_CELL:
        raise CellcountError(
            "the model did not look at this cell again: its first score was too low to be worth it"
        )
    return _trace(*found, back, module)


def _trace(
    seen: _Seen,
    region: int,
    tile: Tile,
    back: NDArray[np.float64],
    module: AttentionRefinement,
) -> AttentionTrace:
    """Attention of one region at every step, in pixels of the image."""
    start, refined = seen
    boxes = np.concatenate(
        [
            _on_image(start[region][None], tile, back),
            _on_image(refined.boxes[:, region], tile, back),
        ]
    )
    places = _array(refined.centres[region])
    sizes = [_pitch(places[:, axis]) * back[axis] for axis in (0, 1)]
    on_image = (places + np.array([tile.x, tile.y])) * back
    return AttentionTrace(boxes, _array(refined.weights[:, region]), on_image, (sizes[0], sizes[1]))


def _shows(tile: Tile, centre_xy: NDArray[np.floating[Any]]) -> bool:
    """Return whether a point of the field lies in the tile."""
    x, y = centre_xy.tolist()
    return bool(tile.x <= x <= tile.x + tile.width and tile.y <= y <= tile.y + tile.height)


def _on_image(boxes: Tensor, tile: Tile, back: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (R, 4) of a tile in pixels of the image."""
    moved: NDArray[np.float64] = (_array(boxes) + np.array([tile.x, tile.y] * 2)) * np.tile(back, 2)
    return moved


def _pitch(positions: NDArray[np.float64]) -> float:
    """Distance between neighbours along one axis."""
    steps = np.diff(np.unique(positions.round(3)))
    return float(steps.min()) if len(steps) else 1.0


def _array(tensor: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = tensor.detach().double().cpu().numpy()
    return found


@contextmanager
def _watched(module: AttentionRefinement) -> Iterator[list[_Seen]]:
    """Record the calls of the module within the block."""
    calls: list[_Seen] = []

    def note(_module: nn.Module, arguments: tuple[Any, ...], refined: Refined) -> None:
        calls.append(_Seen(arguments[1], refined))

    hook = module.register_forward_hook(note)
    try:
        yield calls
    finally:
        hook.remove()
