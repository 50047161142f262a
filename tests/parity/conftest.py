"""Detectors and fields on which two engines are compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.detector_card import Architecture, Refinement
from cellcount.models.weights import read_card, write_weights
from cellcount.rendering.field import LABELS, FieldSpec, render_field

Pixels = NDArray[np.uint8]
Targets = list[dict[str, Tensor]]
#: Several sizes and ratios at each place, and a finest level that is only pooled from.
ARCHITECTURE = Architecture(
    backbone="timm/test_resnet",
    strides=(4, 8, 16),
    pyramid="bottom-up",
    pyramid_channels=16,
    anchor_sizes_px=((12.5, 20.0), (30.0, 52.0)),
    anchor_ratios=(0.5, 1.0, 2.0),
    pool_size=5,
    head_dim=32,
)
LOOK = Refinement(steps=2, hidden=16, heads=2, grid=4)
#: The other way round: one level, one anchor at each place, and equations 1-2 as printed.
PLAIN = dataclasses.replace(
    ARCHITECTURE,
    strides=(4, 8),
    pyramid="none",
    anchor_sizes_px=((24.0,),),
    anchor_ratios=(1.0,),
)
OTHER_LOOK = dataclasses.replace(LOOK, context="image", state="lstm", attention="literal")
WIDTH_PX, HEIGHT_PX = 160, 128


@pytest.fixture(scope="module")
def golden(repo_root: Path) -> Path:
    """A small detector that knows rendered fields."""
    return repo_root / "tests" / "golden" / "tiny.safetensors"


def write_random(path: Path, like: Path, architecture: Architecture, look: Refinement) -> Path:
    """An untrained detector that finds much; its second look moves boxes."""
    card = dataclasses.replace(read_card(like), architecture=architecture, refinement=look)
    torch.manual_seed(0)
    model = FasterRCNN(card)
    assert model.refinement is not None
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(30)
        model.rpn.head.bbox_pred.weight.mul_(10)
        for layer in (model.refinement.move, model.refinement.correct):
            torch.nn.init.normal_(layer.weight, std=0.5)
    write_weights(path, card, model.weights())
    return path


@pytest.fixture(scope="module")
def random_weights(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with all that can differ between the engines."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    return write_random(path, golden, ARCHITECTURE, LOOK)


@pytest.fixture(scope="module")
def plain_weights(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain Faster R-CNN on one feature level, with the other kind of second look."""
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    return write_random(path, golden, PLAIN, OTHER_LOOK)


@pytest.fixture(scope="module")
def rendered() -> tuple[list[Pixels], Targets]:
    """Fifty fields with their truth."""
    pixels, targets = [], []
    for seed in range(50):
        field = render_field(FieldSpec(WIDTH_PX, HEIGHT_PX, seed, 24, 0.1 + 0.008 * seed))
        keep = (field.boxes_xyxy[:, 2:] - field.boxes_xyxy[:, :2] > 2).all(axis=1)
        labels = torch.tensor([LABELS.index(name) + 1 for name in field.labels])
        kept = torch.from_numpy(keep)
        targets.append({"boxes": torch.from_numpy(field.boxes_xyxy)[kept], "labels": labels[kept]})
        pixels.append(field.pixels)
    return pixels, targets
