"""Detector as a Detectron2 model, with the same weight file and the same cells.

Importing this module registers our parts in Detectron2's registries; ``add_config`` adds the node
that they read to a config, ``config_of`` fills a config from a card.

Shapes: N images uint8 (N, 3, H, W); boxes (R, 4) xyxy, labels (R,) from 1 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cellcount.engines.batching import BatchedEngine
from cellcount.engines.detector_model import Detector, Parts
from cellcount.engines.detectron2.api import (
    Boxes,
    CfgNode,
    EventStorage,
    Instances,
    build_from_config,
)
from cellcount.engines.detectron2.config import add_config, config_of, settings_of
from cellcount.engines.detectron2.parts import CellCountRCNN
from cellcount.engines.detectron2.state_dict import from_detectron2, to_detectron2
from cellcount.files.atomic import atomic_write
from cellcount.models.attention_losses import Policy
from cellcount.models.detector_card import DetectorCard
from cellcount.models.pyramid import Trunk
from cellcount.models.weights import read_weights

__all__ = ["Detectron2Detector", "Detectron2Engine", "add_config", "config_of", "export"]

#: Detectron2's names of the losses -> those of every training log.
_LOSSES = {
    "loss_rpn_cls": "loss_objectness",
    "loss_rpn_loc": "loss_rpn_box_reg",
    "loss_cls": "loss_classifier",
}
_POLICY = "roi_heads.policy."
CONFIG_FILE, CHECKPOINT_FILE = "config.yaml", "model.pth"


class Detectron2Detector(Detector):
    """Detectron2's model behind the interface that all engines share.

    Args:
        card: states everything that decides the model.
        plugin_folder: folder of backbone plugins that the user named.
        trunk: already built from the card's architecture, or None.
    """

    def __init__(
        self, card: DetectorCard, plugin_folder: Path | None = None, trunk: Trunk | None = None
    ) -> None:
        super().__init__(card)
        self.rcnn: CellCountRCNN = build_from_config(config_of(card, plugin_folder))
        if trunk is not None:
            self.rcnn.backbone.trunk = trunk

    def parts(self) -> Parts:
        """The parts that can be frozen or watched."""
        heads = self.rcnn.roi_heads
        first = (self.rcnn.proposal_generator, heads.box_head, heads.box_predictor)
        return Parts(self.rcnn.backbone.trunk, first, heads.refinement)

    def learn_by_rewards(self) -> None:
        """Train attention refinement by rewards from now on."""
        self.rcnn.roi_heads.policy = Policy(self.card.refinement.hidden)

    def weights(self) -> dict[str, Tensor]:
        """Return all tensors of a weight file, under its names."""
        state = self.rcnn.state_dict()
        own = {k: v for k, v in state.items() if not k.startswith(_POLICY)}
        return from_detectron2(own, self.card.architecture)

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load tensors under the names of a weight file; those not given stay unchanged."""
        self.rcnn.load_state_dict(to_detectron2(weights, self.card.architecture), strict=False)

    def losses(self, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Detectron2's losses under the names of our training logs."""
        shape = (int(images.shape[2]), int(images.shape[3]))
        batch = [
            {
                "image": image,
                "instances": Instances(
                    shape, gt_boxes=Boxes(target["boxes"]), gt_classes=target["labels"] - 1
                ),
            }
            for image, target in zip(images, targets, strict=True)
        ]
        try:
            with EventStorage():  # Detectron2 counts samples there
                losses: dict[str, Tensor] = self.rcnn(batch)
        except FloatingPointError:  # numbers have run away; the training loop leaves such steps out
            return {"loss_objectness": images.new_full((), torch.nan, dtype=torch.float32)}
        return {_LOSSES.get(name, name): loss for name, loss in losses.items()}

    def detect(self, images: Tensor, shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Detections of the first ``len(shapes)`` images; the others only fill the batch."""
        full = shapes + [(1, 1)] * (len(images) - len(shapes))
        batch = self.rcnn.normalised(images, full)
        maps = self.rcnn.backbone(batch.tensor)
        proposals, _ = self.rcnn.proposal_generator(batch, maps)
        found, _ = self.rcnn.roi_heads(batch, maps, proposals[: len(shapes)])
        return [
            {"boxes": f.pred_boxes.tensor, "scores": f.scores, "labels": f.pred_classes + 1}
            for f in found
        ]


class Detectron2Engine(BatchedEngine):
    """The engine for those who work with Detectron2."""

    name = "detectron2"
    model_class = Detectron2Detector


def export(weights: Path, out: Path, plugin_folder: Path | None = None) -> tuple[Path, Path]:
    """Writes a weight file as config and checkpoint for Detectron2's ``DefaultPredictor``.

    Returns:
        The two files in the folder ``out``.
    """
    card, state = read_weights(weights)
    model = Detectron2Detector(card, plugin_folder)
    model.take_file(state, weights)
    out.mkdir(parents=True, exist_ok=True)
    config, checkpoint = out / CONFIG_FILE, out / CHECKPOINT_FILE
    with atomic_write(checkpoint) as file:
        torch.save({"model": model.rcnn.state_dict()}, file)
    settings = settings_of(card, plugin_folder)
    settings["MODEL"]["WEIGHTS"] = str(checkpoint.resolve())
    with atomic_write(config) as file:
        file.write((_usage(card) + CfgNode(settings).dump()).encode())
    return config, checkpoint


#: Colours that a model expects, by its white balance and red-cell hue.
_COLOURS = {
    (False, False): "in their own colours",
    (True, False): "white-balanced",
    (True, True): "white-balanced, red cells in the hue of cellcount.images.colour_balance",
}


def _usage(card: DetectorCard) -> str:
    """Return the comment above the settings, which explains how to use them."""
    return f"""\
# {card.name} {card.version}, exported by cellcount for Detectron2:
#   from cellcount.engines.detectron2.engine import add_config  # registers the parts named below
#   cfg = get_cfg(); add_config(cfg); cfg.merge_from_file("{CONFIG_FILE}")
#   found = DefaultPredictor(cfg)(image_bgr)["instances"]
# Images are expected at the model's scale, red cells {card.rbc_diameter_px:g} px across, and
# {_COLOURS[card.preprocessing.white_balance, card.preprocessing.red_cell_hue]}; \
MODEL.DEVICE "cuda" uses a GPU.
"""
