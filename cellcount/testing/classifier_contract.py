"""The contract of classifiers.

Shapes: N cells, K classes, (H, W) the classifier's ``input_size``; input float (N, 3, H, W),
output (N, K).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount.errors import CellcountError
from cellcount.testing import network_checks

if TYPE_CHECKING:
    from torch import Tensor, nn

Build = Callable[[int], "nn.Module"]

# One class is asked for as one logit, for a sigmoid.
CLASSES = (5, 1)


def check_classifier(
    name_or_build: str | Build,
    plugins: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the classifier's own options
) -> list[str]:
    """Check a classifier against its contract; one sentence per problem, empty when it is sound.

    Args:
        name_or_build: plugin name, ``timm/<model>``, or a build function of the number of classes.
        plugins: folder that holds the plugin, as in ``--plugins``.
        options: given to the build function.
    """
    from cellcount.models.classifier import create_classifier

    build: Build
    if isinstance(name_or_build, str):
        build = partial(create_classifier, name_or_build, plugin_folder=plugins, **options)
    else:
        build = partial(name_or_build, **options)
    try:
        return list(_problems(build))
    except CellcountError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001 -- a plugin's fault is what we are here to report
        return [f"building it gave {type(error).__name__}: {error}"]


def _problems(build: Build) -> Iterator[str]:
    from torch import nn

    for classes in CLASSES:
        module: object = build(classes)
        if not isinstance(module, nn.Module):
            yield f"it is a {type(module).__name__}, expected a torch.nn.Module"
            return
        stated = list(_attribute_problems(module))
        yield from stated
        if stated:
            return  # nothing can be fed to it without them
        checks: dict[str, network_checks.Check] = {
            "shapes": partial(_shape_problems, classes=classes)
        }
        if classes == CLASSES[0]:
            checks.update(_network_checks(module, partial(build, classes)))
        yield from network_checks.run_checks(module, checks)


def _network_checks(
    module: nn.Module, rebuild: Callable[[], nn.Module]
) -> dict[str, network_checks.Check]:
    images = _images(module)
    return {
        "eval mode": partial(network_checks.eval_problems, images=images, forward=_logits),
        "gradients": partial(network_checks.gradient_problems, images=images, forward=_logits),
        "weights": partial(
            network_checks.weight_problems, images=images[:1], forward=_logits, rebuild=rebuild
        ),
    }


def _attribute_problems(module: nn.Module) -> Iterator[str]:
    from cellcount.models.classifier import INTERPOLATIONS

    size: Any = getattr(module, "input_size", None)
    if not (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
    ):
        yield f"input_size is {size!r}, expected (height, width) in px"
    yield from network_checks.rgb_problems(module)
    interpolation = getattr(module, "interpolation", None)
    if interpolation not in INTERPOLATIONS:
        yield f"interpolation is {interpolation!r}, expected {' or '.join(INTERPOLATIONS)}"


def _images(module: nn.Module) -> Tensor:
    height, width = module.input_size  # type: ignore[misc]  # checked before
    return network_checks.noise(2, height, width)


def _logits(module: nn.Module, images: Tensor) -> list[Tensor]:
    return [module(images)]


def _shape_problems(module: nn.Module, classes: int) -> Iterator[str]:
    import torch

    module.eval()
    with torch.no_grad():
        logits = module(_images(module))
    if not isinstance(logits, torch.Tensor):
        yield f"forward returns a {type(logits).__name__}, expected a tensor"
    elif tuple(logits.shape) != (2, classes):
        yield f"two cells give logits of {tuple(logits.shape)}, expected (2, {classes})"
    elif not logits.isfinite().all():
        yield f"with {classes} classes it gives values that are not finite"
