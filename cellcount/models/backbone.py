"""Backbones: feature maps with stated channels and strides. The only module that knows timm.

Shapes: N images, H and W multiples of the largest stride, C_i channels at stride s_i;
input float (N, 3, H, W), output one (N, C_i, H / s_i, W / s_i) per level.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from cellcount import plugins
from cellcount.errors import PluginError, UsageError

GROUP = "cellcount.backbones"


@runtime_checkable
class Backbone(Protocol):
    """What a pyramid and its heads need to know of a backbone, and nothing more."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> list[Tensor]: ...


class TimmBackbone(nn.Module):
    """Any timm model with feature extraction.

    Args:
        model: timm model name, for example ``resnet18``.
        strides: levels wanted, each a stride that the model has.
        options: passed to ``timm.create_model``.
    """

    def __init__(self, model: str, strides: Sequence[int], **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        import timm

        try:
            probe = timm.create_model(model, features_only=True, pretrained=False, **options)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UsageError(
                f"timm cannot build a feature backbone from {model!r}: {error}; "
                "timm.list_models() lists the names"
            ) from None
        reductions = list(probe.feature_info.reduction())
        missing = [s for s in strides if s not in reductions]
        if missing:
            raise UsageError(
                f"backbone timm/{model} has strides {reductions}, not {missing}; "
                "choose strides among those it has"
            )
        # The last level of a stride is the deepest one (some models repeat a stride).
        indices = [max(i for i, r in enumerate(reductions) if r == s) for s in strides]
        self.body = timm.create_model(
            model, features_only=True, pretrained=False, out_indices=indices, **options
        )
        config = probe.pretrained_cfg or {}
        self.channels = tuple(int(c) for c in self.body.feature_info.channels())
        self.strides = tuple(int(s) for s in strides)
        self.mean = cast(tuple[float, float, float], tuple(config.get("mean", (0.5,) * 3)))
        self.std = cast(tuple[float, float, float], tuple(config.get("std", (0.5,) * 3)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse."""
        return list(self.body(images))


def timm_backbone(model: str, strides: Sequence[int] = (8, 16, 32), **options: Any) -> nn.Module:  # noqa: ANN401
    """The built-in behind names of the form ``timm/<model>``."""
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
        PluginError: unknown plugin, or one that does not keep the contract.
    """
    door, _, model = name.partition("/")
    build = plugins.find(GROUP, door, folder=plugin_folder)
    arguments = (model,) if model else ()
    module = build(*arguments, strides=tuple(strides), **options)
    check_contract(name, module)
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
    """Loads a local timm safetensors file into a ``TimmBackbone``; returns what stayed untouched.

    The classifier head of the file is ignored. Nothing is ever downloaded.
    """
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise UsageError(f"--pretrained {path}: expected a timm .safetensors file")
    source = load_file(path)
    target = module.state_dict()
    # timm's feature wrapper may flatten "stages.0" to "stages_0"; compare without that.
    by_plain = {k.replace("body.", "", 1).replace("_", "."): k for k in target}
    loaded: dict[str, Tensor] = {}
    for key, value in source.items():
        own = by_plain.get(key.replace("_", "."))
        if own is not None and target[own].shape == value.shape:
            loaded[own] = value.to(torch.float32) if value.is_floating_point() else value
    if not loaded:
        raise UsageError(f"--pretrained {path}: no tensor fits this backbone; is it its model?")
    module.load_state_dict(loaded, strict=False)
    return sorted(set(target) - set(loaded))
