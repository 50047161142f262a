"""Training the second look: with all, on a frozen trunk, by rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.errors import UsageError
from cellcount.models.detector_card import Refinement
from cellcount.models.weights import read_card
from cellcount.training.detector.settings import DetectorTraining
from cellcount.training.detector.start import build_refinement
from cellcount.training.detector.train import train_detector
from cellcount.training.settings import TrainRun

Tiny = Callable[..., DetectorTraining]


def trained(data: AnnotatedSet, settings: DetectorTraining, out: Path) -> Path:
    run = TrainRun((Path("rendered"),), out, workers=0, device="cpu")
    return train_detector([data], settings, run, lambda line: None)


@pytest.fixture(scope="session")
def toy(repo_root: Path) -> Path:
    """Weights without a second look."""
    return repo_root / "tests" / "golden" / "tiny.safetensors"


@pytest.fixture(scope="module")
def supervised(data: AnnotatedSet, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = tiny(epochs=2, refine_steps=2, refine_state="lstm")
    return trained(data, settings, tmp_path_factory.mktemp("supervised"))


def parts_changed(one: Path, other: Path) -> set[str]:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    return {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}


def test_the_export_looks_again(supervised: Path) -> None:
    card = read_card(supervised)
    assert (card.refinement.steps, card.refinement.state) == (2, "lstm")
    assert load_engine("auto", supervised, EngineOptions("cpu")).card.refinement.steps == 2


@pytest.mark.parametrize(
    ("learn", "changed"),
    [
        ("all", {"trunk", "rpn", "roi_heads", "refinement"}),
        ("heads", {"rpn", "roi_heads", "refinement"}),
        ("refinement", {"refinement"}),
    ],
)
def test_what_learns_and_what_stays(
    data: AnnotatedSet, tiny: Tiny, supervised: Path, tmp_path: Path, learn: str, changed: set[str]
) -> None:
    settings = tiny(
        epochs=1, refine_steps=2, refine_state="lstm", init=str(supervised), learn=learn
    )
    assert parts_changed(supervised, trained(data, settings, tmp_path)) == changed


def test_rewards_train_the_second_look_and_the_policy_stays_behind(
    data: AnnotatedSet, tiny: Tiny, supervised: Path, tmp_path: Path
) -> None:
    settings = tiny(
        epochs=1,
        refine_steps=2,
        refine_state="lstm",
        refine_objective="actor-critic",
        init=str(supervised),
        learn="refinement",
    )
    weights = trained(data, settings, tmp_path)
    assert parts_changed(supervised, weights) == {"refinement"}
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert "loss_actor" in header
    assert "loss_critic" in header


def test_a_second_look_may_be_added_to_a_model_without(
    data: AnnotatedSet, tiny: Tiny, tmp_path: Path
) -> None:
    plain = trained(data, tiny(epochs=1), tmp_path / "plain")
    settings = tiny(epochs=1, refine_steps=1, init=str(plain), learn="refinement")
    grown = trained(data, settings, tmp_path / "grown")
    assert read_card(grown).refinement.steps == 1
    first, second = load_file(plain), load_file(grown)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_setting_of_the_second_look_reaches_the_card(tiny: Tiny) -> None:
    wanted = {
        "steps": 3, "context": "image", "state": "lstm", "attention": "literal", "hidden": 24,
        "heads": 3, "grid": 5, "enlarge": 2.5, "beta": 8.0, "score": "class",
    }  # fmt: skip
    assert set(wanted) == {f.name for f in dataclasses.fields(Refinement)}
    settings = tiny(**{f"refine_{name}": value for name, value in wanted.items()})
    assert dataclasses.asdict(build_refinement(settings)) == wanted


def test_a_stated_score_stands_in_the_card(data: AnnotatedSet, tiny: Tiny, tmp_path: Path) -> None:
    card = read_card(trained(data, tiny(epochs=1, min_score=0.7), tmp_path))
    assert card.thresholds == dict.fromkeys(data.classes, 0.7)


def test_rewards_go_on_from_the_same_second_look_alone(
    data: AnnotatedSet, tiny: Tiny, supervised: Path, toy: Path, tmp_path: Path
) -> None:
    rewarded = {"refine_steps": 2, "refine_objective": "actor-critic"}
    with pytest.raises(
        UsageError, match="second look of init .* is another; set refine_state=lstm"
    ):
        trained(data, tiny(**rewarded, init=str(supervised)), tmp_path / "gru")
    with pytest.raises(UsageError, match="has no second look; teach it one first"):
        trained(data, tiny(**rewarded, init=str(toy), rbc_diameter_px=24.0), tmp_path / "none")


def test_rewards_without_a_second_look_make_no_sense(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="refine_steps is 0.*set refine_steps=2"):
        tiny(refine_objective="actor-critic")
