"""The whole training on a few rendered fields: it learns, resumes exactly, keeps its folder."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellcount.core.records import ImageRef, LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.errors import UsageError
from cellcount.evaluation.detection import evaluate_detections
from cellcount.evaluation.detector_run import truth_of
from cellcount.images.read import read_image
from cellcount.models.weights import read_card, read_weights, write_weights
from cellcount.training.detector.data import field_factors
from cellcount.training.detector.settings import DetectorTraining, from_recipe
from cellcount.training.detector.train import train_detector
from cellcount.training.loop import epochs_of
from cellcount.training.settings import TrainRun

Tiny = Callable[..., DetectorTraining]


def a_run(out: Path, *, resume: bool = False, workers: int = 0) -> TrainRun:
    return TrainRun((Path("rendered"),), out, workers=workers, device="cpu", resume=resume)


def quietly(line: str) -> None:
    del line


def metrics(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


@pytest.fixture(scope="module")
def red_cells(data: AnnotatedSet) -> AnnotatedSet:
    """The data with red cells alone, each training field four times per epoch."""
    images = []
    for image in data.images:
        keep = [i for i, name in enumerate(image.labels) if name == "rbc"]
        boxes = image.boxes_xyxy[keep]
        own = dataclasses.replace(image, boxes_xyxy=boxes, labels=("rbc",) * len(keep))
        images += [own] * (4 if own.split == "train" else 1)
    return AnnotatedSet(tuple(images), ("rbc",), format="rendered")


@pytest.fixture(scope="module")
def learned(
    red_cells: AnnotatedSet, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DetectorTraining, Path]:
    """Settings and folder of a training that learns the red cells; for reading."""
    out = tmp_path_factory.mktemp("learned")
    settings = tiny(epochs=9, lr=5e-3, validate_every=9)
    assert train_detector([red_cells], settings, a_run(out), quietly).parent == out
    return settings, out


@pytest.fixture(scope="module")
def first(data: AnnotatedSet, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of one epoch, which other trainings start from."""
    out = tmp_path_factory.mktemp("first")
    return train_detector([data], tiny(epochs=1, size_px=64), a_run(out), quietly)


def test_four_fields_are_learned_in_seconds(
    red_cells: AnnotatedSet, learned: tuple[DetectorTraining, Path]
) -> None:
    settings, out = learned
    weights, rows = out / "model.safetensors", metrics(out)
    assert float(rows[-1]["ap50"]) > 0.45, "about 0.65; near 0.1 where boxes or labels go wrong"
    assert float(rows[-1]["loss_classifier"]) < 0.6 * float(rows[0]["loss_classifier"])
    assert {p.name for p in out.iterdir()} == {
        "settings.json", "metrics.csv", "curves.png", "last.checkpoint", "model.safetensors",
        "splits.csv",
    }  # fmt: skip
    # The exported file finds what the training said it finds, through the engine and its card.
    card = read_card(weights)
    assert card.densest_field == max(len(i.labels) for i in red_cells.images)
    assert card.training["validation"]["epoch"] == 9
    detector = FieldDetector(load_engine("auto", weights, EngineOptions("cpu", "fp32")))
    val = [i for i in red_cells.images if i.split == "val"]
    pixels = [read_image(ImageRef(i.path, "x", "x"), max_pixels=10**6).pixels for i in val]
    factors = field_factors(red_cells.images, settings)[-len(val) :]
    found = [detector.detect(p, f).detections for p, f in zip(pixels, factors, strict=True)]
    truths = [truth_of(i, ("rbc",), p.shape) for i, p in zip(val, pixels, strict=True)]
    report = evaluate_detections(truths, found, ("rbc",), thresholds=card.thresholds)
    assert report.crowded.ap50 == pytest.approx(float(rows[-1]["ap50"]), abs=0.03), (
        "but for float16"
    )
    assert abs(report.classes[0].counting.bias or 0) <= 2, "the threshold leaves hardly any bias"


@pytest.fixture(scope="module")
def halves(
    data: AnnotatedSet, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DetectorTraining, Path, Path]:
    """Settings, an uninterrupted training, and one that was stopped in its third epoch."""
    settings = tiny(epochs=4, augment="full", size_px=96, batch_size=2, validate_every=2)
    whole, stopped = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("stopped")
    train_detector([data], settings, a_run(whole), quietly)

    class StopError(Exception):
        pass

    def stop_in_the_third(line: str) -> None:
        if line.startswith("epoch 3, "):  # said before its checkpoint is written
            raise StopError

    with pytest.raises(StopError):
        train_detector([data], settings, a_run(stopped), stop_in_the_third)
    assert torch.load(stopped / "last.checkpoint", weights_only=True)["epoch"] == 2
    return settings, whole, stopped


