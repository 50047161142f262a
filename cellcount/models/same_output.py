"""Comparison of a network with a faster one that has to compute the same.

Shapes: images float (N, 3, H, W); outputs one tensor, like logits, or a list of feature maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Rounding moves outputs by about 1e-6 of their range; a mistake moves them by far more.
_TOLERANCE = 1e-3


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
    image = random_image(side_px)
    with torch.inference_mode():
        return agree(maps_of(before(image)), maps_of(after(image)))


def _agree(before: Tensor, after: Tensor) -> bool:
    tolerance = _TOLERANCE * float(before.abs().nan_to_num(0.0, 0.0).max())
    return before.shape == after.shape and torch.allclose(before, after, _TOLERANCE, tolerance)
