"""A run folder written by version 0.1.0, stopped in its second epoch, is read and goes on."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from cellcount.datasets.crop_set import CropSet
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import load_classifier
from cellcount.models.weights import read_classifier_card
from cellcount.training import checkpoint
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.train import train_classifier
from cellcount.training.settings import TrainRun

STORED = Path(__file__).parent / "run-0.1.0"
PLUGINS = Path(__file__).parents[2] / "classifiers"


def test_its_card_is_read() -> None:
    card = read_classifier_card(STORED / "model.safetensors")
    assert [t.id for t in card.types] == ["neutrophil", "lymphocyte", "monocyte"]
    assert card.crop.rbc_px == 15.0
    options = EngineOptions(device="cpu", plugin_folder=PLUGINS)
    assert load_classifier(STORED / "model.safetensors", options).card == card


def test_its_training_goes_on(
    cells: CropSet, quick: Callable[..., ClassifierTraining], tmp_path: Path
) -> None:
    out, said = tmp_path / "run", list[str]()
    shutil.copytree(STORED, out)
    assert checkpoint.load(out)["epoch"] == 1
    run = TrainRun((Path("generated"),), out, workers=0, device="cpu", resume=True, plugins=PLUGINS)
    train_classifier(cells, quick(backbone="colour", epochs=3), run, said.append)
    assert "continuing after epoch 1" in said
    with (out / "metrics.csv").open(newline="") as now, (STORED / "metrics.csv").open() as before:
        rows, first = list(csv.DictReader(now)), next(csv.DictReader(before))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[0] == first
