"""A tiny classifier of the types of cells-14 with random weights, which an adaptation can teach."""

from __future__ import annotations

from pathlib import Path

import torch

from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import write_weights


def write_random_classifier(path: Path, detector_classes: tuple[str, ...] = ("wbc",)) -> Path:
    """Write it; the same every time."""
    card = ClassifierCard(
        name="base",
        version="1",
        types=types_of(load_taxonomy("cells-14")),
        taxonomy="cells-14",
        license="Apache-2.0",
        detector_classes=detector_classes,
        architecture=ClassifierArchitecture("timm/test_resnet"),
        crop=CropRule(3.2, 20.0),
        preprocessing=ClassifierPreprocessing((32, 32), (0.5,) * 3, (0.25,) * 3),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build_classifier(card)
    write_weights(path, card, model.state_dict())
    return path
