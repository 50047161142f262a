"""Comparison of the cells that two engines find on one tile."""

from __future__ import annotations

import numpy as np

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections


def assert_same_cells(one: Detections, other: Detections, *, cut: float) -> int:
    """Detections from ``cut`` on match one to one; those within 0.01 of it are left aside."""
    sure, enough = one[one.scores >= cut + 0.01], other[other.scores >= cut - 0.01]
    iou = pairwise_iou(sure.boxes_xyxy, enough.boxes_xyxy)
    iou = np.where(sure.labels[:, None] == enough.labels[None], iou, 0)
    mate = iou.argmax(axis=1) if len(sure) else np.zeros(0, int)
    assert len(set(mate)) == len(sure), "one to one"
    assert (iou.max(axis=1, initial=0) >= 0.99).all()
    assert np.abs(sure.scores - enough.scores[mate]).max(initial=0) <= 0.01
    return len(sure)
