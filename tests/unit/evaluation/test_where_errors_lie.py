"""The benchmark that puts one kind of error right: on boxes whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.where_errors_lie import PUT_RIGHT, overlaps, put_right
from cellcount.core.records import Detections
from cellcount.evaluation.matching import Truth

TRUE = np.array([[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20]], np.float32)
# In turn: exact; shifted; of another class; found twice; where nothing is.
FOUND = np.array(
    [[0, 0, 20, 20], [44, 0, 64, 20], [80, 0, 100, 20], [0, 0, 19, 20], [40, 60, 60, 80]],
    np.float32,
)
SCORES = np.array([0.5, 0.9, 0.8, 0.7, 0.95], np.float32)
LABELS = np.array([0, 0, 1, 0, 0])


def changed(kind: str) -> Detections:
    truth = Truth("a", TRUE, np.zeros(3, np.int64), 100, 100)
    change = PUT_RIGHT[kind]
    assert change is not None
    (found,) = put_right([truth], [Detections(FOUND, SCORES, LABELS)], change)
    return found


def test_each_kind_of_error_is_put_right_alone() -> None:
    np.testing.assert_array_equal(changed("boxes of hits").boxes_xyxy[:2], TRUE[:2])
    np.testing.assert_array_equal(changed("boxes of hits").boxes_xyxy[2], FOUND[2])
    assert changed("classes").labels.tolist() == [0, 0, 0, 0, 0]
    assert changed("no cell there").scores.tolist() == pytest.approx([0.5, 0.9, 0.8, 0.7])
    # Of two on one cell the better score stays, though its box is worse.
    assert changed("found twice").scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.95])
    expected = [0.5, 0.9 * 16 / 24, 0.8 * 0.5, 0.7 * 0.95, 0.95 * 0.5]
    assert changed("scores of hits in the order of their IoU").scores.tolist() == pytest.approx(
        expected
    )


def test_overlaps_leave_out_what_hits_nothing() -> None:
    values = overlaps([TRUE, TRUE[:0]], [FOUND, FOUND])
    assert values.tolist() == pytest.approx([1, 16 / 24, 1, 0.95])
