"""The whole training on a few generated cells: it learns, resumes exactly, says what it did."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.crops import read_crops
from cellcount.differential.confusion import confusion_of_card
from cellcount.engines.base import EngineOptions
from cellcount.engines.classifier_input import prepare_picture
from cellcount.engines.crop_classifier import load_classifier
from cellcount.errors import AnnotationError, UsageError
from cellcount.models.classifier_card import ClassifierArchitecture
from cellcount.models.weights import read_classifier_card
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.train import train_classifier
from cellcount.training.settings import TrainRun

Quick = Callable[..., ClassifierTraining]
IDS = ("neutrophil", "lymphocyte", "monocyte")


def a_run(out: Path, *, resume: bool = False, pretrained: Path | None = None) -> TrainRun:
    data = (Path("generated"),)
    return TrainRun(
        data, out, workers=0, device="cpu", resume=resume, pretrained=pretrained, plugins=None
    )


def quietly(line: str) -> None:
    del line


def metrics(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_three_types_are_learned_in_seconds(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    said: list[str] = []
    weights = train_classifier(cells, quick(epochs=8), a_run(tmp_path), said.append)
    assert {p.name for p in tmp_path.iterdir()} == {
        "settings.json", "metrics.csv", "curves.png", "last.checkpoint", "model.safetensors",
        "confusion.png", "val.json", "splits.csv",
    }  # fmt: skip
    card = read_classifier_card(weights)
    assert tuple(t.id for t in card.types) == IDS
    assert {t.abbreviation for t in card.types} == {"NEU", "LYM", "MON"}
    assert (card.taxonomy, card.crop.rbc_px) == ("wbc-5", 15.0)
    assert (card.preprocessing.input_px, card.architecture.options) == (
        (32, 32),
        {"input_px": 32},
    )
    assert card.data[0]["split"] == "given"
    assert (card.data[0]["train"], card.data[0]["held_out"], card.data[0]["val"]) == (34, 8, 12)
    assert any("No immature cells" in note for note in card.notes)
    assert "note: " + card.notes[0] in said
    assert card.training["calibration"]["cells"] == 8
    assert card.temperature != 1.0
    assert set(card.prior) == set(IDS)
    # The exported file says in use what the training says of val.
    classifier = load_classifier(weights, EngineOptions("cpu"))
    val = cells.subset("val")
    probs = classifier.probs([prepare_picture(pixels_of(i.path), card) for i in val.items])
    truth = [[t.id for t in card.types].index(i.label) for i in val.items]
    accuracy = float((probs.argmax(axis=1) == truth).mean())
    assert accuracy > 0.8
    (evaluation,) = card.evaluations
    assert evaluation["accuracy"] == pytest.approx(accuracy)
    # Its confusions of val are what --adjust card undoes.
    known = confusion_of_card(card.name, IDS, card.evaluations)
    counted = np.zeros((3, 3), int)
    np.add.at(counted, (truth, probs.argmax(axis=1)), 1)
    assert known.cells.tolist() == counted.tolist()
    assert known.source == "generated val"
    stored = json.loads((tmp_path / "val.json").read_text())
    assert stored["strict"]["accuracy"] == pytest.approx(accuracy)
    assert any(line.startswith("val, 12 cells: accuracy") for line in said)
    assert any("6 cells of test were not looked at" in line for line in said)


@pytest.mark.parametrize(
    ("balance", "augment"), [("imbalanced-sampler", "full"), ("resample:9", "seed-002")]
)
def test_two_and_one_epochs_are_three(
    cells: CropSet, quick: Quick, balance: str, augment: str, tmp_path: Path
) -> None:
    """Also with everything random: sampler, augmentation, mixing."""
    settings = quick(epochs=3, balance=balance, augment=augment, mixup=0.3, settle=0.3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_classifier(cells, settings, a_run(whole), quietly)

    class StopError(Exception):
        pass

    def stop_in_the_third(line: str) -> None:
        if line.startswith("epoch 3, "):  # said before its checkpoint is written
            raise StopError

    with pytest.raises(StopError):
        train_classifier(cells, settings, a_run(parts), stop_in_the_third)
    torch.manual_seed(4321)  # whatever happened in between
    train_classifier(cells, settings, a_run(parts, resume=True), quietly)
    assert metrics(parts) == metrics(whole)
    first, second = (load_file(f / "model.safetensors") for f in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
    cards = [read_classifier_card(f / "model.safetensors") for f in (whole, parts)]
    assert cards[0] == cards[1]


def test_another_training_is_not_resumed(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    train_classifier(cells, quick(), a_run(tmp_path), quietly)
    with pytest.raises(UsageError, match=r"balance was 'none', is 'class-weights'"):
        train_classifier(
            cells, quick(balance="class-weights"), a_run(tmp_path, resume=True), quietly
        )


def test_the_splits_of_a_run_can_be_read_again(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    bare = dataclasses.replace(
        cells, items=tuple(dataclasses.replace(i, split="") for i in cells.items)
    )
    settings = quick(split="64/16/20", group="patient", seed=3)
    weights = train_classifier(bare, settings, a_run(tmp_path), quietly)
    again = read_crops(tmp_path / "splits.csv")
    assert not again.problems
    assert {i.path.resolve() for i in again.items} == {i.path.resolve() for i in cells.items}
    splits = again.splits()
    assert set(splits) == {"train", "val", "test", "held out"}
    patients = {s: {i.patient for i in again.items if i.split == s} for s in splits}
    assert sum(len(p) for p in patients.values()) == 5, "no patient is in two splits"
    (source,) = read_classifier_card(weights).data
    assert source["split"] == "64/16/20 at random (seed 3), by patient"
    assert source["val"] == splits["val"]


def test_a_mapping_merges_leaves_out_and_is_explained(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    codes = {"neutrophil": "BLA", "lymphocyte": "LYT", "monocyte": "MON"}
    marrow = cells.relabelled(codes.__getitem__)
    said: list[str] = []
    weights = train_classifier(
        marrow, quick(type_map="mll-21:lineage-5"), a_run(tmp_path), said.append
    )
    card = read_classifier_card(weights)
    assert [t.id for t in card.types] == ["granulopoiesis", "lymphopoiesis", "monopoiesis"]
    assert card.taxonomy == "lineage-5"
    notes = " ".join(card.notes)
    assert "BLA is a blast of any lineage" in notes
    assert "Holds every blast" in notes
    assert any(line.startswith("note: BLA is a blast of any lineage") for line in said)
    with pytest.raises(UsageError, match=r"'LYT' is no type of pbc-8; did you mean 'LY'\?"):
        train_classifier(marrow, quick(taxonomy="pbc-8"), a_run(tmp_path / "other"), quietly)


def test_our_reading_is_printed(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    said: list[str] = []
    chosen = cells.relabelled(
        {"neutrophil": "MYO", "lymphocyte": "PMO", "monocyte": "MON"}.__getitem__
    )
    train_classifier(chosen, quick(taxonomy="aml-fab-8"), a_run(tmp_path), said.append)
    assert any(line.startswith("note: Our reading.") for line in said)


def test_contour_prior_and_own_labels(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    uneven = dataclasses.replace(
        cells, items=tuple(i for n, i in enumerate(cells.items) if i.label != "monocyte" or n % 2)
    )
    settings = quick(contour=True, prior="profile")
    card = read_classifier_card(train_classifier(uneven, settings, a_run(tmp_path / "a"), quietly))
    assert card.crop.contour
    # Blood of healthy adults: neutrophils 59, lymphocytes 31, monocytes 6.5 of 96.5 percent.
    expected = {"neutrophil": 59 / 96.5, "lymphocyte": 31 / 96.5, "monocyte": 6.5 / 96.5}
    assert card.prior == pytest.approx(expected)
    shares = {i: card.trained_prior[i] for i in IDS}
    assert shares["monocyte"] < shares["neutrophil"] == shares["lymphocyte"]
    named = {"neutrophil": "round", "lymphocyte": "Oval cell", "monocyte": "odd"}
    own = cells.relabelled(named.__getitem__)
    said: list[str] = []
    weights = train_classifier(own, quick(), a_run(tmp_path / "b"), said.append)
    assert {t.id for t in read_classifier_card(weights).types} == {"round", "oval_cell", "odd"}
    assert "labels fit no taxonomy: types are known by name only; name one with --taxonomy" in said


def test_local_weights_are_where_training_starts(
    cells: CropSet, quick: Quick, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    reference = timm.create_model("test_efficientnet")
    save_file(reference.state_dict(), tmp_path / "timm.safetensors")
    settings = quick(lr=1e-9, ema_decay=0.0)
    run = a_run(tmp_path / "run", pretrained=tmp_path / "timm.safetensors")
    trained = load_file(train_classifier(cells, settings, run, quietly))
    stem = reference.state_dict()["conv_stem.weight"]
    own = trained["body.conv_stem.weight"].float()
    torch.testing.assert_close(own, stem, atol=1e-3, rtol=1e-2)


def test_boxes_need_the_size_of_red_cells_or_no_window(
    quick: Quick, cells: CropSet, tmp_path: Path
) -> None:
    """Two cells side by side are one field; their boxes are cut out on the fly."""
    pairs = list(zip(cells.items[::2], cells.items[1::2], strict=True))
    items = []
    for number, (left, right) in enumerate(pairs):
        path = tmp_path / f"{number:02d}.png"
        whole = np.concatenate([pixels_of(left.path), pixels_of(right.path)], axis=1)
        Image.fromarray(whole).save(path)
        for x, cell in ((0.0, left), (48.0, right)):
            box = (x + 9, 9.0, x + 39, 39.0)
            items.append(LabelledCrop(path, cell.label, left.split, box_xyxy=box))
    boxed = CropSet(tuple(items), cells.classes, format="boxes (coco)")
    with pytest.raises(AnnotationError, match=r"with --rbc-px, or use the boxes .* --window 0"):
        train_classifier(boxed, quick(rbc_px=None), a_run(tmp_path / "a"), quietly)
    weights = train_classifier(boxed, quick(epochs=5), a_run(tmp_path / "b"), quietly)
    assert read_classifier_card(weights).evaluations[0]["accuracy"] > 0.8
    weights = train_classifier(boxed, quick(window_rbc=0.0), a_run(tmp_path / "c"), quietly)
    assert read_classifier_card(weights).crop.window_rbc == 0


def test_one_network_per_type(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    said: list[str] = []
    settings = quick(scheme="ovr", epochs=6, balance="resample:16")
    weights = train_classifier(cells, settings, a_run(tmp_path), said.append)
    card = read_classifier_card(weights)
    assert card.architecture == ClassifierArchitecture(
        "timm/test_efficientnet", {"input_px": 32}, "ovr"
    )
    with (tmp_path / "one_vs_rest.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["type"] for row in table] == [t.id for t in card.types]
    heading = next(n for n, line in enumerate(said) if line.startswith("type "))
    assert said[heading].split() == [
        "type",
        "loss",
        "accuracy",
        "FPR",
        "FNR",
        "(held-out",
        "cells)",
    ]
    for row, line in zip(table, said[heading + 1 :], strict=False):
        assert line.split()[0] == row["type"]
        assert float(line.split()[2]) == pytest.approx(float(row["accuracy"]), abs=1e-4)
        own = metrics(tmp_path / row["type"])
        assert row["loss_held_out"] == min((r["loss_held_out"] for r in own), key=float)
    assert card.evaluations[0]["accuracy"] > 0.8
    said.clear()
    train_classifier(cells, settings, a_run(tmp_path, resume=True), said.append)
    assert said.count("continuing after epoch 6") == 3


@pytest.mark.parametrize("changes", [{"split": "all"}, {"holdout": 0.0}])
def test_without_val_or_held_out_cells(
    cells: CropSet, quick: Quick, changes: dict[str, object], tmp_path: Path
) -> None:
    weights = train_classifier(cells, quick(**changes), a_run(tmp_path), quietly)
    card = read_classifier_card(weights)
    (evaluation,) = card.evaluations
    said = {"split": "held out of train, which chose the weights", "holdout": "val"}
    assert evaluation["split"] == said[next(iter(changes))]
    assert np.sum(evaluation["confusion"]) == {"split": 11, "holdout": 12}[next(iter(changes))]
    assert (tmp_path / "val.json").exists() is ("split" not in changes)
    assert card.temperature != 1.0 if "split" in changes else card.temperature == 1.0
    assert card.data[0]["train"] == {"split": 43, "holdout": 42}[next(iter(changes))]


def test_one_type_is_nothing_to_learn(cells: CropSet, quick: Quick, tmp_path: Path) -> None:
    items = tuple(i for i in cells.items if i.label == "monocyte")
    with pytest.raises(AnnotationError, match="the cells are all of 1 type, expected two or more"):
        train_classifier(dataclasses.replace(cells, items=items), quick(), a_run(tmp_path), quietly)
