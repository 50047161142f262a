"""Box arithmetic in numpy: area, overlap, clipping, scaling and order.

Shapes: N boxes, M other boxes, P pairs of boxes.
Boxes are ``(N, 4)`` xyxy; x_max and y_max are the far edge, so a box is ``x_max - x_min`` wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]
Pairs = tuple[Indices, Indices, NDArray[np.float64]]


def area(boxes_xyxy: Floats) -> NDArray[np.float32]:
    """Area of each box in square pixels, ``(N,)``; 0 for boxes turned inside out."""
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def pairwise_iou(a_xyxy: Floats, b_xyxy: Floats) -> NDArray[np.float32]:
    """Intersection over union of every box of a with every box of b, ``(N, M)``; 0 if both empty.

    The whole matrix is built: for boxes of one image, not for a crowded slide (see ``core.nms``).
    """
    a = a_xyxy.astype(np.float64)[:, None]  # (N, 1, 4)
    b = b_xyxy.astype(np.float64)[None]  # (1, M, 4)
    return broadcast_iou(a, b).astype(np.float32)


def clip(boxes_xyxy: Floats, width: float, height: float) -> NDArray[np.float32]:
    """Boxes cut to the image ``[0, width] x [0, height]``, ``(N, 4)``; none is removed."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes_xyxy.astype(np.float32), np.float32(0), limits)


def touches_border(
    boxes_xyxy: Floats, width: float, height: float, tolerance_px: float
) -> NDArray[np.bool_]:
    """Return whether each box comes within tolerance_px of an edge of the image, ``(N,)``."""
    near_start = (boxes_xyxy[:, :2] <= tolerance_px).any(axis=1)
    near_end = (boxes_xyxy[:, 2:] >= np.array([width, height]) - tolerance_px).any(axis=1)
    return np.asarray(near_start | near_end, np.bool_)


def score_order(boxes_xyxy: Floats, scores: Floats) -> Indices:
    """Indices by descending score; equal scores by y_min, x_min, y_max, x_max, then input order."""
    x_min, y_min, x_max, y_max = boxes_xyxy.T
    return np.lexsort((x_max, y_max, x_min, y_min, -scores))


def broadcast_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes paired by broadcasting over all but the last axis."""
    top_left = np.maximum(a[..., :2], b[..., :2])
    bottom_right = np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(bottom_right - top_left, 0, None), axis=-1)
    area_a = np.prod(np.clip(a[..., 2:] - a[..., :2], 0, None), axis=-1)
    area_b = np.prod(np.clip(b[..., 2:] - b[..., :2], 0, None), axis=-1)
    union = area_a + area_b - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))
