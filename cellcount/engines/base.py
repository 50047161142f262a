"""The engine contract and the door through which engines are loaded.

Shapes: tiles are uint8 (H, W, 3) RGB at the model's scale, white-balanced as the card says;
boxes are xyxy in pixels of the tile.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cellcount.errors import UsageError
from cellcount.records import Detections

if TYPE_CHECKING:
    from cellcount.models.card import Card

ENGINES = {
    "torchvision": "cellcount.engines.torchvision:load",
}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where and how an engine computes.

    Attributes:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        batch_size: tiles per model call, 0 for the device's default.
        plugin_folder: folder of backbone plugins that the user named.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    plugin_folder: Path | None = None


class Engine(Protocol):
    """A loaded detector. Stateless between calls."""

    card: Card
    name: str
    device: str
    precision: str
    batch_size: int

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One ``Detections`` per tile, scores from the card's floor on, in descending score.

        A tile's result depends on its pixels alone, not on the other tiles of the call.
        """
        ...


def choose_engine(name: str) -> str:
    """The engine that ``auto`` stands for, or the named one."""
    if name == "auto":
        return "torchvision"
    if name not in ENGINES:
        raise UsageError(f"--engine is {name!r}, expected auto or one of {', '.join(ENGINES)}")
    return name


def load_engine(name: str, weights: Path, options: EngineOptions) -> Engine:
    """Loads the engine of that name with a weight file."""
    module, _, function = ENGINES[choose_engine(name)].partition(":")
    loader = getattr(importlib.import_module(module), function)
    engine: Engine = loader(weights, options)
    return engine
