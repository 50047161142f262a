"""Changes that make a network faster, each kept only where the output stays the same.

Shapes: images float (N, 3, H, W); outputs one tensor, like logits, or a list of feature maps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: Rounding moves outputs by about 1e-6 of their range; a mistake moves them by far more.
_TOLERANCE = 1e-3

#: Changes a network in evaluation mode in place; returns how many of its modules it changed.
Change = Callable[[nn.Module], int]


def with_changes(
    network: nn.Module, changes: Sequence[Change], sides_px: Sequence[tuple[int, int]]
) -> nn.Module:
    """Return a copy of the network with all changes, without those that would change its output.

    That a plugin calls modules in the order of their registration is not known, so the network and
    its copy look at the same random images. They are compared once for all changes, and for each
    change only where they differ then, or where the changed copy fails.

    Args:
        network: in evaluation mode, from images float (N, 3, H, W) to logits or several maps.
        changes: in the order in which they are made.
        sides_px: heights and widths of the images.

    Returns:
        The network itself where nothing is changed.
    """
    if network.training:
        raise ValueError("a network in training mode cannot be changed: its statistics change")
    candidate = copy.deepcopy(network)
    try:
        if not sum(change(candidate) for change in changes):
            return network
        if all(same_output(network, candidate, side_px) for side_px in sides_px):
            return candidate
    except Exception:  # noqa: BLE001 -- a plugin may ask a replaced module for whatever it had
        for side_px in sides_px:
            _outputs(network, side_px)  # raises where the network itself is at fault
    if len(changes) > 1:
        for change in changes:
            network = with_changes(network, [change], sides_px)
    return network


def random_image(side_px: tuple[int, int]) -> Tensor:
    """Return a normalised image (1, 3, H, W), the same at every call."""
    return torch.randn(1, 3, *side_px, generator=torch.Generator().manual_seed(0))


def maps_of(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the output of a network as a list, also where it is one tensor."""
    return [output] if isinstance(output, Tensor) else list(output)


def agree(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Return whether two outputs are the same up to rounding."""
    return len(before) == len(after) and all(map(_agree, before, after))


def same_output(before: nn.Module, after: nn.Module, side_px: tuple[int, int]) -> bool:
    """Return whether two networks, in evaluation mode, give one output for a random image."""
    return agree(_outputs(before, side_px), _outputs(after, side_px))


def _outputs(network: nn.Module, side_px: tuple[int, int]) -> list[Tensor]:
    """Return the output of a network, in evaluation mode, for a random image."""
    with torch.inference_mode():
        return maps_of(network(random_image(side_px)))


def _agree(before: Tensor, after: Tensor) -> bool:
    tolerance = _TOLERANCE * float(before.abs().nan_to_num(0.0, 0.0).max())
    return before.shape == after.shape and torch.allclose(before, after, _TOLERANCE, tolerance)
