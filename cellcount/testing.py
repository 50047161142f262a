"""Contract checks for plugins and weight files: what cellcount relies on, each break a sentence.

In a plugin's own tests: ``assert check_backbone("tinynet") == []``.

Shapes: N images, H and W multiples of the largest stride and of 32, C_i channels at stride s_i;
input float (N, 3, H, W), output one (N, C_i, H / s_i, W / s_i) per level. Tiles of a detector are
uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount import plugins as doors
from cellcount.errors import CellcountError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from cellcount.engines.base import Engine
    from cellcount.models.card import Card
    from cellcount.records import Detections

# Multiples of the unit below, odd ones among them: a power of two hides rounding mistakes.
SIZES_IN_UNITS = ((1, 1), (3, 5), (5, 2))
TOLERANCE = 1e-4


def check_backbone(
    name_or_module: str | nn.Module,
    plugins: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the backbone's own options
) -> list[str]:
    """What a backbone breaks of its contract, one sentence per problem; empty when it is sound.

    Args:
        name_or_module: plugin name, ``timm/<model>``, or a module already built.
        plugins: folder that holds the plugin, as in ``--plugins``.
        options: given to the plugin's build function.
    """
    if not isinstance(name_or_module, str):
        return list(_problems(name_or_module, lambda: copy.deepcopy(name_or_module)))
    door, _, model = name_or_module.partition("/")
    try:
        find = doors.find(doors.BACKBONES, door, folder=plugins)
        build = partial(find, *([model] if model else []), **options)
        return list(_problems(build(), build))
    except CellcountError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001 -- a plugin's fault is what we are here to report
        return [f"building it gave {type(error).__name__}: {error}"]


def _problems(module: object, rebuild: Callable[[], nn.Module]) -> Iterator[str]:
    from torch import nn

    if not isinstance(module, nn.Module):
        yield f"it is a {type(module).__name__}, expected a torch.nn.Module"
        return
    stated = list(_attribute_problems(module))
    yield from stated
    if stated:
        return  # shapes cannot be judged without them
    module = copy.deepcopy(module)  # the caller's own stays as it is
    checks: dict[str, Callable[[nn.Module], Iterator[str]]] = {
        "shapes": _shape_problems,
        "eval mode": _eval_problems,
        "gradients": _gradient_problems,
        "weights": partial(_weight_problems, rebuild=rebuild),
    }
    for name, check in checks.items():
        try:
            yield from check(module)
        except Exception as error:  # noqa: BLE001 -- as above
            yield f"checking its {name} gave {type(error).__name__}: {error}"


def _attribute_problems(module: nn.Module) -> Iterator[str]:
    expected = {
        "channels": "a tuple of positive whole numbers, one per level",
        "strides": "a tuple of ascending powers of two, as many as channels",
        "mean": "three numbers from 0 to 1 (of RGB in 0-1)",
        "std": "three numbers above 0 (of RGB in 0-1)",
    }
    values: dict[str, Any] = {name: getattr(module, name, None) for name in expected}
    channels, strides = values["channels"], values["strides"]
    fine = {
        "channels": _is_whole(channels) and min(channels) > 0,
        "strides": _is_whole(strides)
        and all(s > 0 and s & (s - 1) == 0 for s in strides)
        and list(strides) == sorted(set(strides))
        and (not isinstance(channels, tuple) or len(channels) == len(strides)),
        "mean": _is_triple(values["mean"]) and all(0 <= v <= 1 for v in values["mean"]),
        "std": _is_triple(values["std"]) and all(v > 0 for v in values["std"]),
    }
    for name, good in fine.items():
        if not good:
            yield f"{name} is {values[name]!r}, expected {expected[name]}"


def _is_whole(value: Any) -> bool:  # noqa: ANN401 -- anything may stand there
    return isinstance(value, tuple) and bool(value) and all(type(v) is int for v in value)


def _is_triple(value: Any) -> bool:  # noqa: ANN401 -- as above
    return (
        isinstance(value, tuple | list)
        and len(value) == 3
        and all(isinstance(v, int | float) for v in value)
    )


def _images(module: nn.Module, n: int, units: tuple[int, int] = (2, 3)) -> Tensor:
    import torch

    unit = max(32, *module.strides)  # type: ignore[misc]  # checked before
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, units[0] * unit, units[1] * unit, generator=generator)  # (N, 3, H, W)


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


def _eval_problems(module: nn.Module) -> Iterator[str]:
    import torch

    module.eval()
    images = _images(module, 2)
    with torch.no_grad():
        first, second, alone = module(images), module(images), module(images[:1])
    if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        yield "two calls in eval mode differ, expected the same values (dropout left on?)"
    if not all(_close(a[:1], b) for a, b in zip(first, alone, strict=True)):
        yield "an image's features depend on the other images of its batch in eval mode"


def _gradient_problems(module: nn.Module) -> Iterator[str]:
    module.train()
    module.zero_grad()
    total = sum(level.float().square().mean() for level in module(_images(module, 2)))
    total.backward()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            yield f"parameter {name} gets no gradient: leave out what no level uses"
        elif not parameter.grad.isfinite().all():
            yield f"the gradient of parameter {name} is not finite"


def _weight_problems(module: nn.Module, rebuild: Callable[[], nn.Module]) -> Iterator[str]:
    """A safetensors file must hold all that a freshly built one needs to give the same features."""
    import torch
    from safetensors.torch import load, save

    kept = save({key: value.contiguous() for key, value in module.state_dict().items()})
    fresh = rebuild()
    fresh.load_state_dict(load(kept))
    module.eval()
    fresh.eval()
    images = _images(module, 1)
    with torch.no_grad():
        before, after = module(images), fresh(images)
    if not all(_close(a, b) for a, b in zip(before, after, strict=True)):
        yield (
            "built again and loaded with its own state_dict it gives other features: "
            "register every tensor as a parameter or a persistent buffer"
        )


def _close(one: Tensor, other: Tensor) -> bool:
    import torch

    return one.shape == other.shape and torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def check_weights(weights: Path, plugins: Path | None = None) -> list[str]:
    """What is wrong with a detector's weight file, one sentence per problem; empty when sound.

    The card is validated, the tensors are loaded with every name and shape compared, and the
    detector looks at an empty and at a rendered field.

    Args:
        weights: safetensors file with its card.
        plugins: folder that holds its backbone, where that is a plugin.
    """
    from cellcount.engines.base import EngineOptions, load_engine

    try:
        engine = load_engine("auto", weights, EngineOptions("cpu", "fp32", 2, plugins))
    except CellcountError as error:
        return [str(error)]
    problems = list(_card_problems(engine.card))
    problems += _number_problems(weights)
    try:
        problems += _detection_problems(engine)
    except Exception as error:  # noqa: BLE001 -- a plugin's backbone may do anything
        problems.append(f"detecting gave {type(error).__name__}: {error}")
    return problems


def _card_problems(card: Card) -> Iterator[str]:
    unstated = [c.id for c in card.classes if c.id not in card.thresholds]
    if unstated:
        yield f"the card states no threshold for {', '.join(unstated)}, so 0.5 is used"
    if not card.data:
        yield "the card names no training data"
    if card.inference.margin_px < card.rbc_diameter_px:
        yield (
            f"tiles overlap by {card.inference.margin_px} px, expected at least a red cell of "
            f"{card.rbc_diameter_px:g} px: cells on seams would be lost"
        )


def _number_problems(weights: Path) -> Iterator[str]:
    from cellcount.models.weights import read_weights

    _, tensors = read_weights(weights)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            yield f"tensor {name} holds values that are not finite"


def _detection_problems(engine: Engine) -> Iterator[str]:
    """Two fields, an empty and a rendered one, alone and as batch mates."""
    import numpy as np

    from cellcount.engines.cost import reference_field

    rendered = reference_field(engine.card.rbc_diameter_px)
    tiles = {"an empty field": np.full_like(rendered, 235), "a rendered field": rendered}
    together = engine.detect(list(tiles.values()))
    for (name, tile), found in zip(tiles.items(), together, strict=True):
        yield from (f"on {name} {what}" for what in _output_problems(engine.card, tile, found))
        (alone,) = engine.detect([tile])
        if len(alone) != len(found) or not np.array_equal(alone.boxes_xyxy, found.boxes_xyxy):
            yield f"on {name} the detections depend on the other tile of the batch"
    counted = _counted(engine.card, together[0])
    if counted:
        yield f"on an empty field it counts {counted} cells, expected none"


def _output_problems(card: Card, tile: NDArray[np.uint8], found: Detections) -> Iterator[str]:
    import numpy as np

    height, width = tile.shape[:2]
    boxes, scores, labels = found.boxes_xyxy, found.scores, found.labels
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        yield "boxes or scores are not finite"
    elif len(boxes) and (boxes.min() < 0 or (boxes.max(0) > [width, height] * 2).any()):
        yield f"boxes leave the tile of {width}x{height} px"
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        yield f"scores go from {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1"
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(card.classes)):
        yield f"labels go from {labels.min()} to {labels.max()}, with {len(card.classes)} classes"


def _counted(card: Card, found: Detections) -> int:
    import numpy as np

    thresholds = np.array([card.threshold_of(c.id) for c in card.classes], np.float32)
    return int((found.scores >= thresholds[found.labels]).sum())
