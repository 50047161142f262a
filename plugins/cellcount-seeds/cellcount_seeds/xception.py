"""The compact Xception of paper 002 (its figure 3): five classes, or one logit for one-versus-rest.

Shapes: N images of 250 x 250 px; (N, 3, 250, 250) -> (N, 32, 125, 125) -> (N, 64, 63, 63) -> four
residual blocks to (N, 128, 32, 32), (N, 256, 16, 16), (N, 512, 8, 8), (N, 728, 4, 4) ->
(N, 1024, 4, 4) -> (N, 1024) -> logits (N, K).

NOTE: the printed table has conv2d_2 read activation_4, which comes after it; it reads the stem.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

from cellcount_seeds.classifier import Preprocessing, SeedClassifier, check_request
from cellcount_seeds.layers import SeparableConv2d, conv_norm_relu, init_as_keras, norm2d
from cellcount_seeds.pretrained import load_pretrained

SIDE_PX = 250
SMALLEST_PX = 32
BLOCK_CHANNELS = (128, 256, 512, 728)
LAST_CHANNELS = 1024
DROPOUT = 0.5


class ResidualBlock(nn.Module):
    """Two separable convolutions and a pooling beside a 1 x 1 convolution; halves the map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ReLU(),
            SeparableConv2d(inputs, outputs),
            norm2d(outputs),
            nn.ReLU(),
            SeparableConv2d(outputs, outputs),
            norm2d(outputs),
            MaxPool2dSame(3, stride=2),
        )
        self.shortcut = Conv2dSame(inputs, outputs, 1, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H / 2), ceil(W / 2))."""
        halved: Tensor = self.main(features) + self.shortcut(features)
        return halved


def build(
    num_classes: int, *, image_size: int = SIDE_PX, pretrained: Path | None = None
) -> SeedClassifier:
    """``seed002-xception``; with ``num_classes=1`` the binary model of its one-versus-rest scheme.

    Args:
        num_classes: logits that come out; 1 is for a sigmoid.
        image_size: height and width of the input, px; 250 in the paper.
        pretrained: a safetensors file of this network; its last layer is taken where it fits.
    """
    check_request(num_classes, image_size, SMALLEST_PX)
    channels = (64, *BLOCK_CHANNELS)
    base = nn.Sequential(
        *conv_norm_relu(3, 32),
        *conv_norm_relu(32, channels[0]),
        *(ResidualBlock(*pair) for pair in pairwise(channels)),
        nn.ReLU(),
        SeparableConv2d(channels[-1], LAST_CHANNELS),
        norm2d(LAST_CHANNELS),
    )
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(DROPOUT),
        nn.Linear(LAST_CHANNELS, num_classes),
    )
    # Keras' Rescaling(1/255) is what RGB in 0-1 without further normalisation already is.
    classifier = SeedClassifier(base, head, Preprocessing((image_size, image_size)))
    init_as_keras(classifier)
    if pretrained is not None:
        load_pretrained(classifier, pretrained)
    return classifier
