"""Scores at the working threshold and counting errors, against hand-computed figures."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error

from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth, count_error, evaluate_detections

CLASSES = ("RBC", "WBC", "Platelet")
THRESHOLDS = {"RBC": 0.5, "WBC": 0.5, "Platelet": 0.25}


def place(*starts: tuple[float, float]) -> NDArray[np.float32]:
    """Boxes of 40 x 40 pixels."""
    corner = np.array(starts, np.float32).reshape(-1, 2)
    return np.concatenate([corner, corner + 40], axis=1)


def truth(name: str, starts: list[tuple[float, float]], labels: list[int]) -> Truth:
    return Truth(name, place(*starts), np.array(labels, np.int64), 640, 480)


def found(starts: list[tuple[float, float]], labels: list[int], scores: list[float]) -> Detections:
    return Detections(place(*starts), np.array(scores, np.float32), np.array(labels, np.int64))


# one field: three red cells and a white cell. Two red cells are found, one is missed, one is
# false; the white cell scores too low to count.
TRUTH = [truth("a.png", [(0, 0), (100, 0), (200, 0), (300, 0)], [0, 0, 0, 1])]
FOUND = [
    found([(0, 0), (100, 4), (400, 0), (300, 0)], [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.4]),
]


def test_figures_at_the_threshold_by_hand() -> None:
    report = evaluate_detections(TRUTH, FOUND, CLASSES, thresholds=THRESHOLDS)
    red, white, platelet = report.classes
    assert (red.true_positives, red.false_positives, red.false_negatives) == (2, 1, 1)
    assert (red.precision, red.recall, red.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert (red.counting.true, red.counting.counted, red.counting.mae) == (3, 3, 0)
    assert (white.precision, white.recall, white.f1) == (None, 0, 0)
    assert (white.counting.true, white.counting.counted, white.counting.mae) == (1, 0, 1)
    assert white.counting.relative_error == -1
    assert (platelet.precision, platelet.recall, platelet.f1) == (None, None, None)
    assert (report.all.true_positives, report.all.false_negatives) == (2, 2)
    assert report.all.counting.bias == -1


def test_average_precision_by_hand() -> None:
    """Red: precision 1 up to recall 2/3 (67 of COCO's 101 recalls); white: found, whatever score.

    The second red cell is off by 4 of 40 pixels, IoU 36/44 = 0.82: a hit up to IoU 0.80.
    """
    report = evaluate_detections(TRUTH, FOUND, CLASSES, thresholds=THRESHOLDS)
    assert report.crowded.class_ap50["RBC"] == pytest.approx(67 / 101)
    assert report.crowded.class_ap["RBC"] == pytest.approx((7 * 67 + 3 * 34) / 1010)
    assert report.crowded.class_ap["WBC"] == pytest.approx(1)
    assert report.crowded.class_ap["Platelet"] is None
    assert report.crowded.ap50 == pytest.approx((67 / 101 + 1) / 2)
    assert report.crowded.ap_medium == report.crowded.ap
    assert report.crowded.ap_small is None
    assert report.crowded.ap_large is None


def test_a_class_never_seen_has_no_figures_and_a_class_never_found_has_zero() -> None:
    blank = [Detections.empty()]
    report = evaluate_detections(TRUTH, blank, CLASSES, thresholds=THRESHOLDS)
    assert report.published.class_ap == {"RBC": 0, "WBC": 0, "Platelet": None}
    assert report.published.ap == 0
    rows = {row["class"]: row for row in report.rows()}
    assert rows["RBC"]["recall"] == 0
    assert rows["RBC"]["precision"] is None
    assert rows["Platelet"]["count_relative_error"] is None
    assert rows["Platelet"]["count_mae"] == 0


def test_only_empty_images() -> None:
    blank = [truth("a.png", [], []), truth("b.png", [], [])]
    clean = evaluate_detections(blank, [Detections.empty()] * 2, CLASSES, thresholds=THRESHOLDS)
    assert clean.published.ap is None
    assert clean.all.precision is None
    assert clean.all.counting.mae == 0
    noisy = evaluate_detections(
        blank, [FOUND[0], Detections.empty()], CLASSES, thresholds=THRESHOLDS
    )
    assert noisy.published.ap is None
    assert noisy.all.precision == 0
    assert noisy.all.counting.mae == 1.5
    assert noisy.all.counting.relative_error is None


def test_no_images() -> None:
    report = evaluate_detections([], [], CLASSES, thresholds=THRESHOLDS)
    assert report.images == 0
    assert report.published.ap is None
    assert report.all.counting.mae is None


def test_a_score_equal_to_the_threshold_counts() -> None:
    """0.35 is a little less as float32 than as Python's float."""
    report = evaluate_detections(
        [truth("a.png", [(0, 0)], [0])],
        [found([(0, 0)], [0], [0.35])],
        ["RBC"],
        thresholds={"RBC": 0.35},
    )
    assert report.classes[0].counting.counted == 1
    assert report.classes[0].threshold == 0.35


def test_crowded_fields_need_more_than_a_hundred_detections() -> None:
    starts = [(float(x), float(y)) for x in range(0, 640, 40) for y in range(0, 480, 40)]
    count = len(starts)
    assert count == 192
    report = evaluate_detections(
        [truth("a.png", starts, [0] * count)],
        [found(starts, [0] * count, np.linspace(0.99, 0.6, count).tolist())],
        ["RBC"],
        thresholds={"RBC": 0.5},
    )
    assert report.published.max_detections == 100
    assert report.published.ar == pytest.approx(100 / 192)
    assert report.published.ar_by_limit == {
        1: pytest.approx(1 / 192),
        10: pytest.approx(10 / 192),
        100: pytest.approx(100 / 192),
    }
    assert report.crowded.ar_by_limit == {1000: 1}
    assert (report.crowded.max_detections, report.crowded.ap) == (1000, 1)
    assert report.rows()[0]["ap"] == 1


def test_counting_error_agrees_with_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 40, 50)
    counted = np.clip(true + rng.integers(-5, 7, 50), 0, None)
    error = count_error(true, counted)
    assert error.mae == pytest.approx(mean_absolute_error(true, counted))
    assert error.r == pytest.approx(pearsonr(true, counted).statistic)
    assert error.bias == pytest.approx(counted.mean() - true.mean())
    assert error.relative_error == pytest.approx(counted.sum() / true.sum() - 1)


