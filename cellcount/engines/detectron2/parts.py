"""cellcount's detector as parts of Detectron2, for its registries.

Detectron2's own proposal network, anchors, matchers, samplers, region heads, pooler and structures
around our trunk and second look. Importing this module registers the meta-architecture
``CellCountRCNN``, the backbone ``CellCountTrunk``, the proposal network ``CellCountRPN`` and the
region heads ``CellCountROIHeads``; the config node ``MODEL.CELLCOUNT`` holds the card they need.

Shapes: N images, R regions of all images, K classes without background; maps (N, C, H_i, W_i);
class logits (R, K + 1), background last; boxes (R, 4) xyxy; classes from 0 on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cellcount.engines.attention_refinement import (
    Describe,
    RegionDetections,
    RegionMaps,
    placed_boxes,
    refine_detections,
    refinement_losses,
)
from cellcount.engines.detectron2.api import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    RPN,
    Backbone,
    Boxes,
    CfgNode,
    GeneralizedRCNN,
    ImageList,
    Instances,
    ShapeSpec,
    StandardROIHeads,
    configurable,
    fast_rcnn_inference,
)
from cellcount.engines.detectron2.config import card_of, plugin_folder_of
from cellcount.engines.region_losses import BOX_WEIGHT
from cellcount.models.attention import AttentionRefinement
from cellcount.models.attention_losses import Policy
from cellcount.models.pyramid import Trunk

#: Boxes with a shorter side are nothing; torchvision's number.
_LEAST_SIDE_PX = 1e-2

Maps = dict[str, Tensor]


@BACKBONE_REGISTRY.register()
class CellCountTrunk(Backbone):
    """The backbone and pyramid of the card; its features are ``p3`` for stride 8 and so on."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        del input_shape  # RGB
        card = card_of(cfg)
        self.trunk = Trunk(card.architecture, plugin_folder_of(cfg))
        self._pad_multiple = card.preprocessing.pad_multiple
        self._out_features = [f"p{s.bit_length() - 1}" for s in self.trunk.strides]
        self._out_feature_strides = dict(zip(self._out_features, self.trunk.strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, self.trunk.channels)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this."""
        return self._pad_multiple

    def forward(self, images: Tensor) -> Maps:
        """Feature maps by name."""
        maps = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return dict(zip(self._out_features, maps, strict=True))


@PROPOSAL_GENERATOR_REGISTRY.register()
class CellCountRPN(RPN):
    """Detectron2's proposal network with a floor for objectness.

    Its losses are means over the anchors sampled; Detectron2 divides by those asked for, of which
    a small image has fewer.
    """

    @configurable
    def __init__(self, *, score_floor: float, **of_rpn: Any) -> None:  # noqa: ANN401
        super().__init__(**of_rpn)
        self._score_floor = score_floor

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments that a config stands for."""
        given: dict[str, Any] = super().from_config(cfg, input_shape)
        return given | {"score_floor": cfg.MODEL.CELLCOUNT.RPN_SCORE_FLOOR}

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Losses of objectness and boxes."""
        given = (anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        losses: dict[str, Tensor] = super().losses(*given)
        sampled = sum(int((labels >= 0).sum()) for labels in gt_labels)
        share = self.batch_size_per_image * len(gt_labels) / max(sampled, 1)
        return {name: loss * share for name, loss in losses.items()}

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Proposals of each image, best first."""
        logits = [level.float() for level in pred_objectness_logits]
        found = super().predict_proposals(anchors, logits, pred_anchor_deltas, image_sizes)
        return [p[p.objectness_logits.sigmoid() >= self._score_floor] for p in found]


@ROI_HEADS_REGISTRY.register()
class CellCountROIHeads(StandardROIHeads):
    """Detectron2's region heads, followed by attention refinement where the card asks for it.

    In evaluation images are computed one by one, so that their numbers never depend on the others.
    """

    @configurable
    def __init__(
        self,
        *,
        refinement: AttentionRefinement | None,
        strides: list[int],
        **of_heads: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**of_heads)
        self.refinement = refinement
        self.strides = strides
        self.policy: Policy | None = None  # of a training by rewards

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments that a config stands for."""
        given: dict[str, Any] = super().from_config(cfg, input_shape)
        levels = [input_shape[name] for name in given["box_in_features"]]
        asked = card_of(cfg).refinement
        module = None
        if asked.steps:
            width = given["box_head"].output_shape.channels
            module = AttentionRefinement(asked, levels[0].channels, width, given["num_classes"])
        return given | {"refinement": module, "strides": [level.stride for level in levels]}

    def forward(
        self,
        images: ImageList,
        features: Maps,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Sampled regions with losses in training, else detections of each image."""
        del images
        # The pooler rounds boxes to the type of the maps, and bf16 has eight bits.
        maps = {name: features[name].float() for name in self.box_in_features}
        if self.training:
            assert targets is not None, "training needs targets"
            sampled = self.label_and_sample_proposals(proposals, targets)
            return sampled, self._losses(maps, sampled, targets)
        found = []
        for i, own in enumerate(proposals):
            found.append(self._detections({k: m[i : i + 1] for k, m in maps.items()}, own))
        return found, {}

    def _describe(self, maps: Maps) -> Describe:
        """Return a function from boxes to features of the box head and class logits."""

        def describe(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
            features = self._described(maps, [Boxes(b) for b in boxes])
            return features, self.box_predictor(features)[0].float().roll(1, 1)

        return describe

    def _described(self, maps: Maps, boxes: list[Boxes]) -> Tensor:
        """Return the features of the boxes of each image by the box head, (R, F)."""
        features: Tensor = self.box_head(self.box_pooler(list(maps.values()), boxes))
        return features

    def _predictions(self, maps: Maps, regions: list[Instances]) -> tuple[Tensor, Tensor]:
        """Class logits and box deltas (R, 4 K), in float32 whatever the precision."""
        features = self._described(maps, [r.proposal_boxes for r in regions])
        logits, deltas = self.box_predictor(features)
        return logits.float(), deltas.float()

    def _losses(
        self, maps: Maps, sampled: list[Instances], targets: list[Instances]
    ) -> dict[str, Tensor]:
        predictions = self._predictions(maps, sampled)
        losses: dict[str, Tensor] = self.box_predictor.losses(predictions, sampled)
        if self.refinement is None:
            return losses
        logits, deltas = (p.detach() for p in predictions)
        boxes = torch.cat(self.box_predictor.predict_boxes((logits, deltas), sampled))
        shapes = [r.image_size for r in sampled]
        counts = [len(r) for r in sampled]
        return losses | refinement_losses(
            self.refinement,
            RegionMaps(list(maps.values()), self.strides, shapes),
            placed_boxes(boxes.reshape(len(boxes), -1, 4), logits[:, :-1], counts, shapes),
            [{"boxes": t.gt_boxes.tensor, "labels": t.gt_classes + 1} for t in targets],
            self._describe(maps),
            box_weight=BOX_WEIGHT,
            policy=self.policy,
        )

    def _detections(self, maps: Maps, proposals: Instances) -> Instances:
        """Detections of one image, best first."""
        predictor, shape = self.box_predictor, proposals.image_size
        predictions = self._predictions(maps, [proposals])
        (found,), _ = fast_rcnn_inference(
            predictor.predict_boxes(predictions, [proposals]),
            predictor.predict_probs(predictions, [proposals]),
            [shape],
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            topk_per_image=-1,  # what is nothing must not count among the most that are returned
        )
        found = found[found.pred_boxes.nonempty(_LEAST_SIDE_PX)][: predictor.test_topk_per_image]
        if self.refinement is None:
            return found
        seen = refine_detections(
            self.refinement,
            RegionMaps(list(maps.values()), self.strides, [shape]),
            RegionDetections(found.pred_boxes.tensor, found.scores, found.pred_classes + 1),
            self._describe(maps),
            score_floor=predictor.test_score_thresh,
            nms_iou=predictor.test_nms_thresh,
        )
        return Instances(
            shape,
            pred_boxes=Boxes(seen.boxes),
            scores=seen.scores,
            pred_classes=seen.labels - 1,
        )


@META_ARCH_REGISTRY.register()
class CellCountRCNN(GeneralizedRCNN):
    """Detectron2's own two-stage detector; images are padded with the mean colour."""

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """RGB images of values 0-255 as one normalised batch."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        shapes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        multiple = max(self.backbone.size_divisibility, 1)
        height, width = (
            -(-max(sides) // multiple) * multiple for sides in zip(*shapes, strict=True)
        )
        batch = self.pixel_mean.round().expand(len(images), 3, height, width).clone()
        for place, image, (h, w) in zip(batch, images, shapes, strict=True):
            place[:, :h, :w] = image
        return self.normalised(batch, shapes)

    def normalised(self, images: Tensor, shapes: list[tuple[int, int]]) -> ImageList:
        """A padded batch (N, 3, H, W) of values 0-255, and (height, width) without padding."""
        return ImageList((images.float() - self.pixel_mean) / self.pixel_std, shapes)
