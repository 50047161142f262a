"""From the pixels of one field to the detections on it, at the scale the model knows.

The same few lines serve analysis, validation and evaluation: white balance, resize, tiles, engine,
merge, and back to the pixels of the original.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels of the original image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.engines.base import Engine
from cellcount.images.color import apply_gains, white_balance_gains
from cellcount.images.scale import resize
from cellcount.records import Detections
from cellcount.tiles.merge import merge
from cellcount.tiles.split import Tile, split


class Found(NamedTuple):
    """Detections of a field, and whether a tile held more than the model's limit of them."""

    detections: Detections
    capped: bool


class FieldDetector:
    """Detects cells on whole fields of any size.

    Args:
        engine: the loaded model.
        tile_px: side of the largest tile at the model's scale, 0 for the card's.
    """

    def __init__(self, engine: Engine, tile_px: int = 0) -> None:
        self.engine = engine
        self._tile_px = tile_px or engine.card.inference.tile_px

    def detect(self, pixels: NDArray[np.uint8], factor: float) -> Found:
        """Everything above the card's score floor, in original pixels, best score first.

        Args:
            pixels: the whole field.
            factor: original pixels times this are the model's pixels.
        """
        card = self.engine.card
        field, tiles = self.tiles_of(pixels, factor)
        height, width = field.shape[:2]
        found = self.engine.detect([cut(field, tile) for tile in tiles])
        merged = merge(
            list(zip(tiles, found, strict=True)),
            width_px=width,
            height_px=height,
            iou_threshold=card.inference.dedupe_iou,
        )
        back = np.array([pixels.shape[1] / width, pixels.shape[0] / height] * 2, dtype=np.float32)
        detections = Detections(merged.boxes_xyxy * back, merged.scores, merged.labels)
        return Found(detections, any(self._is_capped(part) for part in found))

    def tiles_of(
        self, pixels: NDArray[np.uint8], factor: float
    ) -> tuple[NDArray[np.uint8], tuple[Tile, ...]]:
        """The field at the model's scale, balanced as its card says, and the tiles it is cut to."""
        card = self.engine.card
        field = resize(pixels, factor)
        if card.preprocessing.white_balance:
            field = apply_gains(field, white_balance_gains(pixels))
        margin = min(card.inference.margin_px, self._tile_px // 2 - 16)
        height, width = field.shape[:2]
        return field, split(width, height, tile_px=self._tile_px, margin_px=margin)

    def _is_capped(self, part: Detections) -> bool:
        """Whether the limit may have cut off detections good enough to be counted."""
        card = self.engine.card
        if len(part) < card.inference.max_detections:
            return False
        least = min(card.threshold_of(c.id) for c in card.classes)
        return bool(part.scores.min() >= np.float32(least))


def cut(field: NDArray[np.uint8], tile: Tile) -> NDArray[np.uint8]:
    """The pixels of a tile."""
    return field[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
