"""Operations counted by torch against a count by hand, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellcount.engines.base import EngineOptions
from cellcount.engines.torchvision import FasterRCNN, TorchvisionEngine
from cellcount.evaluation.cost import REFERENCE_SIZE_PX, flops_of, flops_of_module, reference_field
from cellcount.models.weights import load_state, read_weights


def test_the_reference_field_is_always_the_same() -> None:
    field = reference_field(40)
    assert (field.shape[1], field.shape[0]) == REFERENCE_SIZE_PX
    assert np.array_equal(field, reference_field(40))
    assert field.std() > 5
    assert reference_field(512).shape == field.shape


@pytest.mark.parametrize("batch_size", [1, 3])
def test_operations_are_those_of_every_convolution_and_product(
    tiny_weights: Path, batch_size: int
) -> None:
    card, state = read_weights(tiny_weights)
    model = FasterRCNN(card)
    load_state(model, state, source=tiny_weights)
    engine = TorchvisionEngine(model, card, EngineOptions("cpu", "fp32", batch_size))
    tile = np.zeros((96, 160, 3), np.uint8)
    by_hand = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal by_hand
        if isinstance(module, nn.Conv2d):
            per_value = module.in_channels // module.groups * module.kernel_size[0] ** 2
        else:
            assert isinstance(module, nn.Linear)
            per_value = module.in_features
        by_hand += 2 * per_value * output.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    counted = flops_of(engine, tile)
    assert counted == by_hand > 0


class Attention(nn.Module):
    """Scaled dot products of 16 places with 8 channels, as timm fuses them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        q, k, v = self.first(images).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_fused_attention_is_counted_by_its_products() -> None:
    module = Attention()
    convolution = 2 * (3 * 64) * 24 * 16
    products = 2 * (16 * 8 * 16) * 2  # queries with keys, weights with values
    assert flops_of_module(module, (32, 32)) == convolution + products
    assert module.training  # as it was
