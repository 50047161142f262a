"""One weight file, two engines: the names and row orders of Detectron2's model, both ways.

Weight files have torchvision's names. Three things differ besides names: the background row of
the class layer is torchvision's first and Detectron2's last; Detectron2 has no box deltas for the
background; of several anchors at one place torchvision counts ratios before sizes, Detectron2
sizes before ratios.

Shapes: K classes without background, A = S sizes x Q ratios anchors per place, F features;
class rows (K + 1, F), box rows (4 (K + 1), F) against (4 K, F), anchor rows (A, ...) and
(4 A, ...).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cellcount.errors import WeightsError
from cellcount.models.detector_card import Architecture

_OBJECTNESS, _ANCHOR_DELTAS = "rpn.head.cls_logits.", "rpn.head.bbox_pred."
_CLASSES = "roi_heads.box_predictor.cls_score."
_DELTAS = "roi_heads.box_predictor.bbox_pred."
#: Start of a name in a weight file -> in Detectron2's model.
_NAMES = {
    "trunk.": "backbone.trunk.",
    "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
    _OBJECTNESS: "proposal_generator.rpn_head.objectness_logits.",
    _ANCHOR_DELTAS: "proposal_generator.rpn_head.anchor_deltas.",
    "roi_heads.box_head.fc6.": "roi_heads.box_head.fc1.",
    "roi_heads.box_head.fc7.": "roi_heads.box_head.fc2.",
    _CLASSES: _CLASSES,
    _DELTAS: _DELTAS,
    "refinement.": "roi_heads.refinement.",
}


def to_detectron2(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Tensors of a weight file as Detectron2's model has them.

    Raises:
        WeightsError: a name that no weight file has.
    """
    order = _anchor_order(architecture)
    found = {}
    for name, rows in weights.items():
        start = _start_of(name, list(_NAMES))
        if start == _CLASSES:
            rows = rows.roll(-1, 0)
        elif start == _DELTAS:
            rows = rows[4:]
        elif start in (_OBJECTNESS, _ANCHOR_DELTAS):
            rows = _reordered(rows, order)
        found[_NAMES[start] + name.removeprefix(start)] = rows
    return found


def from_detectron2(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Tensors of Detectron2's model as a weight file has them; the background's deltas are zero.

    Raises:
        WeightsError: a name that Detectron2's model does not have.
    """
    order = _anchor_order(architecture)
    back = [order.index(i) for i in range(len(order))]
    ours = {theirs: start for start, theirs in _NAMES.items()}
    found = {}
    for name, rows in weights.items():
        theirs = _start_of(name, list(ours))
        start = ours[theirs]
        if start == _CLASSES:
            rows = rows.roll(1, 0)
        elif start == _DELTAS:
            rows = torch.cat([torch.zeros_like(rows[:4]), rows])
        elif start in (_OBJECTNESS, _ANCHOR_DELTAS):
            rows = _reordered(rows, back)
        found[start + name.removeprefix(theirs)] = rows
    return found


def _start_of(name: str, starts: list[str]) -> str:
    for start in starts:
        if name.startswith(start):
            return start
    raise WeightsError(f"tensor {name!r} has no counterpart, expected {', '.join(starts)}…")


def _anchor_order(architecture: Architecture) -> list[int]:
    """Position in torchvision's order of each anchor of Detectron2's order."""
    sizes, ratios = len(architecture.anchor_sizes_px[0]), len(architecture.anchor_ratios)
    return [ratio * sizes + size for size in range(sizes) for ratio in range(ratios)]


def _reordered(rows: Tensor, order: list[int]) -> Tensor:
    """Rows (A, ...) or (4 A, ...) with the anchors in that order."""
    return rows.reshape(len(order), -1, *rows.shape[1:])[order].flatten(0, 1)
