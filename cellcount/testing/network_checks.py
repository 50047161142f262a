"""Checks of any network: evaluation repeats itself, gradients flow, weights can be kept.

Shapes: input float (N, 3, H, W), outputs a list of tensors with N in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-4

Check = Callable[["nn.Module"], Iterator[str]]
Forward = Callable[["nn.Module", "Tensor"], "list[Tensor]"]


def run_checks(module: nn.Module, checks: dict[str, Check]) -> Iterator[str]:
    """The problems that each check finds, or how it failed."""
    for name, check in checks.items():
        try:
            yield from check(module)
        except Exception as error:  # noqa: BLE001 -- a plugin's fault is what we are here to report
            yield f"checking its {name} gave {type(error).__name__}: {error}"


def noise(n: int, height: int, width: int) -> Tensor:
    """Return random images (N, 3, H, W), the same ones each time."""
    import torch

    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def eval_problems(module: nn.Module, images: Tensor, forward: Forward) -> Iterator[str]:
    """Check that evaluation repeats itself, and treats each of two images alone."""
    import torch

    module.eval()
    with torch.no_grad():
        first, second = forward(module, images), forward(module, images)
        alone = forward(module, images[:1])
    if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        yield "two calls in eval mode differ, expected the same values (dropout left on?)"
    if not all(_close(a[:1], b) for a, b in zip(first, alone, strict=True)):
        yield "an image's values depend on the other images of its batch in eval mode"


def gradient_problems(module: nn.Module, images: Tensor, forward: Forward) -> Iterator[str]:
    """Check that every trainable parameter gets a finite gradient."""
    import torch

    module.train()
    module.zero_grad()
    parts = [part.float().square().mean() for part in forward(module, images)]
    torch.autograd.backward(torch.stack(parts).sum())
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            yield f"parameter {name} gets no gradient: leave out what no output uses"
        elif not parameter.grad.isfinite().all():
            yield f"the gradient of parameter {name} is not finite"


def weight_problems(
    module: nn.Module, images: Tensor, forward: Forward, rebuild: Callable[[], nn.Module]
) -> Iterator[str]:
    """Check that a safetensors file holds all that a new network needs to give the same values."""
    import torch
    from safetensors.torch import load, save

    kept = save({key: value.contiguous() for key, value in module.state_dict().items()})
    fresh = rebuild()
    fresh.load_state_dict(load(kept))
    module.eval()
    fresh.eval()
    with torch.no_grad():
        before, after = forward(module, images), forward(fresh, images)
    if not all(_close(a, b) for a, b in zip(before, after, strict=True)):
        yield (
            "built again and loaded with its own state_dict it gives other values: "
            "register every tensor as a parameter or a persistent buffer"
        )


def rgb_problems(module: nn.Module) -> Iterator[str]:
    """Check that mean and std are three numbers each."""
    mean: Any = getattr(module, "mean", None)
    std: Any = getattr(module, "std", None)
    if not (_is_triple(mean) and all(0 <= v <= 1 for v in mean)):
        yield f"mean is {mean!r}, expected three numbers from 0 to 1 (of RGB in 0-1)"
    if not (_is_triple(std) and all(v > 0 for v in std)):
        yield f"std is {std!r}, expected three numbers above 0 (of RGB in 0-1)"


def _is_triple(value: Any) -> bool:  # noqa: ANN401 -- anything may stand there
    return (
        isinstance(value, tuple | list)
        and len(value) == 3
        and all(isinstance(v, int | float) for v in value)
    )


def _close(one: Tensor, other: Tensor) -> bool:
    import torch

    return one.shape == other.shape and torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
