"""Detection on one field: resized to the model's scale, cut into tiles, merged.

The same few lines serve analysis, validation and evaluation: balance of colours, resize, tiles,
engine, merge, and back to the pixels of the original.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.core.tile_merge import merge
from cellcount.core.tiles import Tile, split
from cellcount.engines.base import Engine
from cellcount.engines.field_colours import in_model_colours
from cellcount.errors import DeviceMemoryError
from cellcount.images.scale import resize

_LEAST_TILE_PX = 256
#: Each image takes memory while it is looked at, which a machine of many processors may lack.
_MOST_AT_ONCE = 8


class Found(NamedTuple):
    """Detections of a field, and whether the model's limit may have cut some off.

    Attributes:
        detections: the cells.
        capped: whether a tile held more than the model's limit of them.
        short_of_memory: side of the smaller tiles that had to do, 0 where memory sufficed.
    """

    detections: Detections
    capped: bool
    short_of_memory: int = 0


class FieldDetector:
    """Detects cells on whole fields of any size.

    Args:
        engine: the loaded model.
        tile_px: side of the largest tile at the model's scale, 0 for the card's.
    """

    def __init__(self, engine: Engine, tile_px: int = 0) -> None:
        self.engine = engine
        self._tile_px = tile_px or engine.card.inference.tile_px

    @property
    def images_at_once(self) -> int:
        """Images to look at side by side: as many as the engine has threads, within memory."""
        return min(_MOST_AT_ONCE, self.engine.tiles_at_once)

    def detect(self, pixels: NDArray[np.uint8], factor: float) -> Found:
        """Detect all cells above the card's score floor, in original pixels, best score first.

        Args:
            pixels: the whole field.
            factor: original pixels times this are the model's pixels.

        Raises:
            DeviceMemoryError: memory is short even for a single tile of the smallest size.
        """
        longest = round(max(pixels.shape[:2]) * factor)
        return self.with_tiles_that_fit(longest, lambda side: self._detect(pixels, factor, side))

    def with_tiles_that_fit(self, longest_px: int, detect: Callable[[int], Found]) -> Found:
        """Return the detections with the largest tiles for which memory suffices.

        Args:
            longest_px: the longer side of the picture at the model's scale.
            detect: looks at the whole picture with tiles of a given side.

        Raises:
            DeviceMemoryError: memory is short even for a single tile of the smallest size.
        """
        tile_px = self._tile_px
        while True:
            try:
                found = detect(tile_px)
            except DeviceMemoryError as error:
                smaller = _smaller_tile(tile_px, longest_px)
                if smaller < _LEAST_TILE_PX:
                    raise DeviceMemoryError(
                        f"{error}, even for one tile of {tile_px} px; close other programs, or "
                        "use another --device"
                    ) from error
                tile_px = smaller
            else:
                return found._replace(short_of_memory=tile_px if tile_px < self._tile_px else 0)

    def _detect(self, pixels: NDArray[np.uint8], factor: float, tile_px: int) -> Found:
        field, tiles = self.tiles_of(pixels, factor, tile_px)
        height, width = field.shape[:2]
        found = self.engine.detect([cut(field, tile) for tile in tiles])
        parts = list(zip(tiles, found, strict=True))
        return self.merged(parts, (width, height), (pixels.shape[1], pixels.shape[0]))

    def merged(
        self,
        parts: Sequence[tuple[Tile, Detections]],
        size_px: tuple[int, int],
        original_px: tuple[int, int],
    ) -> Found:
        """Merge the detections of the tiles of a field, in original pixels.

        Args:
            parts: tiles, each with its detections in pixels of the tile.
            size_px: width and height of the field at the model's scale.
            original_px: its own width and height.
        """
        (width, height), card = size_px, self.engine.card
        merged = merge(
            parts, width_px=width, height_px=height, iou_threshold=card.inference.dedupe_iou
        )
        back = np.array([original_px[0] / width, original_px[1] / height] * 2, dtype=np.float32)
        detections = Detections(merged.boxes_xyxy * back, merged.scores, merged.labels)
        return Found(detections, any(self._is_capped(part) for _, part in parts))

    def tiles_of(
        self, pixels: NDArray[np.uint8], factor: float, tile_px: int = 0
    ) -> tuple[NDArray[np.uint8], tuple[Tile, ...]]:
        """The field at the model's scale, balanced as its card says, and the tiles it is cut to."""
        card = self.engine.card
        field = in_model_colours(resize(pixels, factor), pixels, card.preprocessing)
        return field, self.tiles_for(field.shape[1], field.shape[0], tile_px)

    def tiles_for(self, width_px: int, height_px: int, tile_px: int = 0) -> tuple[Tile, ...]:
        """The tiles of a field of that size at the model's scale, row by row; 0 for its own.

        They begin at multiples of what the model pads to, so on places of its coarsest stride:
        cells look the same to it in tiles of any size.
        """
        card, side = self.engine.card, tile_px or self._tile_px
        grid = card.preprocessing.pad_multiple
        margin = max(0, min(card.tile_margin_px, (side - grid) // 2))
        return split(width_px, height_px, tile_px=side, margin_px=margin, grid_px=grid)

    def _is_capped(self, part: Detections) -> bool:
        """Return whether the limit may have cut off detections good enough to be counted."""
        card = self.engine.card
        if len(part) < card.inference.max_detections:
            return False
        least = min(card.threshold_of(c.id) for c in card.classes)
        return bool(part.scores.min() >= np.float32(least))


def cut(field: NDArray[np.uint8], tile: Tile) -> NDArray[np.uint8]:
    """The pixels of a tile."""
    return field[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def _smaller_tile(tile_px: int, field_px: int) -> int:
    """Half a tile, or half the field where that is smaller already, in steps of 32 px."""
    return min(tile_px, field_px) // 64 * 32
