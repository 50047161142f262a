"""Put the detections of a field's tiles together so that every cell is counted once.

1. Boxes are moved from the tile to the field and cut to the field.
2. A cell belongs to the tile whose core holds the centre of its box. Two tiles place the same
   centre a pixel or two apart, so that each might assign the cell to the other: centres up to
   ``tolerance_px`` outside the core stay in, unless the tile's own border cuts the cell.
   A cell that is cut although its centre is in the core is larger than the margin allows and
   stays: better a short box than a lost cell.
3. One suppression removes the rest: boxes of different tiles above ``twin_iou`` are the same cell
   seen twice, boxes of one tile above ``iou_threshold`` the same cell under two classes. Both
   ignore the class, since two tiles may also disagree about it.

Where two copies differ, the higher score stays; equal scores are decided by position, then class,
then tile, so the result never depends on the order in which tiles were finished.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.core import boxes
from cellcount.core.nms import ANY_CLASS_NMS_IOU, OTHER_TILE_NMS_IOU, nms
from cellcount.core.records import Detections
from cellcount.core.tiles import Tile

TOLERANCE_PX = 4.0

_BORDER_PX = 1.0  # a box that ends this close to the tile's border is taken to be cut by it


def merge(
    parts: Sequence[tuple[Tile, Detections]],
    *,
    width_px: int,
    height_px: int,
    iou_threshold: float = ANY_CLASS_NMS_IOU,
    tolerance_px: float = TOLERANCE_PX,
    twin_iou: float = OTHER_TILE_NMS_IOU,
) -> Detections:
    """The cells of a field from the cells of its tiles, best score first.

    A field of one tile only loses cells found under two classes (and what lies outside it).

    Args:
        parts: tiles in any order, each with its detections in pixels of the tile.
        width_px, height_px: size of the field the tiles were cut from.
        iou_threshold: IoU above which two boxes of one tile are one cell, whatever the class.
        tolerance_px: how far outside its core a tile may still claim a centre; at least the
            distance by which a detected centre is off, well below the margin.
        twin_iou: IoU above which boxes of two tiles are one cell.

    Returns:
        Detections in pixels of the field.
    """
    parts = sorted(parts, key=lambda part: (part[0].y, part[0].x))
    claimed = [_claim(tile, cells, width_px, height_px, tolerance_px) for tile, cells in parts]
    cells = Detections.concatenate(claimed)
    tiles = np.repeat(np.arange(len(claimed)), [len(part) for part in claimed])
    by_class = np.argsort(cells.labels, kind="stable")
    cells, tiles = cells[by_class], tiles[by_class]
    kept = nms(
        cells.boxes_xyxy,
        cells.scores,
        iou_threshold,
        sources=tiles,
        other_source_threshold=min(twin_iou, iou_threshold),
    )
    return cells[kept]


def _claim(
    tile: Tile, cells: Detections, width_px: int, height_px: int, tolerance_px: float
) -> Detections:
    """Choose the cells of one tile that the tile owns, in pixels of the field."""
    offset = np.array([tile.x, tile.y, tile.x, tile.y], np.float32)
    in_field = boxes.clip(cells.boxes_xyxy + offset, width_px, height_px)
    centres = (in_field[:, :2] + in_field[:, 2:]) / 2
    whole = ~_cut(tile, in_field, width_px, height_px)
    mine = tile.owns(centres) | (tile.owns(centres, tolerance_px) & whole)
    mine &= boxes.area(in_field) > 0
    return Detections(in_field[mine], cells.scores[mine], cells.labels[mine])


def _cut(
    tile: Tile, boxes_xyxy: NDArray[np.float32], width_px: int, height_px: int
) -> NDArray[np.bool_]:
    """Return whether boxes ``(N, 4)`` touch a border of the tile that is not one of the field."""
    x_min, y_min, x_max, y_max = boxes_xyxy.T
    right, lower = tile.x + tile.width, tile.y + tile.height
    cut = np.zeros(len(boxes_xyxy), np.bool_)
    if tile.x > 0:
        cut |= x_min <= tile.x + _BORDER_PX
    if tile.y > 0:
        cut |= y_min <= tile.y + _BORDER_PX
    if right < width_px:
        cut |= x_max >= right - _BORDER_PX
    if lower < height_px:
        cut |= y_max >= lower - _BORDER_PX
    return cut