def test_no_correlation_where_counts_do_not_vary() -> None:
    same, varied = np.array([3, 3, 3]), np.array([1, 2, 3])
    assert count_error(same, varied).r is None
    assert count_error(varied, same).r is None
    assert count_error(varied[:1], varied[:1]).r is None


def test_json_and_tables_hold_the_same_figures() -> None:
    report = evaluate_detections(TRUTH, FOUND, CLASSES, thresholds=THRESHOLDS)
    loaded = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert loaded["images"] == 1
    assert loaded["classes"] == report.rows()
    assert [row["class"] for row in loaded["classes"]] == [*CLASSES, "all"]
    assert [scores["max_detections"] for scores in loaded["coco"]] == [100, 1000]
    assert loaded["coco"][0]["ar_by_limit"].keys() == {"1", "10", "100"}
    labelled = [(row["metric"], row["max_detections"]) for row in report.coco_rows()]
    assert labelled[:2] == [("AP", 100), ("AP50", 100)]
    assert [limit for metric, limit in labelled if metric == "AR"] == [1, 10, 100, 1000]
    assert report.coco_rows()[0]["value"] == report.published.ap


def test_nothing_is_printed_or_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        evaluate_detections(TRUTH, FOUND, CLASSES, thresholds=THRESHOLDS)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="1 images have truth but 0 have predictions"):
        evaluate_detections(TRUTH, [], CLASSES, thresholds=THRESHOLDS)
    with pytest.raises(ValueError, match=r"missing \['WBC', 'Platelet'\]"):
        evaluate_detections(TRUTH, FOUND, CLASSES, thresholds={"RBC": 0.5})
    with pytest.raises(ValueError, match=r"a\.png: labels of the truth must lie from 0 to 0"):
        evaluate_detections(TRUTH, FOUND, ["RBC"], thresholds=THRESHOLDS)
    with pytest.raises(ValueError, match="classes must differ"):
        evaluate_detections(TRUTH, FOUND, ["RBC", "RBC", "all"], thresholds=THRESHOLDS)
