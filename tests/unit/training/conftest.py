"""Data sets of rendered fields and of cells, and settings of very small models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.rendering.field import LABELS
from cellcount.training import log, loop
from cellcount.training.classifier.settings import ClassifierTraining, classifier_recipe
from cellcount.training.detector.settings import DetectorTraining, from_recipe

Overrides = dict[str, object]
TINY: Overrides = {
    "backbone": "timm/test_efficientnet",
    "pyramid_channels": 32,
    "finest_stride": 8,
    "rbc_diameter_px": 36.0,
    "size_px": 128,
    "batch_size": 2,
    "precision": "fp32",
    "augment": "flips",
    "ema_decay": 0.9,
    "validate_every": 1,
}


@pytest.fixture(scope="module", autouse=True)
def curves_once() -> Iterator[None]:
    """A training draws its curves after its first epoch alone: each takes as long as the epoch."""

    def draw_first(path: Path, rows: list[loop.Metrics], note_on_losses: str = "") -> None:
        if not path.exists():
            log.draw_curves(path, rows, note_on_losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_curves", draw_first)
        yield


@pytest.fixture(scope="session")
def data(fields: tuple[LabelledImage, ...]) -> AnnotatedSet:
    """The four fields to learn from, and the same four to validate on."""
    import dataclasses

    splits = [dataclasses.replace(f, split=s) for s in ("train", "val") for f in fields]
    return AnnotatedSet(tuple(splits), LABELS, format="rendered")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., DetectorTraining]:
    """Settings of a training of seconds, single values replaced by name."""
    return lambda **changes: from_recipe("default", {**TINY, **changes})


_COLOURS = {"neutrophil": (200, 70, 80), "lymphocyte": (60, 190, 80), "monocyte": (70, 60, 200)}
_SPLITS = {"train": 14, "val": 4, "test": 2}


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    """Cells of three types, each a disc of its own colour and size; five patients."""
    folder, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(11)
    items = []
    rows, columns = np.mgrid[:48, :48] - 23.5
    for size, (label, colour) in enumerate(_COLOURS.items()):
        names = [split for split, count in _SPLITS.items() for _ in range(count)]
        for number, split in enumerate(names):
            pixels = np.full((48, 48, 3), 232.0)
            x, y = rng.normal(0, 2, 2)
            pixels[np.hypot(rows - y, columns - x) < 12 + 2 * size] = colour
            noisy = np.clip(pixels + rng.normal(0, 10, pixels.shape), 0, 255).astype(np.uint8)
            path = folder / f"{label}-{number:02d}.png"
            Image.fromarray(noisy).save(path)
            items.append(LabelledCrop(path, label, split, f"P{number % 5}"))
    items.sort(key=lambda item: item.path)
    return CropSet(tuple(items), tuple(sorted(_COLOURS)), format="generated")


@pytest.fixture(scope="session")
def quick() -> Callable[..., ClassifierTraining]:
    """Settings of a classifier training of seconds, single values replaced by name."""
    tiny: Overrides = {
        "backbone": "timm/test_efficientnet", "input_px": 32, "rbc_px": 15.0, "epochs": 1,
        "batch_size": 8, "augment": "flips", "balance": "none", "ema_decay": 0.8, "mixup": 0.0,
        "holdout": 0.2, "lr": 5e-3, "validate_every": 1,
    }  # fmt: skip
    return lambda **changes: classifier_recipe("default", {**tiny, **changes})
