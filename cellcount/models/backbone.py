"""Backbones: feature maps with stated channels and strides. The only module that knows timm.

Shapes: N images, H and W multiples of the largest stride, C_i channels at stride s_i;
input float (N, 3, H, W), output one (N, C_i, H / s_i, W / s_i) per level.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from cellcount import plugins
from cellcount.errors import CellcountError, PluginError, UsageError
from cellcount.models.quick_imports import quick_imports

# What timm.create_model would load, unpickle or download files for. Options come from cards, and a
# card may come from anywhere.
REFUSED_OPTIONS = {
    "cache_dir",
    "checkpoint_path",
    "features_only",
    "out_indices",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
}


@runtime_checkable
class Backbone(Protocol):
    """A backbone as its pyramid and heads use it; they need nothing more."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Feature maps of normalised images, from fine to coarse."""
        ...


class TimmBackbone(nn.Module):
    """Any timm model with feature extraction.

    Args:
        model: timm model name, for example ``resnet18``.
        strides: levels wanted, each a stride that the model has.
        options: passed to ``timm.create_model``.
    """

    def __init__(self, model: str, strides: Sequence[int], **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        probe = _timm_features(model, **options)
        reductions = list(probe.feature_info.reduction())
        missing = [s for s in strides if s not in reductions]
        if missing:
            raise UsageError(
                f"backbone timm/{model} has strides {reductions}, not {missing}; "
                "choose strides among those it has"
            )
        # The last level of a stride is the deepest one (some models repeat a stride).
        indices = [max(i for i, r in enumerate(reductions) if r == s) for s in strides]
        self.body = _timm_features(model, out_indices=indices, **options)
        config: dict[str, Any] = probe.pretrained_cfg or {}
        self.channels = tuple(int(c) for c in self.body.feature_info.channels())
        self.strides = tuple(int(s) for s in strides)
        self.mean = tuple(float(v) for v in config.get("mean", (0.5,) * 3))
        self.std = tuple(float(v) for v in config.get("std", (0.5,) * 3))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse."""
        return list(self.body(images))


def _timm_features(model: str, **options: Any) -> Any:  # noqa: ANN401 -- timm wraps in several ways
    """timm's feature extractor of an architecture, with random weights."""
    try:
        return timm_model(model, features_only=True, **options)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"timm cannot build a feature backbone from {model!r}: {error}; choose another model"
        ) from None


def timm_model(model: str, **options: Any) -> Any:  # noqa: ANN401 -- timm has no common type
    """A timm model with random weights; nothing is downloaded or read.

    Raises:
        UsageError: timm has no model of that name.
    """
    with quick_imports():
        import timm

    # Names like hf-hub:… and local-dir:… make timm download or read foreign files.
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        hint = f"did you mean timm/{near[0]}? " if near else ""
        raise UsageError(
            f"timm has no model {model!r}; {hint}"
            "expected timm/NAME with a name of timm.list_models(), for example timm/resnet18"
        )
    return timm.create_model(model, pretrained=False, **options)


def timm_backbone(
    model: str = "",
    strides: Sequence[int] = (8, 16, 32),
    **options: Any,  # noqa: ANN401 -- timm's own options
) -> nn.Module:
    """The built-in behind names of the form ``timm/<model>``."""
    if refused := REFUSED_OPTIONS & set(options):
        raise UsageError(
            f"backbone timm/{model}: options {sorted(refused)} are not allowed; weights come from "
            "a weight file or --pretrained, never from an option"
        )
    return TimmBackbone(model, strides, **options)


def create_backbone(
    name: str,
    *,
    strides: Sequence[int] = (8, 16, 32),
    plugin_folder: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the backbone's own options
) -> nn.Module:
    """Builds a backbone by name: ``timm/resnet18``, or the name of a plugin.

    Raises:
        UsageError: unknown timm model or stride.
        PluginError: unknown plugin, or one that fails or does not keep the contract.
    """
    door, _, model = name.partition("/")
    build = plugins.find(plugins.BACKBONES, door, folder=plugin_folder)
    arguments = (model,) if model else ()
    try:
        module = build(*arguments, strides=tuple(strides), **options)
    except CellcountError:
        raise
    except Exception as error:
        raise PluginError(
            f"backbone {name!r} with strides {tuple(strides)} and options {options} cannot be "
            f"built: {type(error).__name__}: {error}"
        ) from error
    check_contract(name, module)
    if tuple(module.strides) != tuple(strides):
        raise PluginError(
            f"backbone {name!r} states strides {tuple(module.strides)}, asked for {tuple(strides)}"
        )
    return cast(nn.Module, module)


def check_contract(name: str, module: object) -> None:
    """Raises PluginError where ``module`` is no backbone, saying what is wrong."""
    if not isinstance(module, nn.Module):
        raise PluginError(
            f"backbone {name!r} built a {type(module).__name__}, expected a torch.nn.Module"
        )
    for attribute in ("channels", "strides", "mean", "std"):
        if not hasattr(module, attribute):
            raise PluginError(
                f"backbone {name!r} has no attribute {attribute!r}; "
                "a backbone states channels, strides, mean and std"
            )
    if len(cast(Backbone, module).channels) != len(cast(Backbone, module).strides):
        raise PluginError(f"backbone {name!r} must state one channel count per stride")


def load_pretrained(module: nn.Module, path: Path) -> list[str]:
    """Loads a local timm safetensors file into a timm model; returns what stayed untouched.

    The model may be a ``TimmBackbone``, a ``TimmClassifier``, or a plugin's ``body`` or ``base``.

    The classifier head of the file is ignored. Nothing is ever downloaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise UsageError(f"--pretrained {path}: expected a timm .safetensors file")
    try:
        source = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"--pretrained {path} cannot be read as safetensors: {error}") from None
    target = module.state_dict()
    # timm's feature wrapper may flatten "stages.0" to "stages_0", and classifiers of plugins keep
    # timm's model as their base; compare without either.
    by_plain = {re.sub(r"^(body|base)\.", "", k).replace("_", "."): k for k in target}
    loaded: dict[str, Tensor] = {}
    for key, value in source.items():
        own = by_plain.get(key.replace("_", "."))
        if own is not None and target[own].shape == value.shape:
            loaded[own] = value.to(torch.float32) if value.is_floating_point() else value
    if not loaded:
        raise UsageError(f"--pretrained {path}: no tensor fits this backbone; is it its model?")
    module.load_state_dict(loaded, strict=False)
    return sorted(set(target) - set(loaded))
