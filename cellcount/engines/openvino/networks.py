"""Trunks and classifiers as nodes of an OpenVINO graph.

EfficientNet-Lite is built from its tensors alone, so that torch is not imported; any other network
is built by torch and converted.

Shapes: images float (1, 3, H, W), normalised; maps (1, C, H / s, W / s); logits (1, K).
"""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

import numpy as np

from cellcount.engines.openvino.layers import (
    Node,
    Tensors,
    convolution,
    linear,
    ops,
    pyramid,
)
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import Architecture

_LITE = re.compile(r"timm/tf_efficientnet_lite([0-4])")
_BATCH_NORM_EPSILON = 1e-3  # of TensorFlow's networks
#: Strides of the first block of each stage, after a stem of stride 2 (Tan and Le 2019,
#: arXiv:1905.11946, table 1).
_STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
#: Blocks of each stage of the smallest network, and how many times as many those from lite0 to
#: lite4 have in the stages between the first and the last.
_BLOCKS, _DEPTHS = (1, 2, 2, 3, 3, 4, 1), (1.0, 1.1, 1.2, 1.4, 1.8)


def trunk(
    x: Node, architecture: Architecture, tensors: Tensors, plugin_folder: Path | None
) -> list[Node]:
    """Maps of the backbone and the pyramid of a detector, from fine to coarse."""
    lite = _LITE.fullmatch(architecture.backbone)
    if lite and architecture.pyramid == "fpn" and not architecture.backbone_options:
        by_stride = _lite_maps(x, tensors, "trunk.backbone.body", int(lite[1]))
        levels = [by_stride[stride] for stride in architecture.strides]
        return pyramid(levels, tensors, "trunk.pyramid.fpn")
    from cellcount.engines.openvino import from_torch

    return from_torch.trunk(x, architecture, tensors, plugin_folder)


def classifier(x: Node, card: ClassifierCard, tensors: Tensors, plugin_folder: Path | None) -> Node:
    """Logits of a classifier."""
    form = card.architecture
    lite = _LITE.fullmatch(form.name)
    if lite and form.scheme == "softmax" and not form.options:
        last = _lite_maps(x, tensors, "body", int(lite[1]))[32]
        last = _normed(last, tensors, "body.conv_head", "body.bn2")
        means = ops().reduce_mean(last, ops().constant([2, 3]), keep_dims=False)
        return linear(means, tensors, "body.classifier", len(card.types))
    from cellcount.engines.openvino import from_torch

    return from_torch.classifier(x, card, tensors, plugin_folder)


def _lite_maps(x: Node, tensors: Tensors, name: str, variant: int) -> dict[int, Node]:
    """The last map of each stride of EfficientNet-Lite0 to Lite4."""
    x = _normed(x, tensors, f"{name}.conv_stem", f"{name}.bn1", 2)
    maps, stride = {}, 2
    for stage, first in enumerate(_STAGE_STRIDES):
        is_scaled = 0 < stage < len(_BLOCKS) - 1
        count = ceil(_BLOCKS[stage] * (_DEPTHS[variant] if is_scaled else 1))
        for block in range(count):
            y = _block(x, tensors, f"{name}.blocks.{stage}.{block}", 1 if block else first)
            x = ops().add(x, y) if block else y
        stride *= first
        maps[stride] = x
    return maps


def _block(x: Node, tensors: Tensors, name: str, stride: int) -> Node:
    """A block without its shortcut: widened except in the first stage, filtered, narrowed."""
    if f"{name}.conv_pwl.weight" not in tensors:
        x = _normed(x, tensors, f"{name}.conv_dw", f"{name}.bn1", stride)
        return _normed(x, tensors, f"{name}.conv_pw", f"{name}.bn2", bounded=False)
    x = _normed(x, tensors, f"{name}.conv_pw", f"{name}.bn1")
    x = _normed(x, tensors, f"{name}.conv_dw", f"{name}.bn2", stride)
    return _normed(x, tensors, f"{name}.conv_pwl", f"{name}.bn3", bounded=False)


def _normed(
    x: Node, tensors: Tensors, name: str, norm: str, stride: int = 1, *, bounded: bool = True
) -> Node:
    """Convolution with the batch norm behind it folded in, and its values kept within 0 to 6."""
    mean, variance, gain, bias = (
        tensors.take(f"{norm}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
    )
    scale = gain / np.sqrt(variance + np.float32(_BATCH_NORM_EPSILON))
    weight = tensors.take(f"{name}.weight") * scale[:, None, None, None]
    y = convolution(x, weight, bias - mean * scale, stride)
    return ops().clamp(y, 0.0, 6.0) if bounded else y
