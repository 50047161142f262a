"""Box arithmetic in numpy: area, overlap, clipping, scaling and non-maximum suppression.

Shapes: N boxes, M other boxes, P pairs of boxes.
Boxes are ``(N, 4)`` xyxy; x_max and y_max are the far edge, so a box is ``x_max - x_min`` wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]
Pairs = tuple[Indices, Indices, NDArray[np.float64]]

_BLOCK = 2048  # boxes decided together in nms; bounds the pairs held at once
_PAIR_BUDGET = 1 << 19  # candidate pairs whose overlap is computed at once


def area(boxes_xyxy: Floats) -> NDArray[np.float32]:
    """Area of each box in square pixels, ``(N,)``; 0 for boxes turned inside out."""
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def pairwise_iou(a_xyxy: Floats, b_xyxy: Floats) -> NDArray[np.float32]:
    """Intersection over union of every box of a with every box of b, ``(N, M)``; 0 if both empty.

    The whole matrix is built: for boxes of one image, not for a crowded slide (see `nms`).
    """
    a = a_xyxy.astype(np.float64)[:, None]  # (N, 1, 4)
    b = b_xyxy.astype(np.float64)[None]  # (1, M, 4)
    return _iou(a, b).astype(np.float32)


def clip(boxes_xyxy: Floats, width: float, height: float) -> NDArray[np.float32]:
    """Boxes cut to the image ``[0, width] x [0, height]``, ``(N, 4)``; none is removed."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes_xyxy.astype(np.float32), np.float32(0), limits)


def scale(boxes_xyxy: Floats, factor: float | tuple[float, float]) -> NDArray[np.float32]:
    """Boxes ``(N, 4)`` after the image is resized by factor or ``(factor_x, factor_y)``."""
    factor_x, factor_y = factor if isinstance(factor, tuple) else (factor, factor)
    factors = np.array([factor_x, factor_y, factor_x, factor_y], np.float64)
    return (boxes_xyxy * factors).astype(np.float32)


def touches_border(
    boxes_xyxy: Floats, width: float, height: float, tolerance_px: float
) -> NDArray[np.bool_]:
    """Whether each box comes within tolerance_px of an edge of the image, ``(N,)``."""
    near_start = (boxes_xyxy[:, :2] <= tolerance_px).any(axis=1)
    near_end = (boxes_xyxy[:, 2:] >= np.array([width, height]) - tolerance_px).any(axis=1)
    return np.asarray(near_start | near_end, np.bool_)


def score_order(boxes_xyxy: Floats, scores: Floats) -> Indices:
    """Indices by descending score; equal scores by y_min, x_min, y_max, x_max, then input order."""
    x_min, y_min, x_max, y_max = boxes_xyxy.T
    return np.lexsort((x_max, y_max, x_min, y_min, -scores))


