"""Faster R-CNN from torchvision's own RPN, region heads and losses around our trunk.

Two details differ from torchvision's stock models so that another engine can load the same file:
anchors are not rounded, and regions are pooled with ``aligned=True``.

Shapes: N images, R regions of one image, A anchors per place, K classes without background,
C pyramid channels, P pool size. Box deltas are (R, 4 * (K + 1)), background first.
Ren et al. 2015, arXiv:1506.01497; RoIAlign: He et al. 2017, arXiv:1703.06870.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from cellcount.engines import training_samples
from cellcount.engines.attention_refinement import (
    Describe,
    RegionDetections,
    RegionMaps,
    refine_detections,
    refinement_losses,
)
from cellcount.engines.batching import BatchedEngine
from cellcount.engines.detector_model import Detector, Parts
from cellcount.engines.region_losses import BOX_WEIGHT, region_losses
from cellcount.engines.region_pooling import can_sum_rows, pooled_by_rows
from cellcount.models.attention import AttentionRefinement
from cellcount.models.attention_losses import Policy
from cellcount.models.detector_card import (
    CANONICAL_LEVEL,
    CANONICAL_SIZE_PX,
    Architecture,
    DetectorCard,
    Inference,
)
from cellcount.models.pyramid import Trunk


class UnroundedAnchors(AnchorGenerator):
    """torchvision's anchors without rounding to whole pixels.

    Those of the last batch are kept: the next one mostly has the same shape.
    """

    _kept: tuple[tuple[object, ...], list[Tensor]] = ((), [])

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors of each image (A of all places and levels, 4)."""
        if not torch.is_inference_mode_enabled():  # what is made in it has no part in training
            anchors: list[Tensor] = super().forward(image_list, feature_maps)
            return anchors
        first, shapes = feature_maps[0], tuple(maps.shape[2:] for maps in feature_maps)
        size = image_list.tensors.shape[2:]
        batch = (len(image_list.image_sizes), size, shapes, first.dtype, first.device)
        kept = self._kept
        if kept[0] != batch:
            kept = self._kept = (batch, super().forward(image_list, feature_maps))
        return kept[1]

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008 -- the signature overridden
    ) -> Tensor:
        """Base anchors (A, 4) centred on the origin."""
        sizes = torch.as_tensor(scales, dtype=dtype, device=device)
        height = torch.sqrt(torch.as_tensor(aspect_ratios, dtype=dtype, device=device))
        widths = ((1 / height)[:, None] * sizes[None]).reshape(-1)
        heights = (height[:, None] * sizes[None]).reshape(-1)
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2


