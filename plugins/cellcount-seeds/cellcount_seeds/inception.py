"""InceptionV3 of Keras with the two small convolutional heads of paper 002 (figures 4 and 5).

Shapes: N images of 250 x 250 px; (N, 3, 250, 250) -> base (N, 2048, 6, 6) -> (N, 32, 3, 3)
[-> (N, 64, 2, 2)] -> logits (N, K).

The base is timm's InceptionV3 with the scale of every batch norm fixed at 1, as Keras has it.
NOTE: timm's 3 x 3 average pooling counts the padding at the border and Keras' does not; timm's
published weights are evaluated with timm's, so it stays.
NOTE: the tables print a Rescaling layer between base and head, where it divides features by 255;
it is built as printed. The paper fine-tuned the whole network; ``frozen`` is the other choice.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import timm
from torch import nn

from cellcount_seeds.classifier import Preprocessing, SeedClassifier, centred, check_request
from cellcount_seeds.layers import (
    MOMENTUM,
    Rescale,
    conv_norm_relu,
    init_as_keras,
    remove_scales,
)
from cellcount_seeds.pretrained import load_pretrained

SIDE_PX = 250
SMALLEST_PX = 75  # as Keras
BASE_CHANNELS = 2048
DROPOUT = 0.5


class InceptionClassifier(SeedClassifier):
    """InceptionV3 and a head; a frozen base learns nothing and keeps its batch-norm statistics."""

    def __init__(
        self, base: nn.Module, head: nn.Module, preprocessing: Preprocessing, *, frozen: bool
    ) -> None:
        super().__init__(base, head, preprocessing)
        self.frozen = frozen
        if frozen:
            self.base.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> InceptionClassifier:  # noqa: FBT001, FBT002 -- as torch
        """Set the mode as torch does, except that a frozen base stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.base.eval()
        return self


def _build(
    widths: tuple[int, ...],
    num_classes: int,
    *,
    image_size: int = SIDE_PX,
    frozen: bool = False,
    raw_pixels: bool = False,
    pretrained: Path | None = None,
) -> InceptionClassifier:
    """Builds InceptionV3 with one convolution of the head per entry of ``widths``.

    Args:
        widths: channels of the head's convolutions.
        num_classes: logits that come out.
        image_size: height and width of the input, px; 250 in the paper.
        frozen: only the head learns.
        raw_pixels: inputs of 0 to 255 as in the paper's notebooks, in place of -1 to 1.
        pretrained: safetensors file of timm's InceptionV3 or of this network.
    """
    check_request(num_classes, image_size, SMALLEST_PX)
    base = inception_base()
    channels = (BASE_CHANNELS, *widths)
    convolutions = [
        layer for inputs, outputs in pairwise(channels) for layer in conv_norm_relu(inputs, outputs)
    ]
    head = nn.Sequential(
        Rescale(1 / 255),
        *convolutions,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(DROPOUT),
        nn.Linear(widths[-1], num_classes),
    )
    init_as_keras(head)
    classifier = InceptionClassifier(
        base, head, centred(image_size, raw_pixels=raw_pixels), frozen=frozen
    )
    if pretrained is not None:
        load_pretrained(classifier, pretrained)
    return classifier.train()


def inception_base() -> nn.Module:
    """InceptionV3 without top, (N, 3, H, W) -> (N, 2048, h, w), batch norm as in Keras."""
    base = timm.create_model("inception_v3", pretrained=False, num_classes=0, global_pool="")
    remove_scales(base)
    for layer in base.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = MOMENTUM  # timm's epsilon is Keras' already
    return base


# Pre-CNN1 and Pre-CNN2 of the paper.
one_convolution = partial(_build, (32,))
two_convolutions = partial(_build, (32, 64))
