"""Box arithmetic against loops, hand-computed figures and torchvision."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellcount.core import boxes
from cellcount.core.nms import nms

Boxes = NDArray[np.float32]


def random_boxes(seed: int, count: int, field_px: float, least: float, most: float) -> Boxes:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, field_px, (count, 2))
    sides = rng.uniform(least, most, (count, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


def loop_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width) * float(height)
    areas = [float(x[2] - x[0]) * float(x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


def loop_nms(boxes_xyxy: Boxes, scores: NDArray[np.float32], threshold: float) -> list[int]:
    def rank(i: int) -> tuple[float, ...]:
        x_min, y_min, x_max, y_max = boxes_xyxy[i].tolist()
        return (-float(scores[i]), y_min, x_min, y_max, x_max, i)

    kept: list[int] = []
    for i in sorted(range(len(boxes_xyxy)), key=rank):
        if all(loop_iou(boxes_xyxy[i], boxes_xyxy[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def test_area_of_known_boxes() -> None:
    known = np.array([[1, 2, 4, 8], [5, 5, 5, 9], [3, 3, 1, 5]], np.float32)
    assert boxes.area(known).tolist() == [18, 0, 0]
    assert boxes.area(known).dtype == np.float32


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], np.float32)
    np.testing.assert_allclose(boxes.pairwise_iou(a, b), [[1, 50 / 150, 0, 4 / 100]], rtol=1e-6)


def test_iou_agrees_with_torchvision() -> None:
    a, b = random_boxes(0, 60, 200, 5, 90), random_boxes(1, 40, 200, 5, 90)
    expected = torchvision.ops.box_iou(torch.tensor(a), torch.tensor(b)).numpy()
    actual = boxes.pairwise_iou(a, b)
    assert actual.shape == (60, 40)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert boxes.pairwise_iou(point, point).tolist() == [[0]]


def test_nothing_in_nothing_out() -> None:
    none = np.zeros((0, 4), np.float32)
    one = np.array([[0, 0, 1, 1]], np.float32)
    assert boxes.area(none).shape == (0,)
    assert boxes.pairwise_iou(none, one).shape == (0, 1)
    assert boxes.clip(none, 5, 5).shape == (0, 4)
    assert boxes.touches_border(none, 5, 5, 1).shape == (0,)
    assert nms(none, np.zeros(0, np.float32), 0.5).shape == (0,)


def test_clip_cuts_to_the_image_and_leaves_the_rest() -> None:
    outside = np.array([[-3, 4, 120, 90], [10, 10, 20, 20], [-9, -9, -2, -2]], np.float32)
    assert boxes.clip(outside, 100, 80).tolist() == [
        [0, 4, 100, 80],
        [10, 10, 20, 20],
        [0, 0, 0, 0],
    ]


def test_touches_each_border() -> None:
    near = np.array(
        [[2, 30, 9, 40], [30, 2, 40, 9], [90, 30, 98, 40], [30, 70, 40, 78], [3, 3, 97, 77]],
        np.float32,
    )
    assert boxes.touches_border(near, 100, 80, 2).tolist() == [True] * 4 + [False]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 60),
    field_px=st.sampled_from([1.0, 60.0, 300.0]),
    most=st.sampled_from([6.0, 40.0, 900.0]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95, 1.0]),
    levels=st.sampled_from([1, 3, 10**6]),
    grid_px=st.sampled_from([0.001, 5.0]),
)
def test_nms_agrees_with_a_loop(
    seed: int,
    count: int,
    field_px: float,
    most: float,
    threshold: float,
    levels: int,
    grid_px: float,
) -> None:
    """Few score levels and a coarse grid make many ties; sizes cross the octaves."""
    found = np.round(random_boxes(seed, count, field_px, 1, most) / grid_px) * np.float32(grid_px)
    scores = np.random.default_rng(seed).integers(0, levels, count).astype(np.float32)
    assert nms(found, scores, threshold).tolist() == loop_nms(found, scores, threshold)


@pytest.mark.parametrize(("most", "threshold"), [(60, 0.3), (60, 0.8), (1500, 0.5)])
def test_nms_agrees_with_torchvision_over_several_blocks(most: float, threshold: float) -> None:
    found = random_boxes(3, 7000, 1500, 4, most)
    scores = np.random.default_rng(4).permutation(7000).astype(np.float32)
    expected = torchvision.ops.nms(torch.tensor(found), torch.tensor(scores), threshold)
    assert nms(found, scores, threshold).tolist() == expected.tolist()


def test_nms_breaks_ties_by_place_not_by_input_order() -> None:
    found = np.array([[2, 5, 22, 25], [3, 4, 23, 24], [1, 5, 21, 25]], np.float32)
    equal = np.full(3, 0.5, np.float32)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        kept = nms(found[order], equal, 0.5)
        assert found[order][kept].tolist() == [[3, 4, 23, 24]]  # the smallest y_min


def test_nms_keeps_boxes_at_the_threshold_exactly() -> None:
    half = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 0.5
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(half, scores, 0.5).tolist() == [0, 1]
    assert nms(half, scores, 0.499).tolist() == [0]


def test_nms_uses_the_other_threshold_between_sources() -> None:
    pair = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32)  # IoU 0.6
    scores = np.array([0.9, 0.8], np.float32)

    def kept(*tiles: int) -> int:
        sources = np.array(tiles)
        return len(nms(pair, scores, 0.7, sources=sources, other_source_threshold=0.5))

    assert kept(4, 4) == 2
    assert kept(4, 7) == 1


def test_nms_keeps_boxes_without_area() -> None:
    points = np.array([[3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9]], np.float32)
    assert len(nms(points, np.ones(3, np.float32), 0.5)) == 3


def test_nms_refuses_what_it_cannot_decide() -> None:
    one, score = np.array([[0, 0, 1, 1]], np.float32), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"from 0 to 1, got \(1.5"):
        nms(one, score, 1.5)
    with pytest.raises(ValueError, match="must be finite"):
        nms(one * np.nan, score, 0.5)


def test_fifty_thousand_boxes_in_a_second() -> None:
    """10,000 cells on a lattice, each found five times a little off: the best of each stays."""
    rng = np.random.default_rng(5)
    places = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 60
    corners = np.repeat(np.concatenate([places, places + 80], axis=1), 5, axis=0)
    found = (corners + rng.uniform(-3, 3, corners.shape)).astype(np.float32)
    scores = rng.permutation(50_000).astype(np.float32)
    start = time.process_time()
    kept = nms(found, scores, 0.5)
    elapsed = time.process_time() - start
    best = scores.reshape(-1, 5).argmax(axis=1) + 5 * np.arange(10_000)
    assert sorted(kept.tolist()) == best.tolist()
    assert elapsed < 3  # 0.4 s on a free core


def test_memory_grows_with_the_boxes_not_with_their_pairs() -> None:
    found = random_boxes(7, 20_000, 1.0, 60, 90)  # 200 million overlapping pairs
    scores = np.random.default_rng(8).permutation(20_000).astype(np.float32)
    tracemalloc.start()
    try:
        kept = nms(found, scores, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected = torchvision.ops.nms(torch.tensor(found), torch.tensor(scores), 0.5)
    assert kept.tolist() == expected.tolist()
    assert peak < 200e6  # every pair would be 1.6 GB and more
