"""A tiny model in training mode, and tiles to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.weights import load_state, read_weights


@pytest.fixture
def model(tiny_weights: Path) -> FasterRCNN:
    """The tiny detector itself."""
    card, state = read_weights(tiny_weights)
    detector = FasterRCNN(card)
    load_state(detector, state, source=tiny_weights)
    return detector


@pytest.fixture(scope="session")
def tiles() -> list[NDArray[np.uint8]]:
    """Five tiles of 96x128 px with random spots."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (5, 3, 12, 16)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), scale_factor=8.0)
    return list(smooth.permute(0, 2, 3, 1).numpy().astype(np.uint8))
