"""The network: built as cellcount serves it, started from ImageNet's weights where they are named.

Shapes: N windows, K types; windows float (N, 3, P, P) in 0–1; logits (N, K).
"""

from __future__ import annotations

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
from tools.imagenet_weights import imagenet_weights
from tools.types.cells import TYPES

_MEAN = _STD = 0.5
_BATCH = 32


def build(backbone: str, input_px: int, *, imagenet: bool, init: Path | None = None) -> nn.Module:
    """A classifier of ``TYPES``.

    Args:
        backbone: timm's name.
        input_px: side of the input.
        imagenet: start from ImageNet's weights.
        init: a classifier's weight file of the same network to start from, its last layer apart.
    """
    model = create_classifier(f"timm/{backbone}", len(TYPES), input_px=input_px)
    if imagenet:
        _take(model, imagenet_weights(backbone))
    if init is not None:
        _, state = read_classifier_weights(init)
        _take(model, {k.removeprefix("body."): v for k, v in state.items()})
    return model.to(memory_format=torch.channels_last)


def _take(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads all but the last layer."""
    body = cast(nn.Module, model.body)
    own = body.state_dict()
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
    """Return the features before the last layer for the served windows of these rows, (N, F)."""
    found = []
    for start in range(0, len(rows), _BATCH):
        pixels = served[np.asarray(rows[start : start + _BATCH])]
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        found.append(window_features(model, batch))
    return np.concatenate(found)


def window_features(model: nn.Module, windows: Tensor) -> NDArray[np.float32]:
    """Return the features before the last layer for windows in 0–1, (N, F)."""
    body = cast(Any, model.body)
    model.eval()
    with torch.inference_mode():
        seen = body.forward_features((windows - _MEAN) / _STD)
        found: NDArray[np.float32] = body.forward_head(seen, pre_logits=True).numpy()
    return found
