"""Classifiers: one cell in, one logit per type out, by name or from a card.

Shapes: N cells, K types, (H, W) the classifier's ``input_size``; input float (N, 3, H, W),
normalised with the stated mean and std; output (N, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own idiom

from cellcount import plugins
from cellcount.errors import CellcountError, PluginError, UsageError, WeightsError
from cellcount.models.backbone import REFUSED_OPTIONS, timm_model
from cellcount.models.classifier_card import ClassifierCard

Rgb = tuple[float, float, float]
INTERPOLATIONS = ("bilinear", "bicubic")


@runtime_checkable
class Classifier(Protocol):
    """A classifier as training and typing use it; they need nothing more."""

    input_size: tuple[int, int]
    mean: Rgb
    std: Rgb
    interpolation: str

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of normalised images (N, 3, H, W)."""
        ...


class TimmClassifier(nn.Module):
    """Any timm model with a last layer of K outputs.

    Args:
        model: timm model name, for example ``mobilevit_xxs``.
        num_classes: outputs.
        input_px: side, or height and width, of the input; None for that of timm's own weights.
        options: passed to ``timm.create_model``.
    """

    def __init__(
        self,
        model: str,
        num_classes: int,
        input_px: int | Sequence[int] | None = None,
        **options: Any,  # noqa: ANN401 -- timm's own options
    ) -> None:
        super().__init__()
        sides = (input_px, input_px) if isinstance(input_px, int) else input_px
        self.body = _timm_classifier(model, num_classes, sides, **options)
        config: dict[str, Any] = self.body.pretrained_cfg or {}
        height, width = sides or config.get("input_size", (3, 224, 224))[-2:]
        self.input_size = (int(height), int(width))
        self.mean = cast(Rgb, tuple(float(v) for v in config.get("mean", (0.5,) * 3)))
        self.std = cast(Rgb, tuple(float(v) for v in config.get("std", (0.5,) * 3)))
        stated = config.get("interpolation")
        self.interpolation = stated if stated in INTERPOLATIONS else "bilinear"

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return cast(Tensor, self.body(images))


def _timm_classifier(
    model: str,
    num_classes: int,
    sides: Sequence[int] | None,
    **options: Any,  # noqa: ANN401 -- timm's own options
) -> Any:  # noqa: ANN401 -- timm's models have no common type
    """Build timm's model; one with position embeddings needs the size of its input."""
    build = partial(timm_model, model, num_classes=num_classes, **options)
    try:
        body = build()
        if sides and (body.pretrained_cfg or {}).get("fixed_input_size"):
            body = build(img_size=tuple(sides))
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UsageError(
            f"timm cannot build a classifier from {model!r} with input_px {sides} and options "
            f"{options}: {error}; choose another model or other options"
        ) from None
    return body


def timm_classifier(
    num_classes: int,
    *,
    model: str = "",
    **options: Any,  # noqa: ANN401 -- the model's own options
) -> nn.Module:
    """The built-in behind names of the form ``timm/<model>``."""
    if refused := REFUSED_OPTIONS & set(options):
        raise UsageError(
            f"classifier timm/{model}: options {sorted(refused)} are not allowed; weights come "
            "from a weight file or --pretrained, never from an option"
        )
    return TimmClassifier(model, num_classes, **options)


def create_classifier(
    name: str,
    num_classes: int,
    *,
    plugin_folder: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the classifier's own options
) -> nn.Module:
    """Builds a classifier by name: ``timm/mobilevit_s``, or the name of a plugin.

    Raises:
        UsageError: unknown timm model, or fewer than one class.
        PluginError: unknown plugin, or one that fails or does not keep the contract.
    """
    if num_classes < 1:
        raise UsageError(f"a classifier of {num_classes} classes was asked for, expected 1 or more")
    door, _, model = name.partition("/")
    build = plugins.find(plugins.CLASSIFIERS, door, folder=plugin_folder)
    arguments = {"model": model, **options} if model else options
    try:
        module = build(num_classes, **arguments)
    except CellcountError:
        raise
    except Exception as error:
        raise PluginError(
            f"classifier {name!r} with {num_classes} classes and options {options} cannot be "
            f"built: {type(error).__name__}: {error}"
        ) from error
    check_contract(name, module)
    return cast(nn.Module, module)


def check_contract(name: str, module: object) -> None:
    """Raises PluginError where ``module`` is no classifier, saying what is wrong."""
    if not isinstance(module, nn.Module):
        raise PluginError(
            f"classifier {name!r} built a {type(module).__name__}, expected a torch.nn.Module"
        )
    for attribute in ("input_size", "mean", "std", "interpolation"):
        if not hasattr(module, attribute):
            raise PluginError(
                f"classifier {name!r} has no attribute {attribute!r}; "
                "a classifier states input_size, mean, std and interpolation"
            )
    if cast(Classifier, module).interpolation not in INTERPOLATIONS:
        raise PluginError(
            f"classifier {name!r} states interpolation {module.interpolation!r}, "
            f"expected {' or '.join(INTERPOLATIONS)}"
        )


class OneVersusRest(nn.Module):
    """One binary classifier per type, of which the most certain wins.

    The outputs are logarithms of probabilities, so that their softmax is the probability of each
    type against the rest, normalised to a sum of 1, and their order that of the probabilities.

    Args:
        models: classifiers of one output each, alike in what they take.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        first = cast(Classifier, models[0])
        self.input_size, self.interpolation = first.input_size, first.interpolation
        self.mean, self.std = first.mean, first.std

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the binary probabilities (N, K)."""
        return F.logsigmoid(torch.cat([model(images) for model in self.models], dim=1))


def build_classifier(card: ClassifierCard, plugin_folder: Path | None = None) -> nn.Module:
    """The network that a card describes, with random weights.

    Raises:
        WeightsError: the card names weights among the options, or an input size that the network
            does not have.
    """
    architecture, sides = card.architecture, card.preprocessing.input_px
    if refused := REFUSED_OPTIONS & set(architecture.options):
        raise WeightsError(f"card of {card.name!r}: options {sorted(refused)} are not allowed")
    options = dict(architecture.options)
    if architecture.name.startswith("timm/"):
        options.setdefault("input_px", sides)
    outputs = [len(card.types)] if architecture.scheme == "softmax" else [1] * len(card.types)
    built = [
        create_classifier(architecture.name, n, plugin_folder=plugin_folder, **options)
        for n in outputs
    ]
    module = built[0] if architecture.scheme == "softmax" else OneVersusRest(built)
    stated = tuple(cast(Classifier, module).input_size)
    if stated != sides:
        raise WeightsError(
            f"card of {card.name!r}: input_px is {sides}, but {architecture.name} with options "
            f"{architecture.options} takes {stated}"
        )
    return module
