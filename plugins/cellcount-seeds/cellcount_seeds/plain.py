"""Networks that papers 001 and 003 took as they are: timm's, with a last layer of K classes.

Shapes: N images of S x S px; (N, 3, S, S) -> logits (N, K).

Neither paper states its normalisation, so it is that of timm's weights for the same network.
NOTE: paper 001 names neither its MobileNetV3 nor its MobileViT. Nearest by parameters at 8 classes
are the large MobileNetV3 (4.212 M against 4.304 M published) and MobileViT-XS (1.936 M against
1.998 M). What fits the latter is the XS of github.com/chinhsuanwu/mobilevit-pytorch, 2,002,016
parameters, less the 4,416 of its layer norms, which the usual counters leave out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import timm
from timm.models import PretrainedCfg
from torch import nn

from cellcount_seeds.classifier import Preprocessing, Rgb, SeedClassifier, check_request
from cellcount_seeds.pretrained import load_pretrained

SMALLEST_PX = 32


def _build(
    model: str,
    num_classes: int,
    *,
    image_size: int | None = None,
    pretrained: Path | None = None,
) -> SeedClassifier:
    """Builds a timm network from scratch.

    Args:
        model: timm's name.
        num_classes: logits that come out.
        image_size: height and width of the input, px; that of timm's weights if None.
        pretrained: safetensors file of timm's weights, or of this classifier.
    """
    config = cast(PretrainedCfg, timm.get_pretrained_cfg(model))
    side = config.input_size[-1] if image_size is None else image_size
    check_request(num_classes, side, SMALLEST_PX)
    base = timm.create_model(model, pretrained=False, num_classes=num_classes)
    classifier = SeedClassifier(
        base,
        nn.Identity(),
        Preprocessing(
            (side, side), cast(Rgb, config.mean), cast(Rgb, config.std), config.interpolation
        ),
        head_name=f"base.{config.classifier}.",
    )
    if pretrained is not None:
        load_pretrained(classifier, pretrained)
    return classifier


densenet121 = partial(_build, "densenet121")
mobilenetv2 = partial(_build, "mobilenetv2_100")
mobilenetv3 = partial(_build, "mobilenetv3_large_100")
mobilevit = partial(_build, "mobilevit_xs")
resnet50 = partial(_build, "resnet50")
