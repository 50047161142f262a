"""A training that starts from another classifier takes over what means the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cellcount.datasets.crop_set import CropSet
from cellcount.errors import UsageError
from cellcount.models.weights import read_classifier_weights
from cellcount.training.classifier.settings import ClassifierTraining, classifier_recipe
from cellcount.training.classifier.start import new_model, settings_of
from cellcount.training.classifier.train import is_worse, train_classifier
from cellcount.training.detector.settings import from_recipe
from cellcount.training.settings import TrainRun

Quick = Callable[..., ClassifierTraining]


def a_run(out: Path) -> TrainRun:
    return TrainRun(
        (Path("generated"),), out, workers=0, device="cpu", resume=False, pretrained=None,
        plugins=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(cells: CropSet, quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of one epoch, which other trainings start from; for reading."""
    out = tmp_path_factory.mktemp("first")
    return train_classifier(cells, quick(epochs=1), a_run(out), lambda _: None)


def test_same_types_take_everything(
    first: Path, cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    card, state = read_classifier_weights(first)
    model = new_model(card, 5, a_run(first.parent), str(first)).state_dict()
    assert model.keys() == state.keys()
    assert all(torch.equal(model[k], state[k]) for k in state)
    weights = train_classifier(
        cells, quick(epochs=1, init=str(first.parent), lr=1e-5), a_run(tmp_path), lambda _: None
    )
    second, _ = read_classifier_weights(weights)
    assert [source["name"] for source in second.data] == ["generated", "generated"]
    assert set(second.training["init"]) == {"name", "sha256"}


def test_outputs_are_taken_over_type_by_type(first: Path) -> None:
    card, state = read_classifier_weights(first)
    turned = card.__class__.from_json(card.to_json())
    new = dataclasses.replace(card.types[0], id="giant")
    object.__setattr__(turned, "types", (card.types[2], new, card.types[0]))
    start = new_model(turned, 5, a_run(first.parent)).state_dict()
    model = new_model(turned, 5, a_run(first.parent), str(first)).state_dict()
    outputs = {k for k, v in model.items() if not torch.equal(v, state[k])}
    assert len(outputs) == 2  # weight and bias of the last layer
    for key in outputs:
        assert torch.equal(model[key][[0, 2]], state[key][[2, 0]])
        assert torch.equal(model[key][1], start[key][1]), "new, as drawn at random"


def test_the_parents_accuracy_comes_first_and_a_worse_model_is_told_last(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    taught = quick(epochs=6)
    first = train_classifier(cells, taught, a_run(tmp_path / "taught"), lambda _: None)
    said: list[str] = []
    ruin = quick(epochs=1, init=str(first), lr=3.0, ema_decay=0.0)
    train_classifier(cells, ruin, a_run(tmp_path / "ruined"), said.append)
    score = next(i for i, line in enumerate(said) if "has accuracy" in line)
    assert "on the 12 cells val" in said[score]
    assert score < next(i for i, line in enumerate(said) if line.startswith("epoch 1"))
    assert said[-1].startswith("warning: accuracy 0.")
    assert "which this training started from, on the same cells" in said[-1]


def test_a_frozen_start_keeps_weights_and_statistics_and_the_rest_learns(
    first: Path, cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = quick(epochs=1, init=str(first), frozen_start=0.5, lr=0.01, ema_decay=0.0)
    weights = train_classifier(cells, settings, a_run(tmp_path), said.append)
    card, before = read_classifier_weights(first)
    _, after = read_classifier_weights(weights)
    model = new_model(card, 5, a_run(first.parent))
    layers = [n for n, part in model.named_modules() if list(part.parameters(recurse=False))]
    frozen = set(layers[: round(len(layers) / 2)])
    assert f"the first {len(frozen)} layers keep the weights that they start from" in said
    moved = {n.rpartition(".")[0] for n, v in after.items() if not torch.equal(v, before[n])}
    assert moved == set(layers) - frozen
    statistics = {n for n in before if n.endswith("running_mean")}
    assert {n.rpartition(".")[0] for n in statistics} & frozen, "or nothing is shown of them"


def test_layers_of_random_weights_are_not_frozen(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"frozen_start is 0.5, but layers of random weights"):
        train_classifier(cells, quick(frozen_start=0.5), a_run(tmp_path / "x"), lambda _: None)
    with pytest.raises(UsageError, match=r"frozen_start is 1.0, expected 0 to below 1"):
        quick(frozen_start=1.0)


def test_equal_accuracies_are_equal_in_single_precision_too() -> None:
    right = 157 / 160
    assert not is_worse(float(np.float32(0.8)), 0.8)
    assert not is_worse(right - 1e-8, right)
    assert is_worse(156 / 160, right)


def test_a_start_from_a_model_learns_slowly_unless_told_otherwise(first: Path) -> None:
    assert classifier_recipe("default", {"init": str(first)}).lr == 2e-4
    assert classifier_recipe("default", {"init": str(first), "lr": 0.01}).lr == 0.01
    assert classifier_recipe("default", {}).lr == 2e-3
    assert classifier_recipe("default", {"init": str(first)}).frozen_start == 0.5
    assert classifier_recipe("default", {}).frozen_start == 0
    assert classifier_recipe("marrow-types", {"init": str(first)}).lr == 0.001, "the recipe's own"
    assert from_recipe("default", {"init": "blood"}).lr == 3e-4
    assert from_recipe("default", {}).lr == 1e-3


def test_another_network_is_refused(
    first: Path, cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    settings = quick(epochs=1, init=str(first), backbone="timm/test_vit", input_px=0)
    with pytest.raises(UsageError, match="name the same one with --backbone"):
        train_classifier(cells, settings, a_run(tmp_path), lambda _: None)


def test_network_and_window_are_taken_over(first: Path) -> None:
    card, _ = read_classifier_weights(first)
    taken = settings_of(str(first), "default")
    assert (taken["backbone"], taken["input_px"]) == (card.architecture.name, 32)
    assert taken["window_rbc"] == card.crop.window_rbc
    assert "window_rbc" not in settings_of(str(first), "marrow-types"), "the recipe's own"


def test_one_versus_the_rest_has_no_start(quick: Quick) -> None:
    with pytest.raises(UsageError, match="scheme=ovr leave it out"):
        quick(scheme="ovr", init="blood-types")
