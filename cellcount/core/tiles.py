"""Cut a field into overlapping tiles, each owning a core of the field.

The cores partition the field; a cell belongs to the tile whose core holds its centre. Around its
core every tile sees a margin, so that the cells it owns are seen whole. All tiles begin on one
grid: a model with strides sees a cell a little differently on each pixel of its coarsest stride, so
tiles of any size must cut the field in step with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the field, in pixels of the field.

    Attributes:
        x, y: upper left corner.
        width, height: size.
        core: ``(x0, y0, x1, y1)``, half-open; the part of the field this tile owns.
    """

    x: int
    y: int
    width: int
    height: int
    core: tuple[int, int, int, int]

    def owns(
        self, centres_xy: NDArray[np.floating[Any]], tolerance_px: float = 0
    ) -> NDArray[np.bool_]:
        """Return whether centres ``(N, 2)`` lie in the core grown by tolerance_px, ``(N,)``."""
        x0, y0, x1, y1 = self.core
        start = np.array([x0, y0]) - tolerance_px
        end = np.array([x1, y1]) + tolerance_px
        return np.asarray(((centres_xy >= start) & (centres_xy < end)).all(axis=1))


def split(
    width_px: int, height_px: int, *, tile_px: int, margin_px: int, grid_px: int = 1
) -> tuple[Tile, ...]:
    """The tiles of a field, row by row.

    A field no larger than a tile is one tile of its own size. A larger one takes the fewest tiles
    whose cores stay margin_px or more away from every inner tile edge. They begin on the grid, are
    spread evenly, and measure tile_px, or the field's own size along a side shorter than that; the
    last of a row or column ends with the field and may be shorter by less than a step of the grid.

    Args:
        width_px, height_px: size of the field.
        tile_px: longest side of a tile.
        margin_px: as long as the largest cell, so that every cell is seen whole by its owner.
        grid_px: tiles begin at multiples of it.

    Raises:
        UsageError: the margins leave no core in a tile that is needed.
        ValueError: a size is not positive.
    """
    if min(width_px, height_px, tile_px, grid_px) < 1 or margin_px < 0:
        raise ValueError(
            "expected width_px, height_px, tile_px and grid_px of 1 or more and margin_px of 0 or "
            f"more, got {width_px}, {height_px}, {tile_px}, {grid_px} and {margin_px}"
        )
    columns = _spread(width_px, tile_px, margin_px, grid_px)
    rows = _spread(height_px, tile_px, margin_px, grid_px)
    return tuple(
        Tile(x, y, min(tile_px, width_px - x), min(tile_px, height_px - y), (x0, y0, x1, y1))
        for y, y0, y1 in rows
        for x, x0, x1 in columns
    )


def _spread(length: int, tile: int, margin: int, grid: int) -> list[tuple[int, int, int]]:
    """``(start, core start, core end)`` of the tiles along one axis."""
    if length <= tile:
        return [(0, 0, length)]
    most = (tile - 2 * margin) // grid  # steps of the grid from one tile to the next
    if most < 1:
        raise UsageError(
            f"a tile of {tile} px with a margin of {margin} px on either side has no core of "
            f"{grid} px left; use tiles of {2 * margin + grid} px or more, or a smaller margin"
        )
    steps = -(-(length - tile) // grid)  # to the last tile
    count = -(-steps // most) + 1
    starts = [index * steps // (count - 1) * grid for index in range(count)]
    # neighbours share at least two margins; the seam runs through the middle of what they share
    seams = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    return list(zip(starts, [0, *seams], [*seams, length], strict=True))
