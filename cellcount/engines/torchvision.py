"""Faster R-CNN from torchvision's own RPN, region heads and losses around our trunk.

Two details differ from torchvision's stock models so that another engine can load the same file:
anchors are not rounded, and regions are pooled with ``aligned=True``.

Shapes: N images, R regions of one image, A anchors per place, K classes without background,
C pyramid channels, P pool size. Box deltas are (R, 4 * (K + 1)), background first.
Ren et al. 2015, arXiv:1506.01497; RoIAlign: He et al. 2017, arXiv:1703.06870.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from cellcount.engines.base import EngineOptions
from cellcount.engines.devices import DEFAULT_BATCH, choose_device, choose_precision
from cellcount.engines.region_losses import region_losses
from cellcount.errors import CellcountError
from cellcount.models.card import Architecture, Card, Inference
from cellcount.models.trunk import Trunk
from cellcount.models.weights import load_state, read_weights
from cellcount.records import Detections

# Level assignment of Lin et al. 2017, equation 1: a 224 px region belongs to stride 16.
_CANONICAL_SIZE_PX, _CANONICAL_LEVEL = 224.0, 4


class UnroundedAnchors(AnchorGenerator):
    """torchvision's anchors without rounding to whole pixels."""

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
        pooled = levels[0].new_zeros(len(rois), levels[0].shape[1], *self.output_size)
        for i, (features, stride) in enumerate(zip(levels, self.strides, strict=True)):
            chosen = torch.where(level == i)[0]
            part = roi_align(features, rois[chosen], self.output_size, 1 / stride, 2, aligned=True)
            pooled[chosen] = part.to(pooled.dtype)
        return pooled

    def level_of(self, boxes: Tensor) -> Tensor:
        """Index of the level each box (R, 4) is pooled from, (R,)."""
        lowest = int(np.log2(self.strides[0]))
        size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        level = torch.floor(_CANONICAL_LEVEL + torch.log2(size / _CANONICAL_SIZE_PX) + 1e-6)
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
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 1000, "testing": inference.rpn_pre_nms},
        post_nms_top_n={"training": 400, "testing": inference.rpn_post_nms},
        nms_thresh=inference.rpn_nms_iou,
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
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=112,
        positive_fraction=0.4,
        bbox_reg_weights=None,
        score_thresh=inference.score_floor,
        nms_thresh=inference.nms_iou,
        detections_per_img=inference.max_detections,
    )


class FasterRCNN(nn.Module):
    """Trunk, proposals and region heads; uint8 images in, losses or detections out.

    Args:
        card: states everything that decides the model.
        plugin_folder: folder of backbone plugins that the user named.
        trunk: already built from the card's architecture, or None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, card: Card, plugin_folder: Path | None = None, trunk: Trunk | None = None
    ) -> None:
        super().__init__()
        architecture, inference = card.architecture, card.inference
        self.trunk = trunk or Trunk(architecture, plugin_folder)
        self.rpn = build_rpn(architecture, inference, self.trunk.channels)
        self._proposing = len(architecture.anchor_sizes_px)  # the coarsest levels
        self.roi_heads = build_roi_heads(architecture, inference, self.trunk, len(card.classes))
        for name in ("mean", "std"):  # of RGB, from the card and so not among the weights
            rgb = getattr(card.preprocessing, name)
            values = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def features(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Pyramid maps of uint8 images (N, 3, H, W)."""
        normalised = (images.float() / 255 - self.mean) / self.std
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        return OrderedDict((str(i), m) for i, m in enumerate(self.trunk(normalised)))

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
        return {**rpn_losses, **region_losses(heads, maps, proposals, shapes, targets)}

    def forward(
        self, images: Tensor, shapes: list[tuple[int, int]] | list[dict[str, Tensor]]
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """Losses in training mode (``shapes`` are targets), detections in evaluation mode."""
        if self.training:
            return self.losses(images, cast(list[dict[str, Tensor]], shapes))
        return self.detect(images, cast(list[tuple[int, int]], shapes))

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
            results.extend(found)
        return results


class TorchvisionEngine:
    """The default engine; installs from the package registry alone."""

    name = "torchvision"

    def __init__(self, model: FasterRCNN, card: Card, options: EngineOptions) -> None:
        device = choose_device(options.device)
        self.card = card
        self.device = str(device)
        self.precision, self._dtype = choose_precision(options.precision, device)
        self.batch_size = options.batch_size or DEFAULT_BATCH[device.type]
        self._device = device
        self._model = model.to(device).to(memory_format=torch.channels_last).eval()

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One ``Detections`` per tile; tiles of equal padded shape share batches of fixed size."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, tile in enumerate(tiles):
            groups.setdefault(self._padded(tile.shape), []).append(index)
        results: list[Detections | None] = [None] * len(tiles)
        for shape, members in groups.items():
            for start in range(0, len(members), self.batch_size):
                chosen = members[start : start + self.batch_size]
                for index, found in zip(
                    chosen, self._detect_batch([tiles[i] for i in chosen], shape), strict=True
                ):
                    results[index] = found
        return [r for r in results if r is not None]

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, int]:
        multiple = self.card.preprocessing.pad_multiple
        return (-(-shape[0] // multiple) * multiple, -(-shape[1] // multiple) * multiple)

    def _detect_batch(
        self, tiles: list[NDArray[np.uint8]], shape: tuple[int, int]
    ) -> list[Detections]:
        # The mean colour becomes zero, as a convolution pads: a border like that of the training
        # crops. A black one would hide cells that the edge cuts.
        mean = np.round(255 * np.asarray(self.card.preprocessing.mean)).astype(np.uint8)
        batch = np.broadcast_to(mean, (self.batch_size, *shape, 3)).copy()
        for i, tile in enumerate(tiles):
            batch[i, : tile.shape[0], : tile.shape[1]] = tile
        images = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        shapes = [(t.shape[0], t.shape[1]) for t in tiles]
        half = self._dtype != torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype, enabled=half),
            # cuDNN would compute float32 convolutions with TF32's ten bits, and pick algorithms
            # that do not repeat their result.
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            try:
                found = self._model.detect(images, shapes)
            except torch.OutOfMemoryError:
                raise CellcountError(
                    f"{self.device} has too little memory for {self.batch_size} tiles of "
                    f"{shape[1]}x{shape[0]} px; use a smaller --batch-size or --tile-px"
                ) from None
        return [_to_detections(f) for f in found]


def _to_detections(found: dict[str, Tensor]) -> Detections:
    return Detections(
        found["boxes"].float().cpu().numpy(),
        found["scores"].float().cpu().numpy(),
        found["labels"].cpu().numpy().astype(np.int64) - 1,
    )


def load(weights: Path, options: EngineOptions) -> TorchvisionEngine:
    """The engine of a weight file."""
    card, state = read_weights(weights)
    model = FasterRCNN(card, options.plugin_folder)
    load_state(model, state, source=weights)
    return TorchvisionEngine(model, card, options)
