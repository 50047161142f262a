"""Merging, compared with the rule written out as loops over every pair of boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount.core.nms import ANY_CLASS_NMS_IOU, OTHER_TILE_NMS_IOU
from cellcount.core.records import Detections
from cellcount.core.tile_merge import TOLERANCE_PX, merge
from cellcount.core.tiles import Tile, split

Box = tuple[float, float, float, float]
Row = tuple[float, float, float, float, float, int, int]  # box, score, label, number of the tile


def iou(a: Box, b: Box) -> float:
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = across * down
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def claimed(tile: Tile, box: Box, width: int, height: int) -> bool:
    """Rule 2 of ``tiles.merge``."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x0, y0, x1, y1 = tile.core
    if x0 <= x < x1 and y0 <= y < y1:
        return True
    near = x0 - TOLERANCE_PX <= x < x1 + TOLERANCE_PX and y0 - TOLERANCE_PX <= y < y1 + TOLERANCE_PX
    cut = (
        (tile.x > 0 and box[0] <= tile.x + 1)
        or (tile.y > 0 and box[1] <= tile.y + 1)
        or (tile.x + tile.width < width and box[2] >= tile.x + tile.width - 1)
        or (tile.y + tile.height < height and box[3] >= tile.y + tile.height - 1)
    )
    return near and not cut


def by_loops(parts: list[tuple[Tile, Detections]], width: int, height: int) -> list[Row]:
    rows: list[Row] = []
    for number, (tile, found) in enumerate(parts):
        boxes = found.boxes_xyxy + np.array([tile.x, tile.y] * 2, np.float32)
        for box, score, label in zip(
            boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            inside = (
                min(max(box[0], 0.0), width), min(max(box[1], 0.0), height),
                min(max(box[2], 0.0), width), min(max(box[3], 0.0), height),
            )  # fmt: skip
            solid = inside[2] > inside[0] and inside[3] > inside[1]
            if solid and claimed(tile, inside, width, height):
                rows.append((*inside, score, label, number))
    rows.sort(key=lambda r: (-r[4], r[1], r[0], r[3], r[2], r[5], r[6]))
    kept: list[Row] = []
    for row in rows:
        limits = (OTHER_TILE_NMS_IOU if row[6] != other[6] else ANY_CLASS_NMS_IOU for other in kept)
        pairs = zip(kept, limits, strict=True)
        if not any(iou(row[:4], other[:4]) > limit for other, limit in pairs):
            kept.append(row)
    return kept


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(60, 420),
    height=st.integers(60, 420),
    count=st.integers(0, 60),
    levels=st.sampled_from([2, 10**6]),
    most=st.sampled_from([20, 90]),
)
def test_merging_is_the_rule_written_out(
    seed: int, width: int, height: int, count: int, levels: int, most: int
) -> None:
    """Whole numbers, so that nothing hangs on rounding; few score levels make many ties."""
    rng = np.random.default_rng(seed)
    tiles = split(width, height, tile_px=160, margin_px=40)
    parts = []
    for tile in tiles:
        corner = rng.integers(-5, [tile.width, tile.height], (count, 2))
        size = rng.integers(1, most, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        boxes = np.clip(boxes, 0, [tile.width, tile.height] * 2).astype(np.float32)
        scores = (rng.integers(0, levels, count) / levels).astype(np.float32)
        parts.append((tile, Detections(boxes, scores, rng.integers(0, 3, count))))
    found = merge(parts, width_px=width, height_px=height)
    expected = by_loops(parts, width, height)
    assert found.boxes_xyxy.tolist() == [list(row[:4]) for row in expected]
    assert found.scores.tolist() == [row[4] for row in expected]
    assert found.labels.tolist() == [row[5] for row in expected]
