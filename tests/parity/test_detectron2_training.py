"""Training with the Detectron2 engine: the same command, the same file, the same quality."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cellcount.cli import main
from cellcount.engines.base import EngineOptions, engine_class
from cellcount.engines.detector_model import Detector
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_card
from cellcount.rendering.field import LABELS, FieldSpec, RenderedField, render_field

pytestmark = pytest.mark.detectron2

SETTINGS = [
    "backbone=timm/test_efficientnet",
    "pyramid_channels=32",
    "rbc_diameter_px=32",
    "size_px=96",
    "batch_size=2",
    "precision=fp32",
    "split=3/1",
    "refine_steps=1",
]
STEPS, BATCH, PEAK_RATE = 200, 2, 4e-3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "data"
    line = ["datasets", "render", "--out", str(folder), "--fields", "4", "--seed", "2"]
    assert main([*line, "--size", "200x160", "--density", "0.3-0.5"]) == 0
    return folder


def test_a_run_is_for_every_engine(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = ["train", "detector", str(data), "--out", str(run), "--device", "cpu", "--workers", "0"]
    line += ["--rbc-px", "70", *(part for s in SETTINGS for part in ("--set", s))]
    assert main([*line, "--epochs", "2", "--engine", "detectron2"]) == 0
    with (run / "metrics.csv").open(newline="") as file:
        losses = {name for name in next(csv.reader(file)) if name.startswith("loss_")}
    assert losses == {
        "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg",
        "loss_refined_class", "loss_refined_box",
    }  # fmt: skip
    counted = {}
    for engine, ran in (("torchvision",) * 2, ("detectron2",) * 2, ("auto", "detectron2")):
        out = tmp_path / f"{engine}.csv"
        analyze = ["analyze", str(data / "images"), "--out", str(out), "--detector", str(run)]
        analyze += ["--classifier", "none", "--device", "cpu", "--min-score", "0.02"]
        assert main([*analyze, "--engine", engine]) == 0
        with out.open(newline="") as file:
            counted[engine] = [row["cells"] for row in csv.DictReader(file)]
        record = json.loads((tmp_path / f"{engine}.run.json").read_text("utf-8"))
        assert record["engine"] == ran
    assert sum(int(cells) for cells in counted["auto"]) > 0
    assert counted["torchvision"] == counted["detectron2"] == counted["auto"]

    reports = {}
    evaluate = ["evaluate", "detector", str(data), "--detector", str(run), "--device", "cpu"]
    for engine in ("torchvision", "detectron2"):
        out = tmp_path / f"{engine}.json"
        assert main([*evaluate, "--engine", engine, "--json", str(out)]) == 0
        document = json.loads(out.read_text("utf-8"))
        assert document["engine"] == engine
        reports[engine] = document["reports"]["original"]["coco"][1]["ap50"]
    assert reports["torchvision"] == pytest.approx(reports["detectron2"], abs=1e-3)

    capsys.readouterr()
    again = [*line, "--epochs", "2", "--resume"]
    assert main([*again, "--engine", "detectron2"]) == 0
    assert main([*again, "--engine", "torchvision"]) == 2
    assert "the checkpoint in" in capsys.readouterr().err


def fields_of(seeds: range) -> list[RenderedField]:
    return [
        render_field(FieldSpec(160, 128, seed, 18 + seed % 13, 0.1 + 0.4 * (seed % 10) / 10))
        for seed in seeds
    ]


def target_of(field: RenderedField) -> dict[str, torch.Tensor]:
    keep = (field.boxes_xyxy[:, 2:] - field.boxes_xyxy[:, :2] > 2).all(axis=1)
    labels = np.array([LABELS.index(name) + 1 for name in field.labels])
    return {
        "boxes": torch.from_numpy(field.boxes_xyxy[keep]),
        "labels": torch.from_numpy(labels[keep]),
    }


def train(model: Detector, fields: list[RenderedField]) -> None:
    """Batches of equal images in equal order, whatever the model."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    images = [torch.from_numpy(f.pixels).permute(2, 0, 1) for f in fields]
    targets = [target_of(f) for f in fields]
    optimizer = torch.optim.AdamW(model.train().parameters(), PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, STEPS)
    for _ in range(STEPS):
        chosen = rng.integers(0, len(fields), BATCH)
        losses = model.losses(
            torch.stack([images[i] for i in chosen]), [dict(targets[i]) for i in chosen]
        )
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()


def ap50(engine: str, model: Detector, card: DetectorCard, fields: list[RenderedField]) -> float:
    detector = engine_class(engine)(model, card, EngineOptions("cpu", "fp32", 4))
    found = detector.detect([f.pixels for f in fields])
    truths = []
    for index, field in enumerate(fields):
        target = target_of(field)
        boxes, labels = target["boxes"].numpy(), target["labels"].numpy() - 1
        truths.append(Truth(str(index), boxes, labels, 160, 128))
    thresholds = {c.id: 0.5 for c in card.classes}
    report = evaluate_detections(truths, found, list(thresholds), thresholds=thresholds)
    assert report.crowded.ap50 is not None
    return report.crowded.ap50


@pytest.mark.slow
def test_two_hundred_steps_from_the_same_start_are_as_good(repo_root: Path) -> None:
    card = read_card(repo_root / "tests" / "golden" / "tiny.safetensors")
    torch.manual_seed(4)
    start = engine_class("torchvision").build_model(card).weights()
    start = {name: tensor.clone() for name, tensor in start.items()}
    learned_from, judged_on = fields_of(range(80)), fields_of(range(1000, 1040))
    reached = {}
    for name in ("torchvision", "detectron2"):
        model = engine_class(name).build_model(card)
        model.take_weights(start)
        train(model, learned_from)
        reached[name] = ap50(name, model, card, judged_on)
    assert min(reached.values()) > 0.3, reached
    assert abs(reached["torchvision"] - reached["detectron2"]) <= 0.03, reached
