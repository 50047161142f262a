"""Zero-bias thresholds by hand, in the very arithmetic in which cells are counted."""

from __future__ import annotations

import numpy as np
import pytest

from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.evaluation.thresholds import zero_bias_thresholds

CLASSES = ("rbc", "wbc")


def truth(rbc: int, wbc: int = 0) -> Truth:
    n = rbc + wbc
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(n)], np.float32).reshape(-1, 4)
    return Truth("image", boxes, np.repeat([0, 1], [rbc, wbc]), 4000, 100)


def found(*scores: float, label: int = 0) -> Detections:
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(len(scores))], np.float32)
    return Detections(
        boxes.reshape(-1, 4), np.array(scores, np.float32), np.full(len(scores), label, np.int64)
    )


def test_the_threshold_lies_between_the_last_counted_and_the_next() -> None:
    truths = [truth(2), truth(1)]
    detections = [found(0.9, 0.4, 0.1), found(0.8, 0.3)]
    # Sorted 0.9, 0.8, 0.4 | 0.3, 0.1 with three true cells: midway between 0.4 and 0.3.
    assert zero_bias_thresholds(truths, detections, CLASSES) == {"rbc": 0.35, "wbc": 0.5}


def test_classes_have_their_own() -> None:
    both = Detections.concatenate([found(0.9, 0.7, 0.1), found(0.6, 0.2, label=1)])
    assert zero_bias_thresholds([truth(2, 1)], [both], CLASSES) == {"rbc": 0.4, "wbc": 0.4}


def test_too_few_detections_are_all_counted() -> None:
    thresholds = zero_bias_thresholds([truth(5)], [found(0.9, 0.02)], CLASSES)
    assert thresholds["rbc"] == pytest.approx(0.01)


def test_where_many_scores_serve_it_is_their_middle() -> None:
    """100 cells, 99 of them above 0.8; the next best scores are 0.2 and 0.1."""
    detections = found(*np.linspace(0.8, 1.0, 99), 0.2, 0.1)
    thresholds = zero_bias_thresholds([truth(100)], [detections], CLASSES)
    assert thresholds["rbc"] == pytest.approx((0.8 + 0.0) / 2, abs=1e-6), (
        "99 to 101 cells are right"
    )
    more = found(*np.linspace(0.8, 1.0, 99), 0.2, 0.1, 0.08, 0.05)
    thresholds = zero_bias_thresholds([truth(100)], [more], CLASSES)
    assert thresholds["rbc"] == pytest.approx((0.8 + 0.08) / 2, abs=1e-6)


@pytest.mark.parametrize("detections", [found(), found(0.9, label=1)])
def test_nothing_found_is_one_half(detections: Detections) -> None:
    assert zero_bias_thresholds([truth(3)], [detections], CLASSES)["rbc"] == 0.5


def test_scores_that_differ_in_the_last_bit_are_told_apart() -> None:
    """Rounding to four digits would count both or none of two neighbours."""
    upper = np.float32(0.30004)
    lower = np.nextafter(upper, np.float32(0))
    detections = found(0.9, float(upper), float(lower), 0.1)
    thresholds = zero_bias_thresholds([truth(2)], [detections], CLASSES)
    report = evaluate_detections([truth(2)], [detections], CLASSES, thresholds=thresholds)
    assert report.classes[0].counting.counted == 2, "a cell exactly at its threshold counts"


@pytest.mark.parametrize("seed", range(5))
def test_the_bias_is_zero_on_the_images_it_was_chosen_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [truth(int(rng.integers(0, 9))) for _ in range(12)]
    # As close together as a good detector's scores are, so that rounding would matter.
    detections = [found(*(1 - rng.random(12) * 1e-3).astype(np.float32)) for _ in truths]
    thresholds = zero_bias_thresholds(truths, detections, CLASSES)
    report = evaluate_detections(truths, detections, CLASSES, thresholds=thresholds)
    assert report.classes[0].counting.bias == 0
