"""Cost of a model: floating-point operations of a field or a cell, by one stated convention.

A multiplication with its addition counts as two operations. Convolutions and matrix products are
counted; RoIAlign, suppression and everything element by element count as nothing. Attention is
computed by its matrix products, since a fused one would count as nothing too.

Shapes: pixels uint8 (H, W, 3) RGB; a classifier's input float (1, 3, H, W).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from cellcount.core.side_by_side import in_this_thread
from cellcount.engines.base import Engine
from cellcount.models.fused_activation import can_fuse
from cellcount.rendering.field import FieldSpec, render_field

REFERENCE_SIZE_PX = (640, 480)
_SEED = 12
_LARGEST_RENDERED_PX = 400.0


def reference_field(rbc_diameter_px: float) -> NDArray[np.uint8]:
    """A rendered 640x480 field half covered with red cells of that diameter, always the same."""
    width, height = REFERENCE_SIZE_PX
    diameter = min(rbc_diameter_px, _LARGEST_RENDERED_PX)
    return render_field(FieldSpec(width, height, _SEED, diameter, density=0.5)).pixels


def flop_counter() -> FlopCounterMode:
    """A counter of operations that knows convolutions with activations in them, too."""

    def convolution(
        x_shape: list[int], w_shape: list[int], *_: object, out_shape: list[int], **__: object
    ) -> int:
        return int(conv_flop_count(x_shape, w_shape, out_shape))

    known = {torch.ops.mkldnn._convolution_pointwise: convolution} if can_fuse() else {}
    return FlopCounterMode(display=False, custom_mapping=known)


def flops_of(engine: Engine, tile: NDArray[np.uint8]) -> int:
    """Operations of one detection call on one tile at the model's scale.

    A batch is padded to the engine's batch size, and the padding is counted as it is computed.
    """
    counter = flop_counter()
    with in_this_thread(), counter:
        engine.detect([tile])
    return int(counter.get_total_flops())


def flops_of_module(module: nn.Module, input_px: tuple[int, int]) -> int:
    """Operations of a classifier on one cell of that height and width; its mode is kept."""
    device = next(module.parameters()).device
    was_training = module.training
    counter = flop_counter()
    # no_grad and not inference mode: the counter must see attention taken apart.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        module.eval()(torch.zeros(1, 3, *input_px, device=device))
    module.train(was_training)
    return int(counter.get_total_flops())