def nms(
    boxes_xyxy: Floats,
    scores: Floats,
    iou_threshold: float,
    *,
    sources: NDArray[np.integer[Any]] | None = None,
    other_source_threshold: float | None = None,
) -> Indices:
    """Greedy non-maximum suppression: indices of the boxes kept, best first (see `score_order`).

    A box goes when a better kept box overlaps it with IoU above iou_threshold. Boxes of different
    ``sources`` ``(N,)`` (tiles, say) go from above ``other_source_threshold`` on, where given.

    Only boxes that lie close together are compared, block by block in order of score, so that
    50,000 boxes take a fraction of a second and memory stays proportional to N.
    """
    thresholds = (iou_threshold, iou_threshold)
    if sources is not None and other_source_threshold is not None:
        thresholds = (iou_threshold, other_source_threshold)
    if not all(0 <= value <= 1 for value in thresholds):
        raise ValueError(f"IoU thresholds must lie from 0 to 1, got {thresholds}")
    if not np.isfinite(boxes_xyxy).all():
        raise ValueError("boxes_xyxy must be finite, got NaN or infinity")
    order = score_order(boxes_xyxy, scores)
    ranked = boxes_xyxy[order].astype(np.float64)
    groups = np.zeros(len(order), np.intp) if sources is None else sources[order]

    kept = np.zeros(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        alive = np.ones(len(block), np.bool_)
        for first, _ in _conflicts(ranked, groups, block, kept, thresholds):
            alive[first] = False
        block = block[alive]
        mutual = _conflicts(ranked, groups, block, block, thresholds)
        conflicts = [(i[i < j], j[i < j]) for i, j in mutual]
        kept = np.concatenate([kept, block[_greedy(len(block), conflicts)]])
    return order[kept]


def _conflicts(
    boxes: NDArray[np.float64],
    groups: NDArray[Any],
    a: Indices,
    b: Indices,
    thresholds: tuple[float, float],
) -> Iterator[tuple[Indices, Indices]]:
    """Positions in a and in b of boxes that may not both be kept."""
    same_source, other_source = thresholds
    for i, j, iou in _close_pairs(boxes[a], boxes[b], min(thresholds)):
        limit = np.where(groups[a[i]] == groups[b[j]], same_source, other_source)
        both = iou > limit
        yield i[both], j[both]


def _greedy(count: int, conflicts: list[tuple[Indices, Indices]]) -> NDArray[np.bool_]:
    """Walk down the ranks: whoever is still there removes the lower ranks it conflicts with."""
    keep = np.ones(count, np.bool_)
    if not conflicts:
        return keep
    better = np.concatenate([i for i, _ in conflicts])
    worse = np.concatenate([j for _, j in conflicts])
    by_rank = np.argsort(better, kind="stable")
    worse = worse[by_rank]
    ends = np.cumsum(np.bincount(better, minlength=count))
    for rank in np.unique(better).tolist():
        if keep[rank]:
            keep[worse[ends[rank - 1] if rank else 0 : ends[rank]]] = False
    return keep


def _close_pairs(
    a: NDArray[np.float64], b: NDArray[np.float64], iou_threshold: float
) -> Iterator[Pairs]:
    """All ``(i, j, IoU(a[i], b[j]))`` above iou_threshold, in pieces of bounded size.

    Two boxes with IoU > t have sides within a factor t of each other, and centres less than
    ``(1 - t) * longer side`` apart on each axis. Hence boxes are compared octave by octave of
    size (one huge box costs little), and within an octave with their neighbourhood alone.
    """
    octaves_a, octaves_b = _octaves(a), _octaves(b)
    for octave_a, members_a in octaves_a.items():
        for octave_b, members_b in octaves_b.items():
            gap = abs(octave_a - octave_b)
            if 2.0 ** (1 - gap) <= iou_threshold:
                continue
            side = 2.0 ** (max(octave_a, octave_b) + 1)
            # a tenth of the side at least, so that rows stay wide when the threshold is near 1
            reach = max(1 - iou_threshold, 0.1) * side
            for i, j in _neighbours(a[members_a], b[members_b], reach):
                pair_a, pair_b = members_a[i], members_b[j]
                iou = _iou(a[pair_a], b[pair_b])
                above = iou > iou_threshold
                yield pair_a[above], pair_b[above], iou[above]


def _octaves(boxes: NDArray[np.float64]) -> dict[int, Indices]:
    """Indices by the octave of the longer side; boxes without area overlap nothing, so none."""
    sides = boxes[:, 2:] - boxes[:, :2]
    solid = np.flatnonzero((sides > 0).all(axis=1))
    octaves = np.floor(np.log2(sides[solid].max(axis=1, initial=0))).astype(np.intp)
    return {int(octave): solid[octaves == octave] for octave in np.unique(octaves)}


def _neighbours(
    a: NDArray[np.float64], b: NDArray[np.float64], reach: float
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs whose centres may be within reach of each other on both axes, piece by piece.

    Centres of b are sorted along rows of height reach; each a looks at a stretch of three rows.
    """
    centres_a, centres_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    origin = np.minimum(centres_a.min(axis=0), centres_b.min(axis=0)) - 2 * reach
    centres_a, centres_b = centres_a - origin, centres_b - origin
    stride = max(centres_a[:, 0].max(), centres_b[:, 0].max()) + 4 * reach  # length of a row
    rows_a, rows_b = np.floor(centres_a[:, 1] / reach), np.floor(centres_b[:, 1] / reach)
    keys = rows_b * stride + centres_b[:, 0]
    by_key = np.argsort(keys, kind="stable")
    keys = keys[by_key]
    for row in (-1, 0, 1):
        wanted = (rows_a + row) * stride + centres_a[:, 0]
        low = np.searchsorted(keys, wanted - 1.001 * reach, side="left")
        high = np.searchsorted(keys, wanted + 1.001 * reach, side="right")
        for i, offset in _expand(high - low):
            yield i, by_key[low[i] + offset]


def _expand(counts: Indices) -> Iterator[tuple[Indices, Indices]]:
    """For counts (2, 0, 3): (0, 0), (0, 1), (2, 0), (2, 1), (2, 2); a bounded number at a time."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIR_BUDGET):
        position = np.arange(start, min(start + _PAIR_BUDGET, total))
        index = np.searchsorted(ends, position, side="right")
        yield index, position - (ends[index] - counts[index])


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes paired by broadcasting over all but the last axis."""
    top_left = np.maximum(a[..., :2], b[..., :2])
    bottom_right = np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(bottom_right - top_left, 0, None), axis=-1)
    area_a = np.prod(np.clip(a[..., 2:] - a[..., :2], 0, None), axis=-1)
    area_b = np.prod(np.clip(b[..., 2:] - b[..., :2], 0, None), axis=-1)
    union = area_a + area_b - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))