@pytest.mark.parametrize("workers", [0, 1])
def test_two_and_two_epochs_are_four(
    data: AnnotatedSet,
    halves: tuple[DetectorTraining, Path, Path],
    tmp_path: Path,
    workers: int,
) -> None:
    """Metrics and weights of a continued training equal those of an uninterrupted one."""
    settings, whole, stopped = halves
    parts = shutil.copytree(stopped, tmp_path / "parts")
    torch.manual_seed(12345)  # whatever happened in between
    train_detector([data], settings, a_run(parts, resume=True, workers=workers), quietly)
    assert metrics(parts) == metrics(whole)
    first, second = (load_file(f / "model.safetensors") for f in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
    states = [torch.load(f / "last.checkpoint", weights_only=True)["model"] for f in (whole, parts)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_folder_holds_one_training(data: AnnotatedSet, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(epochs=1, size_px=64)
    with pytest.raises(UsageError, match="no epoch of a training was finished"):
        train_detector([data], settings, a_run(tmp_path, resume=True), quietly)
    (tmp_path / "settings.json").write_text("{}")  # of a run stopped before its first epoch
    train_detector([data], settings, a_run(tmp_path), quietly)
    stored = json.loads((tmp_path / "settings.json").read_text())
    assert stored == json.loads(json.dumps(dataclasses.asdict(settings)))
    with pytest.raises(UsageError, match="already holds a training; continue it with --resume"):
        train_detector([data], settings, a_run(tmp_path), quietly)
    other = dataclasses.replace(settings, lr=0.5, seed=9)
    with pytest.raises(UsageError, match=r"lr was 0.001, is 0.5, seed was 0, is 9"):
        train_detector([data], other, a_run(tmp_path, resume=True), quietly)
    said: list[str] = []
    train_detector([data], settings, a_run(tmp_path, resume=True), said.append)
    assert "continuing after epoch 1" in said
    assert len(metrics(tmp_path)) == 1, "a finished training has nothing left to do"


def test_images_that_are_not_labelled_teach_nothing_but_do_not_stop(
    data: AnnotatedSet, tiny: Tiny, tmp_path: Path
) -> None:
    """A batch without a single cell."""
    import numpy as np

    empty = [
        dataclasses.replace(i, boxes_xyxy=np.zeros((0, 4), np.float32), labels=())
        for i in data.images
        if i.split == "train"
    ]
    val = [i for i in data.images if i.split == "val"]
    mixed = AnnotatedSet((*empty, *val), data.classes, format="rendered")
    settings = tiny(epochs=1, size_px=64, rbc_px=36.0)
    train_detector([mixed], settings, a_run(tmp_path), quietly)
    assert float(metrics(tmp_path)[0]["loss_box_reg"]) == 0


def test_a_model_grows_from_another(
    data: AnnotatedSet, tiny: Tiny, first: Path, tmp_path: Path
) -> None:
    grown = tiny(epochs=1, size_px=64, init=str(first), lr=1e-9, split="all", ema_decay=0.0)
    second = train_detector([data], grown, a_run(tmp_path / "second"), quietly)
    before, after = load_file(first), load_file(second)
    key = "roi_heads.box_head.fc6.weight"
    torch.testing.assert_close(after[key], before[key], atol=1e-3, rtol=1e-2)
    card = read_card(second)
    assert card.training["init"]["name"] == "detector"
    assert card.thresholds == read_card(first).thresholds, "nothing was validated"
    assert card.preprocessing == read_card(first).preprocessing
    with pytest.raises(UsageError, match="set rbc_diameter_px=36 and resize=rbc"):
        train_detector(
            [data],
            tiny(init=str(first), rbc_diameter_px=50.0),
            a_run(tmp_path / "third"),
            quietly,
        )


def test_the_hue_of_red_cells_is_added_to_a_model_that_sees_white_glass(
    data: AnnotatedSet, tiny: Tiny, first: Path, tmp_path: Path
) -> None:
    with_hue = tiny(epochs=1, size_px=64, init=str(first), red_cell_hue=True)
    with pytest.raises(UsageError, match="sees fields in their own colours; leave red_cell_hue"):
        train_detector([data], with_hue, a_run(tmp_path / "refused"), quietly)
    card, tensors = read_weights(first)
    balanced = dataclasses.replace(card.preprocessing, white_balance=True)
    start = tmp_path / "start.safetensors"
    write_weights(start, dataclasses.replace(card, preprocessing=balanced), tensors)
    again = dataclasses.replace(with_hue, init=str(start))
    grown = train_detector([data], again, a_run(tmp_path / "grown"), quietly)
    assert read_card(grown).preprocessing == dataclasses.replace(balanced, red_cell_hue=True)


def test_heads_of_classes_that_both_know_are_kept_by_name(
    data: AnnotatedSet, tiny: Tiny, first: Path, tmp_path: Path
) -> None:
    """Known classes in another order, one of them gone and one new."""
    known = [c.id for c in read_card(first).classes]
    names = {"wbc": "wbc", "rbc": "rbc", "platelet": "giant"}
    images = tuple(
        dataclasses.replace(i, labels=tuple(names[label] for label in i.labels))
        for i in data.images
    )
    other = AnnotatedSet(images, ("wbc", "giant", "rbc"), format="rendered")
    said: list[str] = []
    settings = tiny(epochs=1, size_px=64, init=str(first), lr=1e-9, warmup=0.0, ema_decay=0.0)
    second = train_detector([other], settings, a_run(tmp_path / "second"), said.append)
    before, after = load_file(first), load_file(second)
    start = "roi_heads.box_predictor."
    for name, row in (("wbc", 1), ("rbc", 3)):
        old = known.index(name) + 1
        torch.testing.assert_close(
            after[f"{start}cls_score.weight"][row],
            before[f"{start}cls_score.weight"][old],
            atol=1e-3,
            rtol=1e-2,
        )
        torch.testing.assert_close(
            after[f"{start}bbox_pred.weight"][4 * row : 4 * row + 4],
            before[f"{start}bbox_pred.weight"][4 * old : 4 * old + 4],
            atol=1e-3,
            rtol=1e-2,
        )
    assert "taken over from detector: wbc, rbc" in said
    assert "new, learned from the start: giant" in said
    assert "not in this data, so the model will not know them any more: platelet" in said


def test_the_parents_score_comes_first_and_a_worse_model_is_told_last(
    red_cells: AnnotatedSet,
    tiny: Tiny,
    learned: tuple[DetectorTraining, Path],
    tmp_path: Path,
) -> None:
    _, before = learned
    said: list[str] = []
    ruin = tiny(epochs=1, init=str(before / "model.safetensors"), lr=0.5, warmup=0.0, ema_decay=0.0)
    train_detector([red_cells], ruin, a_run(tmp_path / "second"), said.append)
    score = next(i for i, line in enumerate(said) if "which this training starts from, has" in line)
    assert score < next(i for i, line in enumerate(said) if line.startswith("epoch 1"))
    told = float(said[score].split("has AP ")[1].split()[0])
    assert told == pytest.approx(float(metrics(before)[-1]["ap"]), abs=0.01)
    assert said[-1].startswith("warning: AP 0.0")
    assert "which this training started from, on the same validation images" in said[-1]


def test_a_local_pretrained_backbone_is_where_training_starts(
    data: AnnotatedSet, tiny: Tiny, tmp_path: Path
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(77)
    reference = timm.create_model("test_efficientnet")
    source = tmp_path / "timm.safetensors"
    save_file(reference.state_dict(), source)
    run = dataclasses.replace(a_run(tmp_path / "run"), pretrained=source)
    settings = tiny(epochs=1, size_px=64, lr=1e-9, ema_decay=0.0)
    weights = load_file(train_detector([data], settings, run, quietly))
    expected = reference.state_dict()["conv_stem.weight"]
    torch.testing.assert_close(
        weights["trunk.backbone.body.conv_stem.weight"].float(), expected, atol=1e-3, rtol=1e-2
    )


@pytest.mark.parametrize("pyramid", ["none", "bottom-up"])
def test_other_pyramids_train_too(
    data: AnnotatedSet, tiny: Tiny, tmp_path: Path, pyramid: str
) -> None:
    settings = tiny(epochs=1, size_px=64, pyramid=pyramid, schedule="onecycle", precision="bf16")
    weights = train_detector([data], settings, a_run(tmp_path), quietly)
    card = read_card(weights)
    assert card.architecture.pyramid == pyramid
    assert load_engine("auto", weights, EngineOptions("cpu")).card == card


def test_a_loss_that_is_not_finite_costs_one_step(
    data: AnnotatedSet, tiny: Tiny, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = tiny(epochs=1, size_px=64, lr=1e30, clip_norm=0.0, optimizer="sgd", batch_size=1)
    train_detector([data], settings, a_run(tmp_path), said.append)
    assert any("loss is not finite, step left out" in line for line in said)


def test_iterations_become_whole_epochs() -> None:
    settings = DetectorTraining(iterations=100, epochs=3)
    assert epochs_of(settings, 30) == 4
    assert epochs_of(dataclasses.replace(settings, iterations=0), 30) == 3


@pytest.mark.slow
def test_the_recipe_of_the_seed_paper_takes_a_step(
    data: AnnotatedSet, fields: tuple[LabelledImage, ...], tmp_path: Path
) -> None:
    two = AnnotatedSet(
        tuple(dataclasses.replace(i, split="") for i in fields[:3]), data.classes, format="rendered"
    )
    settings = from_recipe("seed-004", {"iterations": 1, "split": "2/1"})
    weights = train_detector([two], settings, a_run(tmp_path), quietly)
    card = read_card(weights)
    assert card.rbc_diameter_px == pytest.approx(36 * 800 / 160, rel=0.15)
    assert not card.preprocessing.white_balance
    assert len(metrics(tmp_path)) == 1
