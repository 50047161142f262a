"""Losses of the region heads: cross-entropy for the class, generalised IoU for the box.

torchvision's stock loss regresses the four deltas one by one; generalised IoU asks for what is
evaluated, the overlap. Rezatofighi et al. 2019, arXiv:1902.09630.

Shapes: R sampled regions of all images, K classes without background; logits (R, K + 1), deltas
(R, 4 (K + 1)), background first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own idiom
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import generalized_box_iou_loss

from cellcount.engines.attention_refinement import placed_boxes

#: Weight of the box loss, which is a sum over foreground divided by all sampled regions.
BOX_WEIGHT = 6.0


def region_losses(
    heads: RoIHeads,
    maps: dict[str, Tensor],
    proposals: list[Tensor],
    shapes: list[tuple[int, int]],
    targets: list[dict[str, Tensor]],
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Samples regions as torchvision does.

    Returns:
        ``loss_classifier`` and ``loss_box_reg``, and per image where the head put the sampled
        regions: (R, 4), without gradient.
    """
    sampled, _, labels, wanted = heads.select_training_samples(proposals, targets)
    features = heads.box_head(heads.box_roi_pool(maps, sampled, shapes))
    logits, deltas = heads.box_predictor(features)
    label = torch.cat(labels)  # (R,)
    losses = {
        "loss_classifier": F.cross_entropy(logits, label),
        "loss_box_reg": BOX_WEIGHT * _box_loss(heads, deltas, label, wanted, sampled),
    }
    placed = heads.box_coder.decode(deltas.detach(), sampled)[:, 1:]  # (R, K, 4)
    return losses, placed_boxes(placed, logits.detach()[:, 1:], [len(s) for s in sampled], shapes)


def _box_loss(
    heads: RoIHeads, deltas: Tensor, label: Tensor, wanted: list[Tensor], sampled: list[Tensor]
) -> Tensor:
    """Sum of 1 - GIoU over foreground regions, divided by R."""
    regions = torch.cat(sampled)
    foreground = torch.where(label > 0)[0]
    chosen = label[foreground]
    predicted = heads.box_coder.decode_single(deltas[foreground], regions[foreground])
    predicted = predicted.reshape(len(foreground), deltas.shape[1] // 4, 4)  # (F, K + 1, 4)
    truth = heads.box_coder.decode_single(torch.cat(wanted)[foreground], regions[foreground])
    own = predicted[torch.arange(len(foreground), device=chosen.device), chosen]
    loss: Tensor = generalized_box_iou_loss(own, truth.reshape(-1, 4), reduction="sum")
    return loss / max(label.numel(), 1)
