"""Large fields in pieces: core-and-margin tiles, and their detections put together again."""

from __future__ import annotations

from cellcount.tiles.merge import merge
from cellcount.tiles.split import Tile, split

__all__ = ["Tile", "merge", "split"]
