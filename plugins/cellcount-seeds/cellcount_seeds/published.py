"""The sizes that the papers print, row by row, beside what is built here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from cellcount.plugins import CLASSIFIERS, find
from cellcount_seeds.counting import Count, keras_count

MILLION_TO_THREE_PLACES = 1000


@dataclass(frozen=True)
class Published:
    """Figures that a paper prints of one classifier.

    ``unit`` is the last printed digit: 1, or 1,000 for millions with three places.
    """

    classifier: str
    num_classes: int
    total: int | None = None
    trainable: int | None = None
    unit: int = 1
    options: Mapping[str, int | bool] = field(default_factory=dict)

    def built(self) -> Count:
        """The classifier's own count, on the meta device: no memory, no random numbers."""
        build = find(CLASSIFIERS, self.classifier)
        with torch.device("meta"):
            return keras_count(build(self.num_classes, **self.options))

    def agrees(self, count: Count) -> bool | None:
        """Return whether every published number is reached; None where none is published."""
        pairs = [(self.total, count.total), (self.trainable, count.trainable)]
        checks = [
            round(ours / self.unit) == round(theirs / self.unit)
            for theirs, ours in pairs
            if theirs is not None
        ]
        return all(checks) if checks else None


def _paper_001(network: str, parameters: int) -> Published:
    # Tables 1 and 2; torch's parameters, which are Keras' trainable ones.
    return Published(f"seed001-{network}", 8, trainable=parameters, unit=MILLION_TO_THREE_PLACES)


PUBLISHED = {
    "Xception": Published("seed002-xception", 5, 2_786_749, 2_778_013),
    "Xception, one output": Published("seed002-xception", 1),
    "InceptionV3, head 1": Published("seed002-inception-1", 5, 22_392_933, 22_358_437),
    "InceptionV3, head 1, frozen": Published(
        "seed002-inception-1", 5, 22_392_933, options={"frozen": True}
    ),
    "InceptionV3, head 2": Published("seed002-inception-2", 5, 22_411_845, 22_377_221),
    "InceptionV3, head 2, frozen": Published(
        "seed002-inception-2", 5, 22_411_845, options={"frozen": True}
    ),
    "ViT-B/32, 128 px": Published("seed002-vit-b32", 5, 87_441_523, 87_439_965),
    "ViT-B/32, 224 px": Published("seed002-vit-b32", 5, options={"image_size": 224}),
    "ViT-B/16, 224 px": Published("seed003-vit-b16", 14),
    "ResNet-50, 14 classes": Published("seed003-resnet50", 14),
    "ResNet-50, 8 classes": _paper_001("resnet50", 23_524_000),
    "DenseNet-121": _paper_001("densenet121", 6_962_000),
    "MobileNetV2": _paper_001("mobilenetv2", 2_234_000),
    "MobileNetV3": _paper_001("mobilenetv3", 4_304_000),
    "MobileViT": _paper_001("mobilevit", 1_998_000),
}
