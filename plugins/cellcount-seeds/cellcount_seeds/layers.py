"""Keras' layers in torch: 'same' padding, separable convolution, batch norm, initial weights.

Shapes: N images, C channels, s stride; (N, C, H, W) -> (N, C', ceil(H / s), ceil(W / s)).

'Same' padding as TensorFlow does it is max((ceil(H / s) - 1) s + k - H, 0) px in all, of which the
smaller half comes first; torch's own padding is symmetric and gives other numbers at even sizes.
timm's layers do that; they are checked against hand-worked examples in this package's tests.
"""

from __future__ import annotations

from typing import cast

from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn, ones

# Keras' defaults; its momentum counts the other way round (0.99).
EPSILON = 1e-3
MOMENTUM = 0.01


class SeparableConv2d(nn.Module):
    """3 x 3 per channel without bias, then 1 x 1 with bias, nothing between; stride 1, 'same'."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return cast(Tensor, self.pointwise(self.depthwise(features)))


class Rescale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """Any shape, kept."""
        return features * self.factor


def conv_norm_relu(inputs: int, outputs: int) -> list[nn.Module]:
    """3 x 3 convolution of stride 2 with bias, batch norm and ReLU, as three layers of Keras."""
    return [Conv2dSame(inputs, outputs, 3, stride=2), norm2d(outputs), nn.ReLU()]


def norm2d(channels: int) -> nn.BatchNorm2d:
    """BatchNormalization() of Keras on maps (N, channels, H, W)."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


def norm1d(channels: int) -> nn.BatchNorm1d:
    """BatchNormalization() of Keras on vectors (N, channels)."""
    return nn.BatchNorm1d(channels, eps=EPSILON, momentum=MOMENTUM)


def remove_scales(module: nn.Module) -> None:
    """Fixes the scale of every batch norm at 1, as BatchNormalization(scale=False) of Keras.

    It stays in the state dict as a buffer, so that files with and without it have the same names.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            fixed = ones(norm.num_features, device=norm.weight.device)
            del norm.weight
            norm.register_buffer("weight", fixed)


def init_as_keras(module: nn.Module) -> None:
    """Glorot uniform weights and zero biases, Keras' default for convolutions and dense layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
