"""ViT-B/32 with the small head of paper 002 (figure 6), and the plain ViT-B/16 of paper 003.

Shapes: N images of S x S px, S a multiple of the patch; (N, 3, S, S) -> class token (N, 768) ->
logits (N, K).

NOTE: paper 002 names ViT-B/32-224; the parameters in its table belong to 128 px, which its
notebook has too.
"""

from __future__ import annotations

from pathlib import Path

import timm
from torch import nn

from cellcount_seeds.classifier import SeedClassifier, centred, check_request
from cellcount_seeds.layers import init_as_keras, norm1d
from cellcount_seeds.pretrained import load_pretrained

TOKEN_CHANNELS = 768
HIDDEN = 11


def b32(
    num_classes: int,
    *,
    image_size: int = 128,
    raw_pixels: bool = False,
    pretrained: Path | None = None,
) -> SeedClassifier:
    """``seed002-vit-b32``: BatchNorm - dense(11, GELU) - BatchNorm - dense on the class token.

    Args:
        num_classes: logits that come out.
        image_size: height and width of the input, px, a multiple of 32; 128 in the paper.
        raw_pixels: inputs of 0 to 255 as in the paper's notebook, in place of -1 to 1.
        pretrained: safetensors file of timm's ViT-B/32 or of this network; position embeddings of
            another size are interpolated.
    """
    check_request(num_classes, image_size, smallest=32, multiple_of=32)
    base = timm.create_model(
        "vit_base_patch32_224", pretrained=False, num_classes=0, img_size=image_size
    )
    head = nn.Sequential(
        norm1d(TOKEN_CHANNELS),
        nn.Linear(TOKEN_CHANNELS, HIDDEN),
        nn.GELU(),
        norm1d(HIDDEN),
        nn.Linear(HIDDEN, num_classes),
    )
    init_as_keras(head)
    classifier = SeedClassifier(base, head, centred(image_size, raw_pixels=raw_pixels))
    if pretrained is not None:
        load_pretrained(classifier, pretrained)
    return classifier


def b16(
    num_classes: int, *, image_size: int = 224, pretrained: Path | None = None
) -> SeedClassifier:
    """``seed003-vit-b16``: one linear layer on the class token.

    Args:
        num_classes: logits that come out.
        image_size: height and width of the input, px, a multiple of 16; 224 in the paper.
        pretrained: safetensors file of timm's ViT-B/16 or of this network, as in ``b32``.
    """
    check_request(num_classes, image_size, smallest=16, multiple_of=16)
    base = timm.create_model(
        "vit_base_patch16_224", pretrained=False, num_classes=num_classes, img_size=image_size
    )
    classifier = SeedClassifier(base, nn.Identity(), centred(image_size), head_name="base.head.")
    if pretrained is not None:
        load_pretrained(classifier, pretrained)
    return classifier
