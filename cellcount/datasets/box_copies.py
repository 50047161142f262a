"""Copies of boxes: the same box more than once in one picture, exactly or nearly.

Shapes: N boxes of one image, float32 ``(N, 4)`` xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Two cells never overlap like this; two copies of a box do.
COPY_IOU = 0.95


def copies(boxes_xyxy: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Find pairs of boxes that are equal but for rounding, the earlier first."""
    order = np.lexsort(boxes_xyxy.T[::-1]) if len(boxes_xyxy) else np.zeros(0, np.int64)
    boxes = boxes_xyxy[order].astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # Boxes that overlap so much differ at the left by at most a twentieth of their width.
    ends = np.searchsorted(
        boxes[:, 0], boxes[:, 0] + (1 / COPY_IOU - 1) * (boxes[:, 2] - boxes[:, 0]), side="right"
    )
    for index, end in enumerate(ends.tolist()):
        others = boxes[index + 1 : end]
        if not len(others):
            continue
        low = np.maximum(boxes[index, :2], others[:, :2])
        high = np.minimum(boxes[index, 2:], others[:, 2:])
        both = np.prod(np.clip(high - low, 0, None), axis=1)
        iou = both / (areas[index] + areas[index + 1 : end] - both)
        for offset in np.flatnonzero(iou > COPY_IOU).tolist():
            first, second = sorted((int(order[index]), int(order[index + 1 + offset])))
            yield first, second


def without_copies(
    boxes_xyxy: NDArray[np.float32], labels: Sequence[str]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the boxes to keep, and pairs that are one box with two classes, which both stay."""
    dropped: set[int] = set()
    torn: list[tuple[int, int]] = []
    for first, second in sorted(copies(boxes_xyxy)):
        if labels[first].casefold() != labels[second].casefold():
            torn.append((first, second))
        elif first not in dropped:
            dropped.add(second)
    kept = [index for index in range(len(boxes_xyxy)) if index not in dropped]
    return kept, [pair for pair in torn if not dropped & set(pair)]
