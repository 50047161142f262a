"""The parts of a classifier training: recipes, splits, draws, binary scores, prior, threshold."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from cellcount.commands.train import parse_assignments
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.errors import AnnotationError, UsageError
from cellcount.models.taxonomy import load_taxonomy, plain_taxonomy
from cellcount.training.classifier.calibrate import profile_prior, review_threshold, trained_mixture
from cellcount.training.classifier.data import (
    ClassifierData,
    Draws,
    LabelledCells,
    choose_taxonomy,
    prepare,
    read_training_crops,
    split_words,
)
from cellcount.training.classifier.one_vs_rest import binary_draws, binary_scores
from cellcount.training.classifier.sampling import Balance
from cellcount.training.classifier.settings import (
    CLASSIFIER_RECIPES,
    ClassifierTraining,
    classifier_recipe,
)

Quick = Callable[..., ClassifierTraining]


def quietly(line: str) -> None:
    del line


def some(labels: list[int]) -> LabelledCells:
    items = tuple(LabelledCrop(Path(f"{n}.png"), str(label)) for n, label in enumerate(labels))
    return LabelledCells(items, tuple(labels), tuple(str(label) for label in labels))


@pytest.mark.parametrize("recipe", CLASSIFIER_RECIPES)
def test_recipes_are_valid(recipe: str) -> None:
    assert classifier_recipe(recipe, {}).name


def test_recipes_are_those_of_the_papers() -> None:
    one = classifier_recipe("seed-001", {})
    assert (one.batch_size, one.epochs, one.optimizer, one.lr, one.schedule) == (
        128, 200, "adam", 1e-3, "constant",
    )  # fmt: skip
    assert (one.split, one.balance, one.label_smoothing, one.mixup, one.ema_decay) == (
        "64/16/20", "imbalanced-sampler", 0.0, 0.0, 0.0,
    )  # fmt: skip
    two = classifier_recipe("seed-002", {})
    assert (two.backbone, two.type_map, two.balance) == (
        "seed002-xception", "mll-21:lineage-5", "resample:5000",
    )  # fmt: skip
    three = classifier_recipe("seed-003", {"epochs": 3})
    assert (three.input_px, three.optimizer, three.augment, three.epochs) == (
        224, "adam", "seed-003", 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected more than 0"),
        ({"holdout": 0.5}, r"holdout is 0.5, expected 0 to below 0.5"),
        ({"input_px": 8}, "input_px is 8, expected 16 to 1024, or 0"),
        ({"window_rbc": 60.0}, "window_rbc is 60.0, expected 0 to 50"),
        ({"augment": "much"}, "augment"),
        ({"mixup": "a lot"}, "mixup is 'a lot', expected number"),
        ({"back_bone": "x"}, "did you mean 'backbone'"),
    ],
)
def test_wrong_settings_are_said(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        classifier_recipe("default", changes)


def test_none_is_a_name_of_two_settings() -> None:
    given = parse_assignments(("augment=none", "balance=none", "rbc_px=none"))
    settings = classifier_recipe("default", given)
    assert (settings.augment, settings.balance, settings.rbc_px) == ("none", "none", None)


def test_a_part_of_train_is_held_out_by_type_and_seed(cells: CropSet, quick: Quick) -> None:
    first = prepare(cells, quick(holdout=0.25), ["x"], quietly)
    again = prepare(
        dataclasses.replace(cells, items=cells.items[::-1]), quick(holdout=0.25), ["x"], quietly
    )
    assert {i.path for i in first.held_out.items} == {i.path for i in again.held_out.items}
    assert len(first.train) + len(first.held_out) == 42
    assert sorted(Counter(first.held_out.labels).values()) in ([3, 3, 4], [3, 4, 4])
    assert {i.split for i in first.val.items} == {"val"}
    shown = {i.path for part in (first.train, first.held_out, first.val) for i in part.items}
    assert not shown & {i.path for i in cells.items if i.split == "test"}
    other = prepare(cells, quick(holdout=0.25, seed=1), ["x"], quietly)
    assert {i.path for i in first.held_out.items} != {i.path for i in other.held_out.items}


def test_patients_stay_together_or_are_asked_for(cells: CropSet, quick: Quick) -> None:
    settings = quick(split="80/20", group="patient")
    with pytest.raises(AnnotationError, match="patients are also in a split that stays as it is"):
        prepare(cells, settings, ["x"], quietly)  # the data's own test split
    bare = tuple(dataclasses.replace(i, split="") for i in cells.items)
    data = prepare(dataclasses.replace(cells, items=bare), settings, ["x"], quietly)
    sets = [{i.patient for i in p.items} for p in (data.train, data.held_out, data.val)]
    assert [len(a & b) for a, b in combinations(sets, 2)] == [0, 0, 0]
    nameless = tuple(dataclasses.replace(i, patient="") for i in cells.items)
    with pytest.raises(AnnotationError, match="name no patient, first .* add a patient column"):
        prepare(dataclasses.replace(cells, items=nameless), quick(group="patient"), ["x"], quietly)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "given"),
        ({"split": "all"}, "all cells but those of test"),
        (
            {"split": "90/10", "seed": 4},
            "90/10 at random (seed 4), stratified by type, cells of a patient may straddle",
        ),
        ({"split": "90/10", "group": "patient"}, "90/10 at random (seed 0), by patient"),
    ],
)
def test_the_card_says_how_cells_were_divided(
    quick: Quick, changes: dict[str, object], words: str
) -> None:
    assert split_words(quick(**changes)) == words


def test_labels_choose_their_taxonomy(quick: Quick) -> None:
    said: list[str] = []

    def chosen(*labels: str, **changes: object) -> str:
        return choose_taxonomy(CropSet((), labels), quick(**changes), said.append).name

    assert chosen("basophil", "ig", "platelet") == "pbc-8"
    assert chosen("BNE", "SNE", "MY") == "pbc-13"
    assert chosen("BLA", "NIF", "PMO") == "mll-7"
    assert chosen("BLA", "NIF", "FGC") == "mll-21"
    assert "also possible" in said[0]
    assert chosen("whatever", type_map="mll-21:lineage-5") == "mll-21"
    assert chosen("whatever", taxonomy="zju-7") == "zju-7"
    assert chosen("Rundzelle") == "own"
    assert "name one with --taxonomy" in said[-1]


def test_a_broken_picture_is_said_and_left_out(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    broken = LabelledCrop(tmp_path / "broken.png", "monocyte", "train")
    said: list[str] = []
    data = prepare(
        dataclasses.replace(cells, items=(*cells.items, broken)), quick(), ["x"], said.append
    )
    assert any("broken.png" in line and "cannot be decoded" in line for line in said)
    assert broken not in data.divided.items


def test_several_data_sets_are_one(cells: CropSet, tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        folder = tmp_path / name / "train" / "monocyte"
        folder.mkdir(parents=True)
        item = cells.items[number]
        (folder / item.path.name).write_bytes(item.path.read_bytes())
    joined = read_training_crops([tmp_path / "one", tmp_path / "two"])
    assert (len(joined), joined.classes, joined.format) == (2, ("monocyte",), "folders")


def test_the_sampler_shows_repeats_as_copies() -> None:
    labels = [0] * 9 + [1]
    draws = Draws(some(labels), {}, _balance("imbalanced-sampler"), 0)
    shown = draws.of_epoch(2)
    assert len(shown) == 10
    assert shown == Draws(some(labels), {}, _balance("imbalanced-sampler"), 0).of_epoch(2)
    assert shown != draws.of_epoch(3)
    copies: dict[int, list[int]] = {}
    for draw in shown:
        copies.setdefault(draw.index, []).append(draw.copy)
    assert len(copies[9]) > 1, "the only cell of its type is shown again and again"
    assert all(c == list(range(len(c))) for c in copies.values())


def _balance(text: str) -> Balance:
    return Balance.parse(text)


@pytest.mark.parametrize(("per_type", "count"), [(0, 8), (20, 20)])
def test_the_rest_is_as_many_spread_evenly(per_type: int, count: int) -> None:
    labels = [0] * 8 + [1] * 30 + [2] * 3 + [3] * 9
    draws = binary_draws(some(labels), 0, seed=1, epoch=0, per_type=per_type)
    drawn = Counter(labels[d.index] for d in draws)
    assert drawn[0] == count
    others = [drawn[k] for k in (1, 2, 3)]
    assert sum(others) == count
    assert max(others) - min(others) <= 1
    assert len({(d.index, d.copy) for d in draws}) == len(draws), "a repeat is another copy"
    assert draws != binary_draws(some(labels), 0, seed=1, epoch=1, per_type=per_type)


def test_binary_scores_by_hand() -> None:
    logits = np.array([2.0, -1.0, 0.5, -3.0, 1.0], np.float32)
    truth = np.array([1, 1, 0, 0, 0])
    scores = binary_scores(logits, truth)
    assert scores.accuracy == pytest.approx(2 / 5)
    assert scores.false_positive_rate == pytest.approx(2 / 3)
    assert scores.false_negative_rate == pytest.approx(1 / 2)
    probs = 1 / (1 + np.exp(-logits.astype(float)))
    assert scores.loss_held_out == pytest.approx(log_loss(truth, probs), rel=1e-5)


def test_a_profile_becomes_shares() -> None:
    taxonomy = load_taxonomy("pbc-13")
    shares = profile_prior(taxonomy, ["segmented_neutrophil", "neutrophil", "basophil", "platelet"])
    # Segmented share the row with cells of unknown stage; platelets fill no counted row.
    percent = np.array([28.0, 28.0 + 3.0, 0.5, 0.3])
    np.testing.assert_allclose(shares, percent / percent.sum())
    own = profile_prior(plain_taxonomy("own", ["a", "b"], "bone-marrow"), ["a", "b"])
    assert own.tolist() == [0.5, 0.5]


def test_the_lowest_threshold_that_reaches_the_accuracy() -> None:
    best = np.array([0.95, 0.85, 0.75, 0.62, 0.55])
    right = np.array([1, 1, 0, 1, 1], bool)
    probs = np.stack([best, 1 - best], axis=1)
    truth = np.where(right, 0, 1)
    assert review_threshold(probs, truth, 0.8) == 0.3  # four of five are right as it is
    assert review_threshold(probs, truth, 0.9) == 0.8  # without the wrong one, at 0.75
    assert review_threshold(probs, 1 - truth, 0.9) in (0.6, 0.65, 0.7, 0.75)  # as near as it gets


@pytest.mark.parametrize(
    ("balance", "scheme", "expected"),
    [
        ("none", "softmax", [0.75, 0.25]),
        ("class-weights", "softmax", [0.5, 0.5]),
        ("resample:9", "softmax", [0.5, 0.5]),
        ("none", "ovr", [0.5, 0.5]),
    ],
)
def test_what_mixture_a_network_takes_for_granted(
    cells: CropSet, quick: Quick, balance: str, scheme: str, expected: list[float]
) -> None:
    pair = [i for i in cells.items if i.label != "monocyte" and i.split == "train"]
    few = [i for i in pair if i.label == "lymphocyte"][:4]
    many = [i for i in pair if i.label == "neutrophil"][:12]
    settings = quick(balance=balance, scheme=scheme, holdout=0.0)
    data: ClassifierData = prepare(
        dataclasses.replace(cells, items=(*few, *many)), settings, ["x"], quietly
    )
    assert [t.id for t in data.types] == ["neutrophil", "lymphocyte"]
    assert trained_mixture(data, settings).tolist() == expected
    assert math.isclose(sum(expected), 1)