class AlignedPooler(nn.Module):
    """RoIAlign with ``aligned=True`` over the levels of a pyramid."""

    def __init__(self, strides: Sequence[int], output_size: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = (output_size, output_size)

    def forward(
        self, maps: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Pooled regions of all images, (sum of R, C, P, P)."""
        del image_shapes  # strides are known, torchvision's pooler would infer them
        levels = list(maps.values())
        index = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rois = torch.cat([index, torch.cat(boxes)], dim=1)  # (R, 5)
        level = self.level_of(rois[:, 1:])
        side, samples = self.output_size[0], training_samples.POOL_SAMPLES
        if len(rois) and all(map(can_sum_rows, levels)):
            return pooled_by_rows(levels, self.strides, rois, level, side, samples)
        pooled = levels[0].new_zeros(len(rois), levels[0].shape[1], side, side)
        for i, (features, stride) in enumerate(zip(levels, self.strides, strict=True)):
            chosen = torch.where(level == i)[0]
            # In training a level without regions takes part: its gradients are zero, not missing.
            if len(chosen) or torch.is_grad_enabled():
                own = roi_align(features, rois[chosen], side, 1 / stride, samples, aligned=True)
                pooled[chosen] = own.to(pooled.dtype)
        return pooled

    def level_of(self, boxes: Tensor) -> Tensor:
        """Index of the level each box (R, 4) is pooled from, (R,)."""
        lowest = int(np.log2(self.strides[0]))
        size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        level = torch.floor(CANONICAL_LEVEL + torch.log2(size / CANONICAL_SIZE_PX) + 1e-6)
        return (level - lowest).clamp(0, len(self.strides) - 1).long()


class Float32RPNHead(RPNHead):
    """Objectness and deltas in float32 whatever the precision: boxes are decoded from them."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: objectness logits (N, A, H, W) and deltas (N, 4 A, H, W)."""
        logits, deltas = super().forward(x)
        return [t.float() for t in logits], [t.float() for t in deltas]


class Float32Predictor(FastRCNNPredictor):
    """Class logits and deltas in float32 whatever the precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, K + 1) and deltas (R, 4 (K + 1))."""
        logits, deltas = super().forward(x)
        return logits.float(), deltas.float()


def build_rpn(
    architecture: Architecture, inference: Inference, channels: int
) -> RegionProposalNetwork:
    """torchvision's region proposal network with our anchors."""
    anchors = UnroundedAnchors(
        sizes=cast(tuple[tuple[int, ...], ...], architecture.anchor_sizes_px),
        aspect_ratios=(architecture.anchor_ratios,) * len(architecture.anchor_sizes_px),
    )
    per_place = anchors.num_anchors_per_location()[0]
    return RegionProposalNetwork(
        anchors,
        Float32RPNHead(channels, per_place),
        fg_iou_thresh=training_samples.ANCHOR_IOU,
        bg_iou_thresh=training_samples.NO_ANCHOR_IOU,
        batch_size_per_image=training_samples.ANCHORS,
        positive_fraction=training_samples.ANCHORS_ON_CELLS,
        pre_nms_top_n={
            "training": training_samples.PROPOSALS_BEFORE,
            "testing": inference.rpn_pre_nms,
        },
        post_nms_top_n={
            "training": training_samples.PROPOSALS_AFTER,
            "testing": inference.rpn_post_nms,
        },
        nms_thresh=inference.rpn_nms_iou,
        score_thresh=inference.rpn_score_floor,
    )


def build_roi_heads(
    architecture: Architecture, inference: Inference, trunk: Trunk, num_classes: int
) -> RoIHeads:
    """torchvision's region heads with our pooler."""
    pooled = trunk.channels * architecture.pool_size**2
    return RoIHeads(
        AlignedPooler(trunk.strides, architecture.pool_size),
        TwoMLPHead(pooled, architecture.head_dim),
        Float32Predictor(architecture.head_dim, num_classes + 1),
        fg_iou_thresh=training_samples.REGION_IOU,
        bg_iou_thresh=training_samples.REGION_IOU,
        batch_size_per_image=training_samples.REGIONS,
        positive_fraction=training_samples.REGIONS_ON_CELLS,
        bbox_reg_weights=None,
        score_thresh=inference.score_floor,
        nms_thresh=inference.nms_iou,
        detections_per_img=inference.max_detections,
    )


class FasterRCNN(Detector):
    """Trunk, proposals and region heads; uint8 images in, losses or detections out.

    Args:
        card: states everything that decides the model.
        plugin_folder: folder of backbone plugins that the user named.
        trunk: already built from the card's architecture, or None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, card: DetectorCard, plugin_folder: Path | None = None, trunk: Trunk | None = None
    ) -> None:
        super().__init__(card)
        architecture, inference = card.architecture, card.inference
        self.trunk = trunk or Trunk(architecture, plugin_folder)
        self.rpn = build_rpn(architecture, inference, self.trunk.channels)
        self._proposing = len(architecture.anchor_sizes_px)  # the coarsest levels
        self.roi_heads = build_roi_heads(architecture, inference, self.trunk, len(card.classes))
        self.refinement = self._build_refinement(card) if card.refinement.steps else None
        self.policy: Policy | None = None  # of a training by rewards
        for name in ("mean", "std"):  # of RGB, from the card and so not among the weights
            rgb = getattr(card.preprocessing, name)
            values = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def parts(self) -> Parts:
        """The parts that can be frozen or watched."""
        return Parts(self.trunk, (self.rpn, self.roi_heads), self.refinement)

    def learn_by_rewards(self) -> None:
        """Train attention refinement by rewards from now on."""
        self.policy = Policy(self.card.refinement.hidden)

    def weights(self) -> dict[str, Tensor]:
        """Return all tensors of a weight file, under its names, which are those of this model."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("policy.")}

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load tensors; those not given stay unchanged."""
        self.load_state_dict(dict(weights), strict=False)

    def _build_refinement(self, card: DetectorCard) -> AttentionRefinement:
        channels, width = self.trunk.channels, card.architecture.head_dim
        return AttentionRefinement(card.refinement, channels, width, len(card.classes))

    def features(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Pyramid maps of uint8 images (N, 3, H, W)."""
        count, channels, height, width = images.shape
        # Row by row, as pixels lie in memory: three channels at a time would take thrice as long.
        rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels).float()
        mean, std = ((255 * rgb).flatten().repeat(width) for rgb in (self.mean, self.std))
        normalised = rows.sub_(mean).div_(std).view(count, height, width, channels)
        maps = self.trunk(normalised.permute(0, 3, 1, 2))
        return OrderedDict((str(i), m) for i, m in enumerate(maps))

    def _proposal_maps(self, maps: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """The levels that anchors lie on."""
        return OrderedDict(list(maps.items())[-self._proposing :])

    def losses(self, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN.

        Args:
            images: uint8 (N, 3, H, W).
            targets: per image ``boxes`` (R, 4) xyxy and ``labels`` (R,) from 1 on.
        """
        maps = self.features(images)
        shapes = [(int(images.shape[2]), int(images.shape[3]))] * len(images)
        proposals, rpn_losses = self.rpn(
            ImageList(images, shapes), self._proposal_maps(maps), targets
        )
        heads = cast(RoIHeads, self.roi_heads)
        losses, placed = region_losses(heads, maps, proposals, shapes, targets)
        if self.refinement is not None:
            field = RegionMaps(list(maps.values()), self.trunk.strides, shapes)
            losses |= refinement_losses(
                self.refinement,
                field,
                placed,
                targets,
                self._describe(maps, shapes),
                box_weight=BOX_WEIGHT,
                policy=self.policy,
            )
        return {**rpn_losses, **losses}

    def _describe(self, maps: OrderedDict[str, Tensor], shapes: list[tuple[int, int]]) -> Describe:
        """Return a function from boxes to features of the box head and class logits."""
        heads = cast(RoIHeads, self.roi_heads)

        def describe(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
            features = heads.box_head(heads.box_roi_pool(maps, boxes, shapes))
            return features, heads.box_predictor(features)[0]

        return describe

    def detect(self, images: Tensor, shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Detections of the first ``len(shapes)`` images; the others only fill the batch.

        Regions are computed image by image, so that their numbers never depend on batch mates.
        """
        maps = self.features(images)
        full = shapes + [(1, 1)] * (len(images) - len(shapes))
        proposals, _ = self.rpn(ImageList(images, full), self._proposal_maps(maps))
        results: list[dict[str, Tensor]] = []
        for i, shape in enumerate(shapes):
            own = OrderedDict((name, m[i : i + 1]) for name, m in maps.items())
            found, _ = self.roi_heads(own, [proposals[i]], [shape])
            results.append(self._looked_again(own, found[0], shape))
        return results

    def _looked_again(
        self, maps: OrderedDict[str, Tensor], found: dict[str, Tensor], shape: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Apply attention refinement to the detections of one image, where the card asks for it."""
        if self.refinement is None:
            return found
        heads = cast(RoIHeads, self.roi_heads)
        seen = refine_detections(
            self.refinement,
            RegionMaps(list(maps.values()), self.trunk.strides, [shape]),
            RegionDetections(found["boxes"], found["scores"], found["labels"]),
            self._describe(maps, [shape]),
            score_floor=heads.score_thresh,
            nms_iou=heads.nms_thresh,
        )
        return seen._asdict()


class TorchvisionEngine(BatchedEngine):
    """The default engine; installs from the package registry alone."""

    name = "torchvision"
    is_stateless = True
    model_class = FasterRCNN
