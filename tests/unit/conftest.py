"""An engine that knows the answer, and fields for it: coloured discs on a white background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cellcount.core.records import CellClass, Detections, LabelledImage
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.detector_card import Architecture, DetectorCard, Inference, Preprocessing
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import write_weights
from cellcount.rendering.field import FieldSpec, render_field

BACKGROUND = 235
TYPES = ("neutrophil", "lymphocyte", "ig", "erythroblast")
COLOURS = np.array([[200, 90, 110], [90, 60, 170], [150, 120, 60]], np.float32)
CARD = DetectorCard(
    name="discs",
    version="1",
    classes=tuple(CellClass(i, i, f"{i}s") for i in ("rbc", "wbc", "platelet")),
    rbc_diameter_px=64.0,
    license="Apache-2.0",
    architecture=Architecture(backbone="timm/test_resnet"),
    preprocessing=Preprocessing(white_balance=False),
    inference=Inference(tile_px=512, margin_px=96, max_detections=400),
    thresholds={"rbc": 0.5, "wbc": 0.5, "platelet": 0.5},
)


class DiscEngine:
    """An engine that finds discs by their colour: exact, and blind to sizes far from its own.

    Args:
        card: tells classes and scale.
        seen: least and largest diameter it sees, as shares of the card's red cells.
    """

    name, device, precision, batch_size, tiles_at_once = "discs", "cpu", "fp32", 1, 2

    def __init__(self, card: DetectorCard = CARD, seen: tuple[float, float] = (0.0, 99.0)) -> None:
        self.card = card
        self.seen = seen
        self.calls: list[list[tuple[int, ...]]] = []

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The discs of each tile."""
        self.calls.append([t.shape for t in tiles])
        return [self.find(t) for t in tiles]

    def find(self, tile: NDArray[np.uint8]) -> Detections:
        """The discs of one tile."""
        spots, _ = ndimage.label(tile[..., 1] < BACKGROUND - 80)
        low, high = (share * self.card.rbc_diameter_px for share in self.seen)
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for rows, columns in ndimage.find_objects(spots):
            x0, y0, x1, y1 = columns.start, rows.start, columns.stop, rows.stop
            long, short = max(x1 - x0, y1 - y0), min(x1 - x0, y1 - y0)
            cut = x0 == 0 or y0 == 0 or x1 == tile.shape[1] or y1 == tile.shape[0]
            if not max(low, 3) <= long <= high or (long > 1.5 * short and not cut):
                continue  # too small, too large, or several discs that run into one another
            colour = tile[(y0 + y1) // 2, (x0 + x1) // 2].astype(np.float32)
            boxes.append((x0, y0, x1, y1))
            labels.append(int(np.abs(COLOURS - colour).sum(axis=1).argmin()))
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.linspace(0.99, 0.9, len(boxes), dtype=np.float32),
            np.array(labels, np.int64),
        )


class DiscField:
    """A field of discs that do not touch, with its truth.

    Attributes:
        pixels: uint8 (H, W, 3).
        boxes_xyxy: float32 (N, 4).
        labels: int64 (N,).
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        diameters: tuple[float, float] = (56, 72),
        count: int = 10_000,
        kinds: int = 3,
        spacing: float = 1.15,
        whole: bool = True,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.pixels = np.full((height, width, 3), BACKGROUND, np.uint8)
        pitch = spacing * diameters[1] + 6
        corner = 0 if whole else -pitch / 2
        boxes: list[NDArray[np.float64]] = []
        labels: list[int] = []
        for top in np.arange(corner, height - (pitch if whole else 0) + 1e-6, pitch):
            for left in np.arange(corner, width - (pitch if whole else 0) + 1e-6, pitch):
                radius = rng.uniform(*diameters) / 2
                slack = (pitch - 4) / 2 - radius
                x, y = (s + pitch / 2 + rng.uniform(-slack, slack) for s in (left, top))
                kind = int(rng.integers(kinds))
                if len(boxes) < count and self._paint(x, y, radius, kind):
                    box = np.array([x - radius, y - radius, x + radius, y + radius])
                    boxes.append(np.clip(box, 0, [width, height] * 2))
                    labels.append(kind)
        self.boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
        self.labels = np.array(labels, np.int64)

    def _paint(self, x: float, y: float, radius: float, kind: int) -> bool:
        height, width = self.pixels.shape[:2]
        x0, x1 = max(0, int(x - radius)), min(width, int(x + radius) + 2)
        y0, y1 = max(0, int(y - radius)), min(height, int(y + radius) + 2)
        if x1 - x0 < radius or y1 - y0 < radius:  # less than half of it would be visible
            return False
        rows, columns = np.mgrid[y0:y1, x0:x1]
        distance = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
        share = np.clip(radius - distance + 0.5, 0, 1)[..., None]
        part = self.pixels[y0:y1, x0:x1]
        part[:] = np.round(part * (1 - share) + COLOURS[kind] * share).astype(np.uint8)
        return True


@pytest.fixture(scope="session")
def disc_engine() -> type[DiscEngine]:
    return DiscEngine


@pytest.fixture(scope="session")
def disc_field() -> type[DiscField]:
    return DiscField


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a tiny, randomly initialised classifier of four types; same by seed.

    Its probabilities are spread and mean nothing.
    """
    types = tuple(t for t in types_of(load_taxonomy("pbc-8")) if t.id in TYPES)
    card = ClassifierCard(
        name="tiny-types",
        version="1",
        types=types,
        taxonomy="pbc-8",
        license="Apache-2.0",
        architecture=ClassifierArchitecture("timm/test_resnet", {"input_px": [32, 32]}),
        crop=CropRule(window_rbc=3.0, rbc_px=20.0),
        preprocessing=ClassifierPreprocessing(input_px=(32, 32)),
        temperature=1.5,
        data=({"name": "none"},),
        training={"epochs": 0},
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = build_classifier(card)
        with torch.no_grad():  # a fresh last layer gives all types the same
            list(model.parameters())[-2].mul_(60)
    path = tmp_path_factory.mktemp("classifier") / "tiny-types.safetensors"
    write_weights(path, card, model.state_dict())
    return path


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledImage, ...]:
    """Four rendered fields of 160x128 px with red cells of 36 px."""
    folder = tmp_path_factory.mktemp("fields")
    images = []
    for seed in range(4):
        spec = FieldSpec(160, 128, 700 + seed, 36.0, density=0.4, n_wbc=0.6, n_platelets=1)
        field = render_field(spec)
        path = folder / f"field-{seed}.png"
        Image.fromarray(field.pixels).save(path)
        images.append(LabelledImage(path, field.boxes_xyxy, field.labels, 160, 128))
    return tuple(images)
