"""Matching of detections and cells: greedy, one to one, by overlap.

Shapes: T true boxes, N detections, K matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.core import boxes
from cellcount.core.records import Detections


@dataclass(frozen=True, eq=False, slots=True)
class Truth:
    """The true cells of one image.

    Attributes:
        image: identity of the image.
        boxes_xyxy: float32 ``(N, 4)`` in pixels of the original image.
        labels: int64 ``(N,)``, index into the classes.
        width_px, height_px: size of the original image.
    """

    image: str
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.labels.shape != (n,) or self.boxes_xyxy.shape != (n, 4):
            raise ValueError(
                f"{self.image}: expected labels (N,) and boxes_xyxy (N, 4), "
                f"got {self.labels.shape} and {self.boxes_xyxy.shape}"
            )


@dataclass(frozen=True, eq=False, slots=True)
class Matching:
    """Matches, misses and false positives of one image.

    Attributes:
        matches: ``(K, 2)`` index of the true box and of the detection that found it.
        misses: indices of the true boxes nobody found.
        false_positives: indices of the detections that found nothing.
        ious: float32 ``(K,)`` overlap of each match.
    """

    matches: NDArray[np.intp]
    misses: NDArray[np.intp]
    false_positives: NDArray[np.intp]
    ious: NDArray[np.float32]


def match(
    truth_xyxy: NDArray[np.float32],
    truth_labels: NDArray[np.int64],
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    across_classes: bool = False,
) -> Matching:
    """Match detections to true boxes in order of falling score, as COCO does.

    Each detection takes the free true box of its class with the largest IoU, if that is
    iou_threshold or more. Equal overlaps go to the later true box, as in COCO; equal scores to
    the earlier detection.

    Args:
        truth_xyxy: true boxes ``(T, 4)``.
        truth_labels: their classes ``(T,)``.
        detections: what was found, in the same pixels and classes.
        iou_threshold: smallest IoU of a match.
        across_classes: let a detection match a true box of another class (for confusion tables).
    """
    overlaps = boxes.pairwise_iou(truth_xyxy, detections.boxes_xyxy)  # (T, N)
    allowed = overlaps >= iou_threshold
    if not across_classes:
        allowed &= truth_labels[:, None] == detections.labels[None]
    free = np.ones(len(truth_xyxy), np.bool_)
    matches: list[tuple[int, int]] = []
    for found in np.argsort(-detections.scores, kind="stable").tolist():
        candidates = np.flatnonzero(allowed[:, found] & free)
        if len(candidates) == 0:
            continue
        best = candidates[::-1][np.argmax(overlaps[candidates[::-1], found])]
        free[best] = False
        matches.append((int(best), found))
    pairs = np.array(matches, np.intp).reshape(-1, 2)
    return Matching(
        matches=pairs,
        misses=np.flatnonzero(free),
        false_positives=np.setdiff1d(np.arange(len(detections)), pairs[:, 1]),
        ious=overlaps[pairs[:, 0], pairs[:, 1]],
    )
