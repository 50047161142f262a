"""Networks that torch builds, converted to nodes of an OpenVINO graph.

Shapes: images float (1, 3, H, W); whatever comes out of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from cellcount.engines.openvino.layers import Node, Tensors
from cellcount.engines.openvino.runtime import Graph, openvino
from cellcount.errors import UsageError
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import Architecture
from cellcount.models.folding import folded
from cellcount.models.pyramid import Trunk
from cellcount.models.same_output import agree, maps_of, random_image
from cellcount.models.weights import load_state, sized_like

Module = TypeVar("Module", bound=nn.Module)


def trunk(
    x: Node, architecture: Architecture, tensors: Tensors, plugin_folder: Path | None
) -> list[Node]:
    """Maps of the backbone and the pyramid of a detector, from fine to coarse."""
    module = _loaded(lambda: Trunk(architecture, plugin_folder), tensors, "trunk.")
    module.backbone = folded(module.backbone)
    side = 2 * max(architecture.strides)
    # Converted at one size and compared at another, since a size may be frozen into the graph.
    return _converted(module, x, (4 * side, 3 * side), (2 * side, 5 * side), architecture.backbone)


def classifier(x: Node, card: ClassifierCard, tensors: Tensors, plugin_folder: Path | None) -> Node:
    """Logits of a classifier."""
    size = card.preprocessing.input_px
    module = folded(_loaded(lambda: build_classifier(card, plugin_folder), tensors, ""), size)
    return _converted(module, x, size, size, card.architecture.name)[0]


def _loaded(build: Callable[[], Module], tensors: Tensors, prefix: str) -> Module:
    """The module with its tensors of the weight file, in evaluation mode."""
    state = {k: torch.from_numpy(v) for k, v in tensors.take_all(prefix).items()}
    with sized_like(state, tensors.source):
        module = build()
    load_state(module, state, source=tensors.source)
    return module.eval()


def _converted(
    module: nn.Module, x: Node, seen_px: tuple[int, int], other_px: tuple[int, int], name: str
) -> list[Node]:
    """The nodes of a module on the node of an image.

    Args:
        module: in evaluation mode, with one input.
        x: the node that it looks at.
        seen_px: height and width of the image that it is converted with.
        other_px: those of the image on which the conversion is checked.
        name: of the network, for messages.

    Raises:
        UsageError: OpenVINO cannot convert it, or not for images of any size.
    """
    try:
        # Tracing warns of sizes that it takes for fixed, which is what the check is for.
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            example = torch.zeros(1, 3, *seen_px)
            model = openvino().convert_model(module, example_input=example)
            _check(module, model, other_px)
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"--engine openvino cannot convert {name} ({type(error).__name__}: {first_line}); use "
            "--engine torchvision"
        ) from error
    (parameter,) = model.get_parameters()
    parameter.output(0).replace(x.output(0))
    return [result.input_value(0) for result in model.get_results()]


def _check(module: nn.Module, model: object, size_px: tuple[int, int]) -> None:
    """Raise ValueError where OpenVINO's model computes something else than the module."""
    image = random_image(size_px)
    found = Graph.of_model(model)(image.numpy())
    if not agree(maps_of(module(image)), [torch.from_numpy(array) for array in found]):
        raise ValueError("the converted network computes something else")
