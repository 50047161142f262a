"""Average precision and recall, and matching at IoU 0.5, against pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth, evaluate_detections

CLASSES = ("RBC", "WBC", "Platelet", "Never")
PUBLISHED = [
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large",
]  # fmt: skip


def scene(seed: int) -> tuple[list[Truth], list[Detections]]:
    """Images with cells of all COCO sizes, misses, false cells, twins, ties and empty images."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for index in range(8):
        count = int(rng.choice([0, 3, 30, 160]))
        labels = rng.choice([0, 0, 0, 1, 2], count)
        sides = rng.choice([20, 60, 130], count)[:, None] * rng.uniform(0.8, 1.2, (count, 2))
        start = rng.uniform(0, 900, (count, 2))
        corners = np.concatenate([start, start + sides], axis=1)
        truth.append(Truth(f"{index}.png", corners.astype(np.float32), labels, 1000, 1000))
        predictions.append(detect(rng, corners, labels))
    return truth, predictions


def detect(
    rng: np.random.Generator, corners: NDArray[np.float64], labels: NDArray[np.int64]
) -> Detections:
    seen = np.flatnonzero(rng.random(len(labels)) < 0.85)
    twice = np.concatenate([seen, seen[::4]])
    noise = rng.normal(0, 3, (len(twice), 4))
    false_start = rng.uniform(0, 900, (int(rng.integers(0, 20)), 2))
    false = np.concatenate([false_start, false_start + 50], axis=1)
    found = np.concatenate(
        [np.sort((corners[twice] + noise).reshape(-1, 2, 2), axis=1).reshape(-1, 4), false]
    )
    guessed = np.concatenate([labels[twice], rng.integers(0, 4, len(false))])
    scores = np.round(rng.random(len(found)), 2).astype(np.float32)
    return Detections(found.astype(np.float32), scores, guessed)


def reference(truth: list[Truth], predictions: list[Detections], limits: list[int]) -> COCOeval:
    """pycocotools run on the same boxes, written out independently."""
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for index, (image, cells) in enumerate(zip(truth, predictions, strict=True)):
        for box, label in zip(image.boxes_xyxy.astype(float), image.labels, strict=True):
            true.append(entry(len(true) + 1, index, box, int(label)))
        for box, label, score in zip(
            cells.boxes_xyxy.astype(float), cells.labels, cells.scores, strict=True
        ):
            found.append({**entry(len(found) + 1, index, box, int(label)), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco(true, len(truth)), coco(found, len(truth)), "bbox")
        evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()
        if limits == [1, 10, 100]:
            evaluation.summarize()
    return evaluation


def entry(identity: int, image: int, box: NDArray[np.float64], label: int) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box.tolist()
    width, height = x_max - x_min, y_max - y_min
    return {
        "id": identity,
        "image_id": image,
        "category_id": label,
        "bbox": [x_min, y_min, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def coco(entries: list[dict[str, Any]], images: int) -> COCO:
    api = COCO()
    api.dataset = {
        "images": [{"id": index} for index in range(images)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": entries,
    }
    api.createIndex()
    return api


def defined(value: float) -> object:
    return None if value == -1 else pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_published_summary(seed: int) -> None:
    truth, predictions = scene(seed)
    report = evaluate_detections(
        truth, predictions, CLASSES, thresholds=dict.fromkeys(CLASSES, 0.5)
    )
    expected = reference(truth, predictions, [1, 10, 100]).stats
    ours = report.published.to_dict()
    ours |= {f"ar_{limit}": value for limit, value in ours["ar_by_limit"].items()}
    for name, value in zip(PUBLISHED, expected.tolist(), strict=True):
        assert ours[name] == defined(value), name
    assert report.published.class_ap["Never"] is None


@pytest.mark.parametrize("seed", range(6))
def test_crowded_summary_and_classes(seed: int) -> None:
    truth, predictions = scene(seed)
    crowded = evaluate_detections(
        truth, predictions, CLASSES, thresholds=dict.fromkeys(CLASSES, 0.5)
    ).crowded
    tables = reference(truth, predictions, [1000]).eval
    precision, recall = tables["precision"][..., 0], tables["recall"][..., 0]

    def mean(values: NDArray[np.float64]) -> object:
        return defined(float(values[values > -1].mean()) if (values > -1).any() else -1)

    for area, suffix in enumerate(["", "_small", "_medium", "_large"]):
        assert getattr(crowded, f"ap{suffix}") == mean(precision[:, :, :, area])
        assert getattr(crowded, f"ar{suffix}") == mean(recall[:, :, area])
    for index, name in enumerate(CLASSES):
        assert crowded.class_ap[name] == mean(precision[:, :, index, 0])
        assert crowded.class_ap50[name] == mean(precision[0, :, index, 0])


@pytest.mark.parametrize("seed", range(6))
def test_matches_at_half_overlap(seed: int) -> None:
    """True and false positives at a threshold, counted from pycocotools' own matching."""
    truth, predictions = scene(seed)
    counted = [cells[cells.scores >= np.float32(0.4)] for cells in predictions]
    report = evaluate_detections(
        truth, predictions, CLASSES, thresholds=dict.fromkeys(CLASSES, 0.4)
    )
    images = reference(truth, counted, [1000]).evalImgs
    per_class = len(images) // len(CLASSES)  # class by class, then area, then image
    for index, ours in enumerate(report.classes):
        matched = sum(
            int((image["dtMatches"][0] > 0).sum())
            for image in images[index * per_class : index * per_class + len(truth)]
            if image is not None
        )
        total = sum(int((cells.labels == index).sum()) for cells in counted)
        assert ours.true_positives == matched
        assert ours.false_positives == total - matched


def test_nothing_found_and_nothing_there() -> None:
    truth, predictions = scene(0)
    thresholds = dict.fromkeys(CLASSES, 0.5)
    blind = [Detections.empty()] * len(truth)
    report = evaluate_detections(truth, blind, CLASSES, thresholds=thresholds)
    expected = reference(truth, blind, [1, 10, 100]).stats
    assert report.published.ap == expected[0] == 0
    bare = [Truth(t.image, t.boxes_xyxy[:0], t.labels[:0], 1000, 1000) for t in truth]
    report = evaluate_detections(bare, predictions, CLASSES, thresholds=thresholds)
    assert report.published.ap is None
    assert reference(bare, predictions, [1, 10, 100]).stats[0] == -1
