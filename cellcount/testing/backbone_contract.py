"""The contract of backbones.

Shapes: N images, H and W multiples of the largest stride and of 32, C_i channels at stride s_i;
input float (N, 3, H, W), output one (N, C_i, H / s_i, W / s_i) per level.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount import plugins as doors
from cellcount.errors import CellcountError
from cellcount.testing import network_checks

if TYPE_CHECKING:
    from torch import Tensor, nn

# Multiples of the unit below, odd ones among them: a power of two hides rounding mistakes.
TRAINED_STRIDES = (8, 16, 32)  # as a training of default settings asks for them
SIZES_IN_UNITS = ((1, 1), (3, 5), (5, 2))


def check_backbone(
    name_or_module: str | nn.Module,
    plugins: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the backbone's own options
) -> list[str]:
    """Check a backbone against its contract; one sentence per problem, empty when it is sound.

    Args:
        name_or_module: plugin name, ``timm/<model>``, or a module already built.
        plugins: folder that holds the plugin, as in ``--plugins``.
        options: given to the plugin's build function, with ``strides`` as a training gives them.
    """
    if not isinstance(name_or_module, str):
        return list(_problems(name_or_module, lambda: copy.deepcopy(name_or_module)))
    door, _, model = name_or_module.partition("/")
    try:
        find = doors.find(doors.BACKBONES, door, folder=plugins)
        asked = {"strides": TRAINED_STRIDES, **options}
        build = partial(find, *([model] if model else []), **asked)
        problems = list(_problems(module := build(), build))
        stated = getattr(module, "strides", None)
        if not problems and tuple(stated or ()) != tuple(asked["strides"]):
            problems.append(
                f"asked for strides {asked['strides']}, as a training asks, it states {stated}; it "
                "gives the levels that it is asked for, or raises ValueError"
            )
        return problems
    except CellcountError as error:
        return [str(error)]
    except TypeError as error:
        return [
            f"building it gave TypeError: {error}; a training calls it with the keyword strides="
            f"{TRAINED_STRIDES}, and with the options of the model's card"
        ]
    except Exception as error:  # noqa: BLE001 -- a plugin's fault is what we are here to report
        return [f"building it gave {type(error).__name__}: {error}"]


def _problems(module: object, rebuild: Callable[[], nn.Module]) -> Iterator[str]:
    from torch import nn

    if not isinstance(module, nn.Module):
        yield f"it is a {type(module).__name__}, expected a torch.nn.Module"
        return
    stated = [*_level_problems(module), *network_checks.rgb_problems(module)]
    yield from stated
    if stated:
        return  # shapes cannot be judged without them
    module = copy.deepcopy(module)  # the caller's own stays as it is
    images = _images(module, 2)
    yield from network_checks.run_checks(
        module,
        {
            "shapes": _shape_problems,
            "eval mode": partial(network_checks.eval_problems, images=images, forward=_levels),
            "gradients": partial(network_checks.gradient_problems, images=images, forward=_levels),
            "weights": partial(
                network_checks.weight_problems, images=images[:1], forward=_levels, rebuild=rebuild
            ),
        },
    )


def _level_problems(module: nn.Module) -> Iterator[str]:
    channels: Any = getattr(module, "channels", None)
    strides: Any = getattr(module, "strides", None)
    if not (_is_whole(channels) and min(channels) > 0):
        yield (
            f"channels is {channels!r}, expected a tuple of positive whole numbers, one per level"
        )
    if not (
        _is_whole(strides)
        and all(s > 0 and s & (s - 1) == 0 for s in strides)
        and list(strides) == sorted(set(strides))
        and (not isinstance(channels, tuple) or len(channels) == len(strides))
    ):
        yield (
            f"strides is {strides!r}, expected a tuple of ascending powers of two, as many as "
            "channels"
        )


def _is_whole(value: Any) -> bool:  # noqa: ANN401 -- anything may stand there
    return isinstance(value, tuple) and bool(value) and all(type(v) is int for v in value)


def _levels(module: nn.Module, images: Tensor) -> list[Tensor]:
    return list(module(images))


def _images(module: nn.Module, n: int, units: tuple[int, int] = (2, 3)) -> Tensor:
    unit = max(32, *module.strides)  # type: ignore[misc]  # checked before
    return network_checks.noise(n, units[0] * unit, units[1] * unit)


def _shape_problems(module: nn.Module) -> Iterator[str]:
    import torch

    module.eval()
    for units in SIZES_IN_UNITS:
        images = _images(module, 2, units)
        height, width = images.shape[-2:]
        with torch.no_grad():
            levels = module(images)
        if not isinstance(levels, list | tuple):
            yield f"forward returns a {type(levels).__name__}, expected a list of tensors"
            return
        expected = [
            (2, c, height // s, width // s)
            for c, s in zip(module.channels, module.strides, strict=True)  # type: ignore[arg-type]
        ]
        actual = [tuple(level.shape) for level in levels]
        if actual != expected:
            yield f"an input of {height}x{width} gives {actual}, expected {expected}"
        elif not all(torch.isfinite(level).all() for level in levels):
            yield f"an input of {height}x{width} gives values that are not finite"
