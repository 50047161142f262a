"""Keras' layers, each against numbers worked out by hand or by plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cellcount_seeds.layers import SeparableConv2d, init_as_keras, norm2d, remove_scales
from cellcount_seeds.xception import build as build_xception
from numpy.typing import NDArray
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[np.float64]


def naive_separable(image: Array, depthwise: Array, pointwise: Array, bias: Array) -> Array:
    """(C, H, W), (C, 3, 3), (K, C), (K,) -> (K, H, W), pixel by pixel, zeros outside."""
    channels, height, width = image.shape
    result = np.zeros((len(bias), height, width))
    for y in range(height):
        for x in range(width):
            filtered = np.zeros(channels)
            for c in range(channels):
                for dy in range(3):
                    for dx in range(3):
                        row, column = y + dy - 1, x + dx - 1
                        if 0 <= row < height and 0 <= column < width:
                            filtered[c] += depthwise[c, dy, dx] * image[c, row, column]
            result[:, y, x] = pointwise @ filtered + bias
    return result


def test_separable_convolution() -> None:
    torch.manual_seed(0)
    layer = SeparableConv2d(3, 4).double()
    image = torch.randn(3, 6, 5, dtype=torch.float64)
    depthwise, pointwise, bias = (p.detach().numpy() for p in layer.parameters())
    expected = naive_separable(image.numpy(), depthwise[:, 0], pointwise[:, :, 0, 0], bias)
    np.testing.assert_allclose(layer(image[None])[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # Four pixels, stride 2: one pixel of padding, all of it behind.
        ([1, 2, 3, 4], [1 + 20 + 300, 3 + 40]),
        # Five: one before and one behind.
        ([1, 2, 3, 4, 5], [10 + 200, 2 + 30 + 400, 4 + 50]),
    ],
)
def test_same_padding_as_tensorflow_does_it(row: list[int], expected: list[int]) -> None:
    layer = Conv2dSame(1, 1, (3, 1), stride=(2, 1), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1))
    column = torch.tensor(row, dtype=torch.float32).view(1, 1, -1, 1)
    assert layer(column).flatten().tolist() == expected


def test_max_pooling_ignores_its_padding() -> None:
    pool = MaxPool2dSame(3, stride=2)
    image = -torch.arange(1.0, 17.0).view(1, 1, 4, 4)  # all negative: a zero outside would win
    assert pool(image).tolist() == [[[[-1, -3], [-9, -11]]]]


def test_batch_norm_without_scale() -> None:
    layer = norm2d(2)
    remove_scales(layer)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert "weight" in layer.state_dict()
    values = torch.tensor([[[[1.0, 3.0]], [[0.0, 8.0]]]])  # means 2 and 4, variances 1 and 16
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, 5.0]))
    out = layer(values)
    expected = [[[-1 / 1.001**0.5, 1 / 1.001**0.5]], [[5 - 4 / 16.001**0.5, 5 + 4 / 16.001**0.5]]]
    np.testing.assert_allclose(out[0].detach().numpy(), expected, rtol=1e-6)
    # Keras: moving = 0.99 moving + 0.01 batch.
    torch.testing.assert_close(layer.running_mean, torch.tensor([0.02, 0.04]))


def test_initial_weights_are_glorot_uniform() -> None:
    torch.manual_seed(0)
    conv, dense = nn.Conv2d(32, 64, 3), nn.Linear(100, 50)
    init_as_keras(nn.Sequential(conv, dense))
    for (weight, bias), fans in ((conv.parameters(), 9 * (32 + 64)), (dense.parameters(), 150)):
        limit = (6 / fans) ** 0.5
        assert 0.98 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
        assert not bias.any()


def test_the_xception_against_the_listing_written_out() -> None:
    torch.manual_seed(0)
    model = build_xception(5, image_size=50).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    image = torch.rand(2, 3, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(model(image), written_out(model, image), atol=1e-5, rtol=1e-4)


def written_out(model: nn.Module, image: Tensor) -> Tensor:
    """The paper's layers in its order, with nothing but torch's functions."""
    state: dict[str, Tensor] = model.state_dict()
    values = iter([value for name, value in state.items() if "num_batches" not in name])

    def padded(x: Tensor, kernel: int, fill: float) -> Tensor:
        sides: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return functional.pad(x, sides, value=fill)

    def strided(x: Tensor) -> Tensor:
        weight = next(values)
        return functional.conv2d(padded(x, weight.shape[2], 0), weight, next(values), stride=2)

    def separable(x: Tensor) -> Tensor:
        x = functional.conv2d(x, next(values), padding=1, groups=x.shape[1])
        return functional.conv2d(x, next(values), next(values))

    def norm(x: Tensor) -> Tensor:
        scale, shift, mean, variance = (next(values)[:, None, None] for _ in range(4))
        normal: Tensor = (x - mean) / (variance + 0.001).sqrt()
        return normal * scale + shift

    x = norm(strided(image)).relu()
    x = norm(strided(x)).relu()
    for _ in range(4):
        before = x
        x = norm(separable(x.relu()))
        x = norm(separable(x.relu()))
        x = functional.max_pool2d(padded(x, 3, -torch.inf), 3, stride=2) + strided(before)
    x = norm(separable(x.relu())).mean(dim=(2, 3))
    return functional.linear(x, next(values), next(values))
