"""Batch normalisation folded into the convolution before it, as inference needs it only once.

With fixed statistics both are one affine map (Jacob et al. 2018, arXiv:1712.05877, section 3.2), so
that nothing but rounding changes, and a pass over every feature map is saved.

Shapes: as in the model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from cellcount.models.same_output import with_changes


def folded(backbone: nn.Module, side_px: tuple[int, int] = (64, 64)) -> nn.Module:
    """Return the backbone with batch norms folded, or as it was where that changes its output.

    Args:
        backbone: in evaluation mode, from images float (N, 3, H, W) to a list of feature maps or
            to logits.
        side_px: height and width of an image that it takes.
    """
    return with_changes(backbone, [fold_in], [side_px])


def fold_in(module: nn.Module) -> int:
    """Fold all pairs among the children of every module; return how many there were.

    A convolution and the batch norm registered right behind it are taken for a pair.
    """
    pairs = 0
    children = list(module.named_children())
    for (_, first), (name, second) in pairwise(children):
        if _is_pair(first, second):
            _fold(cast(nn.Conv2d, first), cast(nn.BatchNorm2d, second))
            setattr(module, name, _rest(second))
            pairs += 1
    return pairs + sum(fold_in(child) for _, child in children)


def _is_pair(first: nn.Module, second: nn.Module) -> bool:
    return (
        isinstance(first, nn.Conv2d)
        and isinstance(second, nn.BatchNorm2d)
        and second.num_features == first.out_channels
        and second.running_mean is not None
    )


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    statistics = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        *statistics,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _rest(norm: nn.Module) -> nn.Module:
    """Remainder of a folded batch norm: the activation that timm puts into the same module."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
