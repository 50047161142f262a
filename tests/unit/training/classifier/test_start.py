"""A training that starts from another classifier takes over what means the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cellcount.datasets.crop_set import CropSet
from cellcount.errors import UsageError
from cellcount.models.weights import read_classifier_weights
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.start import new_model, settings_of
from cellcount.training.classifier.train import train_classifier
from cellcount.training.settings import TrainRun

Quick = Callable[..., ClassifierTraining]


def a_run(out: Path) -> TrainRun:
    return TrainRun(
        (Path("generated"),), out, workers=0, device="cpu", resume=False, pretrained=None,
        plugins=None,
    )  # fmt: skip


@pytest.fixture
def first(cells: CropSet, quick: Quick, tmp_path: Path) -> Path:
    return train_classifier(cells, quick(epochs=1), a_run(tmp_path / "first"), lambda _: None)


def test_same_types_take_everything(first: Path, cells: CropSet, quick: Quick) -> None:
    card, state = read_classifier_weights(first)
    model = new_model(card, 5, a_run(first.parent), str(first)).state_dict()
    assert model.keys() == state.keys()
    assert all(torch.equal(model[k], state[k]) for k in state)
    out = first.parent.parent / "second"
    weights = train_classifier(
        cells, quick(epochs=1, init=str(first.parent), lr=1e-5), a_run(out), lambda _: None
    )
    second, _ = read_classifier_weights(weights)
    assert [source["name"] for source in second.data] == ["generated", "generated"]
    assert set(second.training["init"]) == {"name", "sha256"}


def test_other_types_leave_the_outputs_out(first: Path) -> None:
    card, state = read_classifier_weights(first)
    turned = card.__class__.from_json(card.to_json())
    object.__setattr__(turned, "types", card.types[::-1])
    start = new_model(turned, 5, a_run(first.parent)).state_dict()
    model = new_model(turned, 5, a_run(first.parent), str(first)).state_dict()
    outputs = {k for k, v in model.items() if not torch.equal(v, state[k])}
    assert len(outputs) == 2  # weight and bias of the last layer
    assert all(torch.equal(model[k], start[k]) for k in outputs)


def test_another_network_is_refused(first: Path, cells: CropSet, quick: Quick) -> None:
    settings = quick(epochs=1, init=str(first), backbone="timm/test_vit", input_px=0)
    with pytest.raises(UsageError, match="name the same one with --backbone"):
        train_classifier(cells, settings, a_run(first.parent / "x"), lambda _: None)


def test_network_and_window_are_taken_over(first: Path) -> None:
    card, _ = read_classifier_weights(first)
    taken = settings_of(str(first), "default")
    assert (taken["backbone"], taken["input_px"]) == (card.architecture.name, 32)
    assert taken["window_rbc"] == card.crop.window_rbc
    assert "window_rbc" not in settings_of(str(first), "marrow-types"), "the recipe's own"


def test_one_versus_the_rest_has_no_start(quick: Quick) -> None:
    with pytest.raises(UsageError, match="scheme=ovr leave it out"):
        quick(scheme="ovr", init="blood-types")
