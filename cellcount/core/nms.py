"""Non-maximum suppression: the best box of every cell is kept, in numpy and in bounded memory.

The overlaps from which two boxes are one cell stand here. A model's card may state its own
(``nms_iou``, ``dedupe_iou``); these are the values where it states none.

Shapes: N boxes ``(N, 4)`` xyxy, P pairs of boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.boxes import Floats, Indices, broadcast_iou, score_order

#: Two proposals of the first stage are one.
PROPOSAL_NMS_IOU = 0.7
#: Two detections of one class are one cell.
SAME_CLASS_NMS_IOU = 0.5
#: Two detections of different classes are one cell.
ANY_CLASS_NMS_IOU = 0.7
#: Detections of two tiles are one cell, whatever their class.
OTHER_TILE_NMS_IOU = 0.5

Pairs = tuple[Indices, Indices, NDArray[np.float64]]

_BLOCK = 2048  # boxes decided together in nms; bounds the pairs held at once
_FEW_PAIRS = 1 << 14  # so many are compared sooner than those that lie close are found
_PAIR_BUDGET = 1 << 19  # candidate pairs whose overlap is computed at once


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
    """Go down the ranks: each box that is still kept removes lower ones that overlap it."""
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
    if len(a) * len(b) <= _FEW_PAIRS:
        iou = broadcast_iou(a[:, None], b[None])
        i, j = np.nonzero(iou > iou_threshold)
        yield i, j, iou[i, j]
        return
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
                iou = broadcast_iou(a[pair_a], b[pair_b])
                above = iou > iou_threshold
                yield pair_a[above], pair_b[above], iou[above]


def _octaves(boxes: NDArray[np.float64]) -> dict[int, Indices]:
    """Group the indices of boxes by the octave of their longer side, without boxes of no area."""
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
