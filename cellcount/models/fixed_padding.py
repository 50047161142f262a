"""Padding that depends on the size of the input, written into kernels once the size is known.

TensorFlow's ``same`` padding adds one more row and column behind than before where the stride asks
for it, and timm copies the whole feature map for that, a tenth of the time that a small network
takes for one cell. A kernel with one more row and column of zeros in front gives the same sums
under the padding that convolutions have themselves.

Shapes: as in the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cellcount.models.same_output import random_image

#: How timm calls such a convolution; a plugin's own of that name is compared all the same.
_NAME = "Conv2dSame"


def fix_padding_in(network: nn.Module, side_px: tuple[int, int]) -> int:
    """Fix the padding within a network; return how many convolutions pad otherwise now.

    Args:
        network: in evaluation mode, from images float (N, 3, H, W) to logits or several maps.
        side_px: height and width of every image from now on; where they are multiples of all its
            strides, other multiples will do as well.
    """
    sizes, hooks = dict[str, tuple[int, int]](), []
    for name, module in network.named_modules():
        if type(module).__name__ == _NAME and isinstance(module, nn.Conv2d):

            def seen(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                height, width = inputs[0].shape[-2:]
                sizes[name] = (int(height), int(width))

            hooks.append(module.register_forward_pre_hook(seen))
    if not hooks:
        return 0
    with torch.no_grad():  # the kernels may be asked for gradients later
        network(random_image(side_px))
        for hook in hooks:
            hook.remove()
        for name, size in sizes.items():
            parent, _, last = name.rpartition(".")
            own = network.get_submodule(name)
            assert isinstance(own, nn.Conv2d)
            setattr(network.get_submodule(parent), last, _fixed(own, size))
    return len(sizes)


def _fixed(own: nn.Conv2d, size_px: tuple[int, int]) -> nn.Conv2d:
    """Make the equal convolution for inputs of a fixed height and width."""
    reach, padding = list[int](), list[int]()
    for side, kernel, stride, step in zip(
        size_px, own.kernel_size, own.stride, own.dilation, strict=True
    ):
        total = max((-(-side // stride) - 1) * stride + (kernel - 1) * step + 1 - side, 0)
        if total % 2 and step > 1:
            return own  # a wider kernel would skip other places
        reach.append(kernel + total % 2)
        padding.append((total + 1) // 2)
    fixed = nn.Conv2d(
        own.in_channels,
        own.out_channels,
        (reach[0], reach[1]),
        (own.stride[0], own.stride[1]),
        (padding[0], padding[1]),
        (own.dilation[0], own.dilation[1]),
        own.groups,
        bias=own.bias is not None,
    )
    kernel_px = own.weight.shape[-2:]
    weight = torch.zeros(*own.weight.shape[:2], *reach)
    weight[..., reach[0] - kernel_px[0] :, reach[1] - kernel_px[1] :] = own.weight
    fixed.weight = nn.Parameter(weight)
    fixed.bias = own.bias
    return fixed.eval()
