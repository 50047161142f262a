"""The config of a card in Detectron2's terms: every number that its own parts need.

Shapes: none; plain data.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from cellcount.engines import training_samples
from cellcount.engines.detectron2.api import CfgNode, get_cfg
from cellcount.engines.region_losses import BOX_WEIGHT
from cellcount.errors import WeightsError
from cellcount.models.detector_card import DetectorCard, levels_read
from cellcount.models.weights import WEIGHTS_SUFFIX, read_card


def add_config(cfg: CfgNode) -> None:
    """Adds the node ``MODEL.CELLCOUNT`` to a config of Detectron2.

    ``CARD`` is a weight file, a JSON file of its card, or the card itself; ``PLUGINS`` a folder of
    backbone plugins; proposals below ``RPN_SCORE_FLOOR`` are not looked at again.
    """
    cfg.MODEL.CELLCOUNT = CfgNode({"CARD": "", "PLUGINS": "", "RPN_SCORE_FLOOR": 0.0})


def card_of(cfg: CfgNode) -> DetectorCard:
    """The card that a config names or holds."""
    text = str(cfg.MODEL.CELLCOUNT.CARD)
    if text.lstrip().startswith("{"):
        return DetectorCard.from_json(text)
    path = Path(text)
    if not path.is_file():
        raise WeightsError(
            f"MODEL.CELLCOUNT.CARD is {text!r}, expected a weight file, a JSON file of its card, "
            "or the card itself"
        )
    is_weights = path.suffix == WEIGHTS_SUFFIX
    return read_card(path) if is_weights else DetectorCard.from_json(path.read_text("utf-8"))


def plugin_folder_of(cfg: CfgNode) -> Path | None:
    """The folder of backbone plugins that a config names."""
    return Path(cfg.MODEL.CELLCOUNT.PLUGINS) if cfg.MODEL.CELLCOUNT.PLUGINS else None


def config_of(card: DetectorCard, plugin_folder: Path | None = None) -> CfgNode:
    """Detectron2's default config with all that the card decides."""
    cfg = get_cfg()
    add_config(cfg)
    cfg.merge_from_other_cfg(CfgNode(settings_of(card, plugin_folder)))
    return cfg


def settings_of(card: DetectorCard, plugin_folder: Path | None = None) -> dict[str, Any]:
    """Return the differences from Detectron2's defaults, as nested settings.

    Raises:
        WeightsError: an architecture that Detectron2 cannot build.
    """
    architecture, preprocessing = card.architecture, card.preprocessing
    names = _feature_names(card)
    return {
        "VERSION": 2,
        "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TEST": 0},  # 0: fields are at the model's scale
        "TEST": {"DETECTIONS_PER_IMAGE": card.inference.max_detections},
        "MODEL": {
            "META_ARCHITECTURE": "CellCountRCNN",
            "DEVICE": "cpu",
            "PIXEL_MEAN": [255 * v for v in preprocessing.mean],
            "PIXEL_STD": [255 * v for v in preprocessing.std],
            "BACKBONE": {"NAME": "CellCountTrunk"},
            "PROPOSAL_GENERATOR": {"NAME": "CellCountRPN"},
            "ANCHOR_GENERATOR": {
                "SIZES": [list(sizes) for sizes in architecture.anchor_sizes_px],
                "ASPECT_RATIOS": [list(architecture.anchor_ratios)],
                "OFFSET": 0.0,
            },
            "RPN": _rpn(card, names[-len(architecture.anchor_sizes_px) :]),
            "ROI_HEADS": _roi_heads(card, names),
            "ROI_BOX_HEAD": {
                "NAME": "FastRCNNConvFCHead",
                "NUM_FC": 2,
                "FC_DIM": architecture.head_dim,
                "POOLER_RESOLUTION": architecture.pool_size,
                "POOLER_SAMPLING_RATIO": training_samples.POOL_SAMPLES,
                "POOLER_TYPE": "ROIAlignV2",
                "BBOX_REG_LOSS_TYPE": "giou",
                "BBOX_REG_LOSS_WEIGHT": BOX_WEIGHT,
            },
            "CELLCOUNT": {
                "CARD": json.dumps(json.loads(card.to_json())),
                "PLUGINS": "" if plugin_folder is None else str(plugin_folder.resolve()),
                "RPN_SCORE_FLOOR": float(card.inference.rpn_score_floor),
            },
        },
    }


def _feature_names(card: DetectorCard) -> list[str]:
    """``p3`` for stride 8 and so on."""
    architecture = card.architecture
    strides = levels_read(architecture.pyramid, architecture.strides)
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise WeightsError(
            f"strides are {strides}, but Detectron2 pools only from levels whose strides double; "
            "use --engine torchvision"
        )
    return [f"p{stride.bit_length() - 1}" for stride in strides]


def _rpn(card: DetectorCard, names: list[str]) -> dict[str, Any]:
    inference = card.inference
    return {
        "IN_FEATURES": names,
        "IOU_THRESHOLDS": [training_samples.NO_ANCHOR_IOU, training_samples.ANCHOR_IOU],
        "BATCH_SIZE_PER_IMAGE": training_samples.ANCHORS,
        "POSITIVE_FRACTION": training_samples.ANCHORS_ON_CELLS,
        "PRE_NMS_TOPK_TRAIN": training_samples.PROPOSALS_BEFORE,
        "PRE_NMS_TOPK_TEST": inference.rpn_pre_nms,
        "POST_NMS_TOPK_TRAIN": training_samples.PROPOSALS_AFTER,
        "POST_NMS_TOPK_TEST": inference.rpn_post_nms,
        "NMS_THRESH": float(inference.rpn_nms_iou),
        "SMOOTH_L1_BETA": training_samples.ANCHOR_LOSS_BETA,
    }


def _roi_heads(card: DetectorCard, names: list[str]) -> dict[str, Any]:
    inference = card.inference
    return {
        "NAME": "CellCountROIHeads",
        "IN_FEATURES": names,
        "NUM_CLASSES": len(card.classes),
        "IOU_THRESHOLDS": [training_samples.REGION_IOU],
        "BATCH_SIZE_PER_IMAGE": training_samples.REGIONS,
        "POSITIVE_FRACTION": training_samples.REGIONS_ON_CELLS,
        "SCORE_THRESH_TEST": float(inference.score_floor),
        "NMS_THRESH_TEST": float(inference.nms_iou),
    }
