"""Convolutions that compute the activation behind them, which saves a pass over every feature map.

oneDNN bounds the sums before it writes them. Asked directly, it also computes kernels of one pixel
where there is one thread alone, for which torch takes an algorithm that copies the map.

Shapes: images float (N, C, H, W); whatever comes out of the network.
"""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_RELU = (0.0, float("inf"))


def fuse_in(module: nn.Module) -> int:
    """Fuse within a module whose parts are called in order; return how many convolutions were."""
    if not can_fuse():
        return 0
    count = 0
    parts = list(module.named_children())
    followers = [*parts[1:], ("", nn.Identity())]
    for (name, part), (name_behind, behind) in zip(parts, followers, strict=False):
        if type(part) is not nn.Conv2d:
            count += fuse_in(part)
        elif part.padding_mode == "zeros" and not isinstance(part.padding, str):
            bounds = _bounds(behind)
            setattr(module, name, FusedConvolution.of(part, bounds))
            if bounds is not None:
                setattr(module, name_behind, nn.Identity())
            count += 1
    return count


class FusedConvolution(nn.Conv2d):
    """Convolution whose results are kept within bounds, both in one pass where it can be had.

    Attributes:
        bounds: least and largest value, infinity for none; None for a convolution alone.
    """

    bounds: tuple[float, float] | None = None

    @classmethod
    def of(cls, own: nn.Conv2d, bounds: tuple[float, float] | None) -> Self:
        """Take over the tensors of a convolution, with the bounds of the activation behind it."""
        made = cls.__new__(cls)
        made.__dict__ = own.__dict__.copy()
        made.bounds = bounds
        return made

    def forward(self, input: Tensor) -> Tensor:
        """Return the bounded convolution of maps float (N, C, H, W)."""
        if not self._takes(input):
            y = super().forward(input)
            return y if self.bounds is None else functional.hardtanh_(y, *self.bounds)
        attribute, scalars = "none", list[float]()
        if self.bounds == _RELU:
            attribute = "relu"
        elif self.bounds is not None:
            attribute, scalars = "hardtanh", list(self.bounds)
        y = torch.ops.mkldnn._convolution_pointwise(
            input,
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            attribute,
            scalars,
            "",
        )
        return cast(Tensor, y)

    def _takes(self, input: Tensor) -> bool:
        """Return whether oneDNN computes it: float32 on a processor, without gradients."""
        return (
            input.dtype == torch.float32
            and input.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )


def can_fuse() -> bool:
    """Return whether torch was built with oneDNN, and offers its fused convolution."""
    has_operation = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_operation and available


def _bounds(activation: nn.Module) -> tuple[float, float] | None:
    """Bounds that an activation keeps its values in, None for what does otherwise."""
    if isinstance(activation, nn.Hardtanh):  # ReLU6 is one
        return float(activation.min_val), float(activation.max_val)
    return _RELU if type(activation) is nn.ReLU else None
