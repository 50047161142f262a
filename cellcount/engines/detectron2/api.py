"""Imports of Detectron2, in one place, without torch's warnings about its age.

Shapes: none.
"""

from __future__ import annotations

import logging
import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit.script, at a dozen classes
    from detectron2.config import CfgNode, configurable, get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        PROPOSAL_GENERATOR_REGISTRY,
        ROI_HEADS_REGISTRY,
        Backbone,
        GeneralizedRCNN,
        StandardROIHeads,
    )
    from detectron2.modeling import build_model as build_from_config
    from detectron2.modeling.proposal_generator import RPN
    from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
    from detectron2.structures import Boxes, ImageList, Instances
    from detectron2.utils.events import EventStorage

    # Detectron2 calls meshgrid without its new argument: torch says so once, so let it be now.
    torch.meshgrid(torch.zeros(1), torch.zeros(1))
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # another such remark

__all__ = [
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "RPN",
    "Backbone",
    "Boxes",
    "CfgNode",
    "EventStorage",
    "GeneralizedRCNN",
    "ImageList",
    "Instances",
    "ShapeSpec",
    "StandardROIHeads",
    "build_from_config",
    "configurable",
    "fast_rcnn_inference",
    "get_cfg",
]
