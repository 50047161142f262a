"""Greedy matching, against hand-made cases and SciPy's assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cellcount.core import boxes
from cellcount.core.records import Detections
from cellcount.evaluation.matching import Matching, Truth, match


def corners(*rows: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def found(scores: list[float], labels: list[int], places: NDArray[np.float32]) -> Detections:
    return Detections(places, np.array(scores, np.float32), np.array(labels, np.int64))


def labels(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def pairs(matching: Matching) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in matching.matches}


def test_the_better_score_takes_the_cell_the_other_is_false() -> None:
    truth = corners((0, 0, 10, 10))
    cells = found([0.6, 0.9], [0, 0], corners((0, 0, 10, 10), (0, 0, 10, 8)))
    matching = match(truth, labels(0), cells)
    assert pairs(matching) == {(0, 1)}
    assert matching.false_positives.tolist() == [0]
    assert matching.misses.tolist() == []
    np.testing.assert_allclose(matching.ious, [0.8])


def test_each_detection_takes_the_largest_overlap_that_is_free() -> None:
    truth = corners((0, 0, 10, 10), (2, 0, 12, 10))
    cells = found([0.9, 0.8], [0, 0], corners((2, 0, 12, 10), (2, 0, 12, 9)))
    matching = match(truth, labels(0, 0), cells)
    assert pairs(matching) == {(1, 0), (0, 1)}


def test_another_class_does_not_match_unless_asked() -> None:
    truth = corners((0, 0, 10, 10))
    cells = found([0.9], [1], truth)
    assert match(truth, labels(0), cells).misses.tolist() == [0]
    assert match(truth, labels(0), cells).false_positives.tolist() == [0]
    assert pairs(match(truth, labels(0), cells, across_classes=True)) == {(0, 0)}


def test_the_threshold_itself_matches() -> None:
    truth = corners((0, 0, 10, 10))
    half = found([0.9], [0], corners((0, 0, 10, 5)))
    assert pairs(match(truth, labels(0), half, iou_threshold=0.5)) == {(0, 0)}
    assert pairs(match(truth, labels(0), half, iou_threshold=0.51)) == set()


def test_no_truth_and_no_detections() -> None:
    nothing = match(corners(), labels(), Detections.empty())
    assert nothing.matches.shape == (0, 2)
    assert nothing.ious.shape == (0,)
    truth = corners((0, 0, 10, 10))
    assert match(truth, labels(0), Detections.empty()).misses.tolist() == [0]
    assert match(corners(), labels(), found([0.9], [0], truth)).false_positives.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40))
def test_jittered_cells_are_matched_as_the_best_assignment(seed: int, count: int) -> None:
    """Greedy and optimal matching agree where every detection has one clear partner."""
    rng = np.random.default_rng(seed)
    start = rng.permutation(100)[:count, None] * [60, 0] + rng.uniform(0, 4, (count, 2))
    truth = np.concatenate([start, start + 50], axis=1).astype(np.float32)
    classes = rng.integers(0, 2, count)
    order = rng.permutation(count)
    moved = (truth[order] + rng.uniform(-4, 4, (count, 4))).astype(np.float32)
    cells = Detections(moved, rng.random(count).astype(np.float32), classes[order])
    matching = match(truth, classes, cells)
    rows, columns = linear_sum_assignment(-boxes.pairwise_iou(truth, moved))
    assert pairs(matching) == set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_truth_with_wrong_shapes_says_which() -> None:
    with pytest.raises(ValueError, match=r"a\.png: expected labels .* got \(1,\) and \(2, 4\)"):
        Truth("a.png", np.zeros((2, 4), np.float32), labels(0), 10, 10)
