"""From detections to counted cells: thresholds, edges, rounding and a total order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount.core.cells import cells_from_detections, count_by_class, count_by_type, with_reviews
from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult, Review
from cellcount.settings import EdgeRule

Row = tuple[float, float, float, float, float, int]
HALF = np.full(3, 0.5, np.float32)


def detections_of(*rows: Row) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int)
    )


def cells_of(detections: Detections, edge_rule: EdgeRule = "all") -> Cells:
    return cells_from_detections(detections, 100, 80, thresholds=HALF, edge_rule=edge_rule)


def test_each_class_has_its_own_threshold() -> None:
    found = detections_of(
        (10, 10, 20, 20, 0.6, 0), (30, 10, 40, 20, 0.6, 1), (50, 10, 60, 20, 0.7, 1)
    )
    thresholds = np.array([0.6, 0.7], np.float32)
    cells = cells_from_detections(found, 100, 80, thresholds=thresholds, edge_rule="all")
    assert cells.detections.boxes_xyxy[:, 0].tolist() == [10, 50]


def test_boxes_are_clipped_rounded_and_empty_ones_dropped() -> None:
    cells = cells_of(
        detections_of(
            (-5, 20.004, 20.016, 40, 0.9, 0),
            (90, 20, 130, 90, 0.9, 0),
            (110, 20, 130, 40, 0.9, 0),  # outside
            (50, 50, 50.001, 60, 0.9, 0),  # nothing left of it after rounding
            (np.nan, 10, 20, 20, 0.9, 0),
            (10, 10, 20, 20, np.nan, 0),
            (-np.inf, 60, np.inf, 70, 0.9, 0),
        )
    )
    expected = np.array([[0, 20, 20.02, 40], [90, 20, 100, 80], [0, 60, 100, 70]], np.float32)
    np.testing.assert_array_equal(cells.detections.boxes_xyxy, expected)
    assert cells.detections.boxes_xyxy.dtype == np.float32
    assert not np.signbit(cells.detections.boxes_xyxy).any()


def test_edge_means_within_one_pixel_of_the_border() -> None:
    found = detections_of(
        (1.01, 1.01, 98.99, 78.99, 0.9, 0),
        (1, 10, 20, 20, 0.9, 0),
        (10, 1, 20, 20, 0.9, 0),
        (10, 30, 99, 40, 0.9, 0),
        (10, 50, 20, 79, 0.9, 0),
    )
    cells = cells_of(found)
    inside = cells.detections.boxes_xyxy[:, 2] == np.float32(98.99)
    np.testing.assert_array_equal(cells.edge, ~inside)
    kept = cells_of(found, "two-sides").detections.boxes_xyxy  # without the right and lower one
    assert sorted(kept[:, :2].tolist()) == sorted(
        np.array([[1.01, 1.01], [1, 10], [10, 1]], np.float32).tolist()
    )


def test_a_label_without_threshold_is_an_error() -> None:
    with pytest.raises(ValueError, match="labels run from 0 to 3, .* 3 classes"):
        cells_of(detections_of((1, 1, 9, 9, 1, 0), (1, 1, 9, 9, 1, 3)))


def test_no_detection_is_no_cell() -> None:
    cells = cells_of(Detections.empty())
    assert len(cells) == 0
    assert cells.edge.dtype == np.bool_
    assert count_by_class(cells, 3).tolist() == [0, 0, 0]


def test_counts_per_class() -> None:
    cells = cells_of(detections_of(*((5 * i, 5, 5 * i + 4, 9, 1, i % 2) for i in range(7))))
    counts = count_by_class(cells, 3)
    assert counts.tolist() == [4, 3, 0]
    assert counts.dtype == np.int64
    with pytest.raises(ValueError, match="a label is 1"):
        count_by_class(cells, 1)


coordinate = st.integers(0, 12)
rows = st.tuples(
    coordinate, coordinate, coordinate, coordinate, st.sampled_from([0.5, 0.9]), st.integers(0, 2)
)


@settings(deadline=None)
@given(st.lists(rows, max_size=12), st.randoms(use_true_random=False))
def test_order_is_total_and_never_depends_on_the_input(found: list[Row], chance: Random) -> None:
    boxes = [(x, y, x + w, y + h, s, label) for x, y, w, h, s, label in found]
    first = cells_of(detections_of(*boxes)).detections
    chance.shuffle(boxes)
    second = cells_of(detections_of(*boxes)).detections
    keys = [
        (y, x, x_max, y_max, label, -score)
        for (x, y, x_max, y_max), label, score in zip(
            first.boxes_xyxy.tolist(), first.labels.tolist(), first.scores.tolist(), strict=True
        )
    ]
    assert keys == sorted(keys)
    for name in ("boxes_xyxy", "scores", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_reviewer_goes_before_the_classifier() -> None:
    boxes_xyxy = np.tile(np.array([0, 0, 5, 5], np.float32), (4, 1))
    found = Detections(boxes_xyxy, np.ones(4, np.float32), np.zeros(4, np.int64))
    said = CellTypes(
        best=np.array([0, 1, -1, 0]),
        prob=np.array([0.9, 0.4, 0, 0.8], np.float32),
        second=np.array([1, 0, -1, 1]),
        second_prob=np.array([0.1, 0.3, 0, 0.2], np.float32),
        accepted=np.array([True, False, False, True]),
    )
    cells = Cells(found, np.zeros(4, np.bool_), said)
    named = {0: "blasts", 1: "neutrophil", 2: "lymphocyte", 3: "unclassified"}
    reviewed = {cell: Review(name, "A", "2026-01-01") for cell, name in named.items()}
    result = ImageResult(ImageRef(Path("a"), "a", "s"), "done", cells=cells, reviewed=reviewed)
    ids = ["neutrophil", "lymphocyte", "blasts"]
    final = with_reviews(result, ids).cells.types
    assert final is not None
    assert count_by_type(final, 3).tolist() == [1, 1, 1, 1]
    assert np.isnan(final.prob[:3]).all()
    assert (final.best[3], final.accepted[3]) == (0, False)
    assert said.best.tolist() == [0, 1, -1, 0]  # the model's own label is left as it is
    assert with_reviews(replace(result, reviewed={}), ids).cells.types is said
    with pytest.raises(ValueError, match="is not in list"):
        with_reviews(result, ids[:2])
