"""Start of a classifier training: random weights, timm's weights or another classifier.

Shapes: none; tensors of networks by name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from cellcount.errors import UsageError
from cellcount.files.digest import sha256_of
from cellcount.models.backbone import load_pretrained
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import read_classifier_weights, resolve
from cellcount.training.classifier.settings import CLASSIFIER_RECIPES
from cellcount.training.known_rows import rows_by_name
from cellcount.training.optim import own_parameters
from cellcount.training.settings import TrainRun

State = dict[str, torch.Tensor]


def new_model(card: ClassifierCard, seed: int, run: TrainRun, init: str = "") -> nn.Module:
    """The network of the card.

    Args:
        card: of the model in training.
        seed: of the random weights.
        run: names local timm weights, or none.
        init: packaged model, weight file or run to start from, "" for none.

    Raises:
        UsageError: ``init`` is another network.
    """
    torch.manual_seed(seed)
    model = build_classifier(card, run.plugins)
    if run.pretrained:
        load_pretrained(model, run.pretrained)
    if init:
        model.load_state_dict(_fitting(model, card, run, init), strict=False)
    return model.to(memory_format=torch.channels_last)


def freeze_start(model: nn.Module, share: float) -> int:
    """Let the first layers of a network learn nothing from now on.

    Args:
        model: whose layers come in the order in which it names them.
        share: of the layers; the last one always learns.

    Returns:
        How many layers are frozen.
    """
    layers = [part for part in model.modules() if own_parameters(part)]
    frozen = layers[: min(round(share * len(layers)), len(layers) - 1)]
    for layer in frozen:
        for parameter in own_parameters(layer):
            parameter.requires_grad = False
    return len(frozen)


def settings_of(init: str, recipe: str) -> dict[str, Any]:
    """Return the settings taken over from the model that a training starts from.

    A recipe that sets one of them keeps its own."""
    parent, _ = read_classifier_weights(resolve(init))
    taken = {
        "backbone": parent.architecture.name,
        "input_px": parent.preprocessing.input_px[0],
        "window_rbc": parent.crop.window_rbc,
        "contour": parent.crop.contour,
        "white_balance": parent.preprocessing.white_balance,
    }
    return {k: v for k, v in taken.items() if k not in CLASSIFIER_RECIPES.get(recipe, {})}


def grown_card(card: ClassifierCard, init: str) -> ClassifierCard:
    """Return the card with the training data of the model of ``init`` added."""
    weights = resolve(init)
    parent, _ = read_classifier_weights(weights)
    start = {"name": parent.name, "sha256": sha256_of(weights)}
    return dataclasses.replace(
        card, data=(*parent.data, *card.data), training={**card.training, "init": start}
    )


def _fitting(model: nn.Module, card: ClassifierCard, run: TrainRun, init: str) -> State:
    """Tensors of ``init`` that fit: whole ones, and of the outputs the rows of types in common."""
    parent, state = read_classifier_weights(resolve(init))
    if parent.architecture.name != card.architecture.name:
        raise UsageError(
            f"init {init!r} is a {parent.architecture.name}, but the backbone of this training is "
            f"{card.architecture.name}; name the same one with --backbone"
        )
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    names, known = [t.id for t in card.types], [t.id for t in parent.types]
    if names == known:
        return fitting
    one_more = dataclasses.replace(card.types[0], id="one more")
    more = dataclasses.replace(card, types=(*card.types, one_more), prior={}, trained_prior={})
    with torch.device("meta"):
        other = build_classifier(more, run.plugins).state_dict()
    for key, tensor in own.items():
        grows = [d for d, n in enumerate(other[key].shape) if n != tensor.shape[d]]
        if not grows:
            continue
        fitting.pop(key, None)
        rows = (
            rows_by_name(tensor, state[key], names, known, dim=grows[0])
            if key in state and len(grows) == 1
            else None
        )
        if rows is not None:
            fitting[key] = rows
    return fitting
