"""Detector on OpenVINO, with the same weight file and the same cells.

One graph makes maps and objectness of a tile, another looks at the proposed regions; what lies
between them is numpy. Each tile is computed by one thread, several of them side by side.

Shapes: tiles uint8 (H, W, 3) RGB; maps (1, C, H / s, W / s); regions (R, 4) xyxy in pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from cellcount.core.processors import threads
from cellcount.core.records import Detections
from cellcount.core.side_by_side import SideBySide
from cellcount.engines.base import EngineOptions
from cellcount.engines.openvino import layers, networks, regions
from cellcount.engines.openvino.layers import Node, Tensors, ops
from cellcount.engines.openvino.runtime import Graph, check_options
from cellcount.engines.padding import padded
from cellcount.engines.training_samples import POOL_SAMPLES
from cellcount.errors import UsageError
from cellcount.models.detector_card import Architecture, DetectorCard, levels_read
from cellcount.models.weights import read_arrays, read_card


class OpenVinoEngine:
    """The engine for CPUs; it detects and does not train.

    Args:
        card: of the model.
        tensors: of its weight file.
        options: device, precision, plugins.

    Raises:
        UsageError: it does not compute on the device or in the precision asked for.
        WeightsError: the tensors do not fit the card.
    """

    name = "openvino"

    def __init__(self, card: DetectorCard, tensors: Tensors, options: EngineOptions) -> None:
        self.card = card
        self.device, self.precision = check_options(options)
        self.batch_size, self.tiles_at_once = options.batch_size or 1, threads()
        self._threads = SideBySide(self.tiles_at_once)
        self._strides = levels_read(card.architecture.pyramid, card.architecture.strides)
        self._proposing = len(card.architecture.anchor_sizes_px)  # the coarsest levels
        self._tile_graph = self._tile(tensors, options.plugin_folder)
        self._region_graph = self._regions(tensors)
        tensors.check_all_taken()

    @classmethod
    def build_model(cls, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 -- whatever is asked for
        """Refuse: this engine trains nothing.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "--engine openvino runs models and trains none; train with --engine torchvision, the "
            "weight file is the same"
        )

    @classmethod
    def load(cls, weights: Path, options: EngineOptions) -> Self:
        """Load the engine of a weight file.

        Raises:
            UsageError: the model looks at cells a second time, which this engine does not do; or
                it does not compute on the device or in the precision asked for.
            WeightsError: the file is unusable, or does not fit its card.
        """
        card, arrays = read_card(weights), read_arrays(weights)
        if card.refinement.steps and options.refine_steps == 0:
            card = dataclasses.replace(
                card, refinement=dataclasses.replace(card.refinement, steps=0)
            )
            arrays = {k: v for k, v in arrays.items() if not k.startswith("refinement.")}
        elif steps := options.refine_steps or card.refinement.steps:
            raise UsageError(
                f"--engine openvino looks at no cell again, but {steps} steps of attention "
                f"refinement are asked for, by --refine-steps or by the card of {card.name!r}; use "
                "--refine-steps 0, or --engine torchvision"
            )
        return cls(card, Tensors(arrays, weights), options)

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One ``Detections`` per tile.

        Raises:
            DeviceMemoryError: memory is short even for one tile.
        """
        return self._threads.map(self._detect, tiles)

    def _detect(self, tile: NDArray[np.uint8]) -> Detections:
        size_px = (tile.shape[0], tile.shape[1])
        found = self._tile_graph(padded([tile], 1, self.card.preprocessing))
        maps, heads = found[: len(self._strides)], found[len(self._strides) :]
        limits = self.card.inference
        proposed = regions.proposals(
            list(zip(heads[::2], heads[1::2], strict=True)),
            self._strides[-self._proposing :],
            (self.card.architecture, limits),
            size_px,
        )
        looked_at, parts = regions.by_level(proposed, self._strides)
        logits, deltas = self._region_graph(*maps, *parts)
        return regions.detections(looked_at, logits, deltas, limits, size_px)

    def _tile(self, tensors: Tensors, plugin_folder: Path | None) -> Graph:
        """The graph from a tile to its maps, then objectness and deltas of each level."""
        card, pixels = self.card, layers.image()
        normalised = layers.normalised(pixels, card.preprocessing.mean, card.preprocessing.std)
        with tensors.shapes_checked():
            maps = networks.trunk(normalised, card.architecture, tensors, plugin_folder)
            head = _Head(tensors, card.architecture)
            heads = [node for level in maps[-self._proposing :] for node in head(level)]
        return Graph([*maps, *heads], [pixels], self.precision)

    def _regions(self, tensors: Tensors) -> Graph:
        """The graph from maps and the regions on each to class logits and deltas."""
        form = self.card.architecture
        maps = [
            ops().parameter([1, form.pyramid_channels, -1, -1], np.float32) for _ in self._strides
        ]
        boxes = [ops().parameter([-1, 4], np.float32) for _ in self._strides]
        pooled = [
            _pooled(level, on_it, stride, form.pool_size)
            for level, on_it, stride in zip(maps, boxes, self._strides, strict=True)
        ]
        features = form.pyramid_channels * form.pool_size**2
        x = ops().reshape(
            ops().concat(pooled, 0), ops().constant([-1, features]), special_zero=False
        )
        classes = len(self.card.classes) + 1  # and background
        with tensors.shapes_checked():
            for name in ("fc6", "fc7"):
                part = f"roi_heads.box_head.{name}"
                x = ops().relu(layers.linear(x, tensors, part, form.head_dim))
            outputs = [
                layers.linear(x, tensors, f"roi_heads.box_predictor.{name}", width)
                for name, width in (("cls_score", classes), ("bbox_pred", 4 * classes))
            ]
        return Graph(outputs, [*maps, *boxes], self.precision)


class _Head:
    """The head that proposes regions, the same on every level."""

    def __init__(self, tensors: Tensors, architecture: Architecture) -> None:
        anchors = len(architecture.anchor_sizes_px[0]) * len(architecture.anchor_ratios)
        widths = {
            "conv.0.0": architecture.pyramid_channels,
            "cls_logits": anchors,
            "bbox_pred": 4 * anchors,
        }
        self._layers = {
            name: (
                tensors.take(f"rpn.head.{name}.weight", width),
                tensors.take(f"rpn.head.{name}.bias", width),
            )
            for name, width in widths.items()
        }

    def __call__(self, level: Node) -> list[Node]:
        """Objectness (1, H, W, A) and deltas (1, H, W, 4 A)."""
        x = ops().relu(layers.convolution(level, *self._layers["conv.0.0"]))
        return [
            ops().transpose(
                layers.convolution(x, *self._layers[name]), ops().constant([0, 2, 3, 1])
            )
            for name in ("cls_logits", "bbox_pred")
        ]


def _pooled(level: Node, boxes: Node, stride: int, side: int) -> Node:
    """Pool the regions (R, 4) of a map (1, C, H, W) to (R, C, side, side)."""
    count = ops().gather(ops().shape_of(boxes), ops().constant([0]), ops().constant(0))
    images = ops().broadcast(ops().constant(np.int32(0)), count)
    # OpenVINO's name for torchvision's aligned=True.
    how = {"mode": "avg", "aligned_mode": "half_pixel_for_nn"}
    return ops().roi_align(level, boxes, images, side, side, POOL_SAMPLES, 1 / stride, **how)
