"""Attention refinement ("second look") of detections, and its losses.

Both engines call these functions; they differ only in how a region is described (their own
pooler, box head and predictor).

Shapes: N images, R regions of all images, K classes without background; boxes (R, 4) xyxy in
pixels of the model's input; labels from 1 on, 0 is background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from cellcount.errors import UsageError
from cellcount.models.attention import AttentionRefinement, Refined
from cellcount.models.attention_losses import (
    ActorCritic,
    Policy,
    actor_critic_losses,
    class_loss_of_steps,
    episode_of,
    supervised_losses,
)
from cellcount.models.detector_card import DetectorCard

#: Boxes per image (R, 4), one tensor each -> features (R, F) and class logits (R, K + 1).
Describe = Callable[[list[Tensor]], tuple[Tensor, Tensor]]

_PREFIX = "refinement."  # of the module's tensors in a weight file
_WORTH_A_LOOK = 0.05
_MATCH_IOU = 0.5
_SAMPLED_PER_IMAGE = 64
_FOREGROUND_SHARE = 0.6


class RegionDetections(NamedTuple):
    """Detections of one image: boxes (R, 4), scores (R,), labels (R,) from 1 on."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class RegionMaps(NamedTuple):
    """Pyramid maps that regions lie on (N, C, H_i, W_i), their strides, (height, width) each."""

    maps: Sequence[Tensor]
    strides: Sequence[int]
    shapes: list[tuple[int, int]]


def with_steps(
    card: DetectorCard, weights: dict[str, Tensor], steps: int | None
) -> tuple[DetectorCard, dict[str, Tensor]]:
    """Return card and weights for ``steps`` steps of attention refinement; None for the card's own.

    All steps share their weights, so a model may look more or less often than it did in training.

    Raises:
        UsageError: it has learned no second look.
    """
    trained = card.refinement.steps
    if steps is None or steps == trained:
        return card, weights
    if not trained:
        raise UsageError(
            f"--refine-steps is {steps}, but {card.name!r} has learned no second look; leave the "
            "option out, or train one with train detector --refine-steps 2"
        )
    if not steps:
        weights = {k: v for k, v in weights.items() if not k.startswith(_PREFIX)}
    return dataclasses.replace(
        card, refinement=dataclasses.replace(card.refinement, steps=steps)
    ), weights


def refine(
    module: AttentionRefinement,
    field: RegionMaps,
    boxes: list[Tensor],
    describe: Describe,
    explore: Callable[[Tensor], Tensor] | None = None,
) -> Refined:
    """Run attention refinement on the boxes of every image."""
    rois = torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)])
    sizes = torch.cat(
        [
            b.new_tensor((w, h)).expand(len(b), 2)
            for b, (h, w) in zip(boxes, field.shapes, strict=True)
        ]
    )
    features, logits = describe(boxes)
    tokens = module.tokens(field.maps, field.strides, rois)
    refined: Refined = module(tokens, rois[:, 1:], sizes, features, logits, explore)
    return refined


def refine_detections(
    module: AttentionRefinement,
    field: RegionMaps,
    found: RegionDetections,
    describe: Describe,
    *,
    score_floor: float,
    nms_iou: float,
) -> RegionDetections:
    """Detections of one image with corrected boxes, classes and scores, best score first.

    What scores below ``_WORTH_A_LOOK`` stays as it is: it is most of the list, and never counted.
    """
    worth = found.scores >= _WORTH_A_LOOK
    if not worth.any() or not module.settings.steps:
        return found
    refined = refine(module, field, [found.boxes[worth]], describe)
    scores, labels = torch.softmax(refined.logits, dim=1)[:, 1:].max(dim=1)
    boxes = torch.cat([refined.boxes[-1], found.boxes[~worth]])
    boxes = clip_boxes_to_image(boxes, field.shapes[0])
    scores = torch.cat([scores, found.scores[~worth]])
    labels = torch.cat([labels + 1, found.labels[~worth]])
    sound = (scores >= score_floor) & ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
    boxes, scores, labels = boxes[sound], scores[sound], labels[sound]
    kept = batched_nms(boxes, scores, labels, nms_iou)
    return RegionDetections(boxes[kept], scores[kept], labels[kept])


def placed_boxes(
    boxes: Tensor, logits: Tensor, counts: list[int], shapes: list[tuple[int, int]]
) -> list[Tensor]:
    """Decode, per image, each region's box for its most likely class other than the background.

    Args:
        boxes: where the box head puts each region for each class, (R, K, 4).
        logits: of the classes, (R, K).
        counts: regions of each image.
        shapes: (height, width) of each image.
    """
    best = logits.argmax(dim=1)
    own = boxes[torch.arange(len(best), device=best.device), best]
    placed = [
        clip_boxes_to_image(b, s) for b, s in zip(torch.split(own, counts), shapes, strict=True)
    ]
    return [b[((b[:, 2:] - b[:, :2]) >= 1).all(dim=1)] for b in placed]


def refinement_losses(
    module: AttentionRefinement,
    field: RegionMaps,
    boxes: list[Tensor],
    targets: list[dict[str, Tensor]],
    describe: Describe,
    *,
    box_weight: float,
    policy: Policy | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of attention refinement, which starts from the first boxes.

    Args:
        module: in training.
        field: maps of all images of the batch.
        boxes: where the first look put its regions, per image; without gradient.
        targets: per image ``boxes`` and ``labels``.
        describe: of the engine.
        box_weight: weight of the box loss beside cross-entropy.
        policy: learns from rewards where one is given, else supervised.
    """
    drawn = [_sampled(b, t) for b, t in zip(boxes, targets, strict=True)]
    labels, wanted = (torch.cat([d[i] for d in drawn]) for i in (1, 2))
    starts = [d[0] for d in drawn]
    if policy is None:
        refined = refine(module, field, starts, describe)
        return supervised_losses(refined, labels, wanted, box_weight, module.settings.score)
    policy.drawn.clear()
    refined = refine(module, field, starts, describe, policy.draw)
    settings = ActorCritic()
    episode = episode_of(refined, torch.cat(starts), labels, wanted, settings)
    losses = actor_critic_losses(refined, policy, episode, settings)
    # The class is no action, so no reward teaches it: it stays supervised.
    return {**losses, "loss_refined_class": class_loss_of_steps(refined, labels)}


def _sampled(boxes: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """A share of the boxes (R, 4), their labels (R,) and true boxes (R, 4)."""
    truth, classes = target["boxes"].to(boxes.dtype), target["labels"]
    if not len(truth):
        chosen = torch.randperm(len(boxes), device=boxes.device)[:_SAMPLED_PER_IMAGE]
        return boxes[chosen], classes.new_zeros(len(chosen)), boxes[chosen]
    overlap, match = box_iou(boxes, truth).max(dim=1)
    labels = torch.where(overlap >= _MATCH_IOU, classes[match], 0)
    order = torch.randperm(len(boxes), device=boxes.device)
    foreground, rest = order[labels[order] > 0], order[labels[order] == 0]
    foreground = foreground[: round(_SAMPLED_PER_IMAGE * _FOREGROUND_SHARE)]
    chosen = torch.cat([foreground, rest[: _SAMPLED_PER_IMAGE - len(foreground)]])
    return boxes[chosen], labels[chosen], truth[match[chosen]]
