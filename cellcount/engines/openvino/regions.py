"""Second half of the detector in numpy: proposals from anchors, and detections from regions.

The rules are those of torchvision's Faster R-CNN, as the torchvision engine sets it up.

Shapes: L levels, A anchors per place, R regions, K classes without background; objectness (1, H, W,
A), deltas (1, H, W, 4 A), boxes (R, 4) xyxy, class logits (R, K + 1) and deltas (R, 4 (K + 1)),
background first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cellcount.core.boxes import clip
from cellcount.core.nms import nms
from cellcount.core.records import Detections
from cellcount.models.detector_card import (
    CANONICAL_LEVEL,
    CANONICAL_SIZE_PX,
    Architecture,
    Inference,
)

Array = NDArray[np.float32]
_REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the deltas of regions; those of anchors have none
_LARGEST_STEP = np.float32(log(1000 / 16))  # of the logarithm of a side
_LEAST_PROPOSAL_PX, _LEAST_DETECTION_PX = 1e-3, 1e-2
#: Overlap above which boxes of different levels or classes suppress each other: there is none.
_NO_TWINS = 1.0


def proposals(
    levels: Sequence[tuple[Array, Array]],
    strides: Sequence[int],
    card: tuple[Architecture, Inference],
    size_px: tuple[int, int],
) -> Array:
    """Regions that may hold a cell, best first.

    Args:
        levels: objectness (1, H, W, A) and deltas (1, H, W, 4 A) of each level with anchors.
        strides: of these levels.
        card: its architecture, which states the anchors, and its limits.
        size_px: height and width of the tile without padding.
    """
    architecture, limits = card
    boxes, logits, which = [], [], []
    for i, (objectness, deltas) in enumerate(levels):
        flat = objectness.reshape(-1)
        best = _best(flat, limits.rpn_pre_nms, limits.rpn_score_floor)
        anchors = _anchors(architecture, i, strides[i], objectness.shape, best)
        found = clip(decoded(anchors, deltas.reshape(-1, 4)[best]), size_px[1], size_px[0])
        large = _at_least(found, _LEAST_PROPOSAL_PX)
        boxes.append(found[large])
        logits.append(flat[best][large])
        which.append(np.full(int(large.sum()), i))
    every = np.concatenate(boxes)
    kept = nms(
        every,
        np.concatenate(logits),
        limits.rpn_nms_iou,
        sources=np.concatenate(which),
        other_source_threshold=_NO_TWINS,
    )
    return every[kept[: limits.rpn_post_nms]]


def _best(logits: Array, most: int, floor: float) -> NDArray[np.intp]:
    """Places of the best logits of a level whose probability reaches the floor."""
    good = np.flatnonzero(expit(logits) >= np.float32(floor)) if floor else np.arange(len(logits))
    order = np.argsort(-logits[good], kind="stable")
    return good[order[:most]]


def _anchors(
    architecture: Architecture,
    level: int,
    stride: int,
    shape: Sequence[int],
    chosen: NDArray[np.intp],
) -> Array:
    """Anchors of a level at the chosen places of (H, W, A), sizes varying before ratios."""
    sizes = np.array(architecture.anchor_sizes_px[level], np.float32)
    heights = np.sqrt(np.array(architecture.anchor_ratios, np.float32))
    half_width = ((1 / heights)[:, None] * sizes).reshape(-1) / 2
    half_height = (heights[:, None] * sizes).reshape(-1) / 2
    row, column, anchor = np.unravel_index(chosen, shape[1:])
    x, y = (stride * place.astype(np.float32) for place in (column, row))
    w, h = half_width[anchor], half_height[anchor]
    return np.stack([x - w, y - h, x + w, y + h], axis=1)


def decoded(
    boxes: Array, deltas: Array, weights: tuple[float, float, float, float] = (1, 1, 1, 1)
) -> Array:
    """The boxes moved by their deltas (R, 4)."""
    dx, dy, dw, dh = (deltas / np.array(weights, np.float32)).T
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + np.float32(0.5) * sides
    centres = np.stack([dx, dy], axis=1) * sides + centres
    steps = np.minimum(np.stack([dw, dh], axis=1), _LARGEST_STEP)
    half = np.float32(0.5) * np.exp(steps) * sides
    return np.concatenate([centres - half, centres + half], axis=1)


def _at_least(boxes: Array, side_px: float) -> NDArray[np.bool_]:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray((sides >= np.float32(side_px)).all(axis=1), np.bool_)


def by_level(regions: Array, strides: Sequence[int]) -> tuple[Array, list[Array]]:
    """The regions in the order of the levels that they are pooled from, and those of each level."""
    areas = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    with np.errstate(divide="ignore"):
        octave = np.log2(np.sqrt(np.maximum(areas, 0)) / np.float32(CANONICAL_SIZE_PX))
    level = np.floor(CANONICAL_LEVEL + octave + np.float32(1e-6)) - int(log2(strides[0]))
    level = np.clip(level, 0, len(strides) - 1)
    parts = [regions[level == i] for i in range(len(strides))]
    return np.concatenate(parts), parts


def detections(
    regions: Array, logits: Array, deltas: Array, limits: Inference, size_px: tuple[int, int]
) -> Detections:
    """Cells among the regions, best first.

    Args:
        regions: boxes (R, 4) that the region graph looked at.
        logits, deltas: of these regions, (R, K + 1) and (R, 4 (K + 1)).
        limits: those of the card.
        size_px: height and width of the tile without padding.
    """
    scores = softmax(logits, axis=1)[:, 1:]
    row, label = np.nonzero(scores > np.float32(limits.score_floor))
    chosen = deltas.reshape(*logits.shape, 4)[row, label + 1]
    boxes = clip(decoded(regions[row], chosen, _REGION_WEIGHTS), size_px[1], size_px[0])
    large = _at_least(boxes, _LEAST_DETECTION_PX)
    boxes, label, score = boxes[large], label[large], scores[row, label][large]
    kept = nms(boxes, score, limits.nms_iou, sources=label, other_source_threshold=_NO_TWINS)[
        : limits.max_detections
    ]
    return Detections(boxes[kept], score[kept], label[kept].astype(np.int64))
