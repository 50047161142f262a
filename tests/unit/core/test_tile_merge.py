"""Every cell is counted once, whatever the tiles."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellcount.core import boxes
from cellcount.core.records import Detections
from cellcount.core.tile_merge import merge
from cellcount.core.tiles import Tile, split

if TYPE_CHECKING:
    Oracle = Any  # tests/unit/core/conftest.py
    Field = Any

LARGEST = 60
TILE_SIZES = st.sampled_from([160, 192, 256, 300, 512, 4096])


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
    )


def analyse(
    oracle: Oracle,
    field: Field,
    tiles: tuple[Tile, ...],
    *,
    seed: int,
    least_share: float = 0.3,
    jitter_px: float = 2,
    confused: float = 0.0,
) -> Detections:
    rng = np.random.default_rng(seed)
    parts = [
        (
            tile,
            oracle.see(
                rng,
                field,
                tile,
                least_share=least_share,
                jitter_px=jitter_px,
                confused=confused,
            ),
        )
        for tile in tiles
    ]
    order = rng.permutation(len(parts))
    return merge([parts[i] for i in order], width_px=field.width_px, height_px=field.height_px)


def assert_each_disc_once(field: Field, found: Detections, *, classes: bool = True) -> None:
    overlaps = boxes.pairwise_iou(field.boxes_xyxy, found.boxes_xyxy)
    assert len(found) == len(field.labels)
    if len(found) == 0:
        return
    partner = overlaps.argmax(axis=1)
    assert len(set(partner.tolist())) == len(found)  # one to one
    assert (overlaps.max(axis=1) > 0.5).all()  # whole, not a fragment
    if classes:
        assert (found.labels[partner] == field.labels).all()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(90, 700),
    height=st.integers(90, 700),
    tile_px=TILE_SIZES,
    extra_margin=st.integers(0, 18),
    least_share=st.floats(0.05, 0.95),
    smallest=st.sampled_from([24, LARGEST]),
    jitter_px=st.floats(0, 2),
)
def test_crowded_discs_are_counted_once(
    oracle: Oracle,
    seed: int,
    width: int,
    height: int,
    tile_px: int,
    extra_margin: int,
    least_share: float,
    smallest: int,
    jitter_px: float,
) -> None:
    """Any tile size, order of tiles and jitter; discs overlap, some as large as the margin."""
    rng = np.random.default_rng(seed)
    wanted = rng.uniform([0, 0], [width, height], (250, 2))
    field = oracle.discs(
        rng, width, height, wanted=wanted, diameters=(smallest, LARGEST), closeness=0.65
    )
    tiles = split(width, height, tile_px=tile_px, margin_px=LARGEST + extra_margin)
    found = analyse(oracle, field, tiles, seed=seed, least_share=least_share, jitter_px=jitter_px)
    assert_each_disc_once(field, found)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dx=st.integers(0, 200),
    dy=st.integers(0, 200),
    right=st.integers(0, 200),
    lower=st.integers(0, 200),
    tile_px=TILE_SIZES,
)
def test_the_same_discs_elsewhere_on_the_field(
    oracle: Oracle, seed: int, dx: int, dy: int, right: int, lower: int, tile_px: int
) -> None:
    rng = np.random.default_rng(seed)
    field = oracle.discs(
        rng,
        400,
        400,
        wanted=rng.uniform(0, 400, (150, 2)),
        diameters=(24, LARGEST),
        closeness=0.65,
    ).moved(dx, dy, right=right, lower=lower)
    tiles = split(field.width_px, field.height_px, tile_px=tile_px, margin_px=LARGEST)
    assert_each_disc_once(field, analyse(oracle, field, tiles, seed=seed))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    off_px=st.floats(-2, 2),
    tile_px=st.sampled_from([200, 256, 300]),
    diameter=st.sampled_from([24, 40, LARGEST]),
)
def test_discs_right_on_the_seams(
    oracle: Oracle, seed: int, off_px: float, tile_px: int, diameter: int
) -> None:
    """Centres on the lines and corners where cores meet, where two to four tiles may claim."""
    rng = np.random.default_rng(seed)
    tiles = split(640, 560, tile_px=tile_px, margin_px=LARGEST)
    seams_x = sorted({tile.core[0] for tile in tiles} - {0})
    seams_y = sorted({tile.core[1] for tile in tiles} - {0})
    on_x = [(x, y) for x in seams_x for y in rng.uniform(0, 560, 12)]
    on_y = [(x, y) for y in seams_y for x in rng.uniform(0, 640, 12)]
    corners = [(x, y) for x in seams_x for y in seams_y]
    wanted = np.array([*corners, *on_x, *on_y], np.float64) + off_px
    field = oracle.discs(
        rng, 640, 560, wanted=wanted, diameters=(diameter, diameter), closeness=0.8
    )
    assert len(field.labels) >= len(corners)
    assert_each_disc_once(field, analyse(oracle, field, tiles, seed=seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tile_px=TILE_SIZES)
def test_tiles_that_disagree_about_the_class_do_not_count_twice(
    oracle: Oracle, seed: int, tile_px: int
) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(0, 600, (150, 2))
    field = oracle.discs(rng, 600, 600, wanted=wanted, diameters=(30, LARGEST), closeness=0.8)
    tiles = split(600, 600, tile_px=tile_px, margin_px=LARGEST)
    found = analyse(oracle, field, tiles, seed=seed, confused=0.5)
    assert_each_disc_once(field, found, classes=False)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6), levels=st.sampled_from([1, 4]))
def test_the_order_of_tiles_changes_nothing(data: st.DataObject, seed: int, levels: int) -> None:
    """Not even with equal scores, repeated boxes and contradicting classes."""
    rng = np.random.default_rng(seed)
    parts = []
    for tile in split(300, 300, tile_px=160, margin_px=40):
        start = rng.integers(0, 14, (60, 2)) * 10
        corners = np.concatenate([start, start + rng.integers(2, 6, (60, 2)) * 10], axis=1)
        scores = rng.integers(1, levels + 1, 60).astype(np.float32) / np.float32(levels)
        found = Detections(corners.astype(np.float32), scores, rng.integers(0, 3, 60))
        parts.append((tile, found))
    shuffled = [
        (tile, found[np.array(data.draw(st.permutations(range(60))))])
        for tile, found in data.draw(st.permutations(parts))
    ]
    a = merge(parts, width_px=300, height_px=300, tolerance_px=15)
    b = merge(shuffled, width_px=300, height_px=300, tolerance_px=15)
    np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.labels, b.labels)


def two_tiles() -> tuple[Tile, Tile]:
    left, right = split(300, 100, tile_px=200, margin_px=40)
    assert (left.core, right.core) == ((0, 0, 150, 100), (150, 0, 300, 100))
    assert right.x == 100
    return left, right


def test_a_cell_that_each_tile_assigns_to_the_other_is_kept_once() -> None:
    left, right = two_tiles()
    parts = [
        (left, detections((132, 40, 172, 80, 0.8, 0))),  # centre x 152: in the right core
        (right, detections((28, 40, 68, 80, 0.9, 0))),  # centre x 148: in the left core
    ]
    found = merge(parts, width_px=300, height_px=100)
    assert found.boxes_xyxy.tolist() == [[128, 40, 168, 80]]
    assert found.scores.tolist() == [np.float32(0.9)]
    assert len(merge(parts, width_px=300, height_px=100, tolerance_px=0)) == 0


def test_equal_copies_are_decided_by_tile_not_by_order() -> None:
    """The copy that stays decides whether the overlapping third is of the same tile."""
    left, right = two_tiles()
    first = (left, detections((130, 10, 170, 50, 0.9, 0), (130, 20, 170, 60, 0.5, 0)))
    second = (right, detections((30, 10, 70, 50, 0.9, 0)))
    for parts in ([first, second], [second, first]):
        assert len(merge(parts, width_px=300, height_px=100)) == 2


def test_a_cell_seen_by_one_tile_stays_with_its_owner() -> None:
    left, right = two_tiles()
    mine, other = detections((120, 10, 160, 50, 0.9, 1)), detections((20, 10, 60, 50, 0.9, 1))
    assert len(merge([(left, mine)], width_px=300, height_px=100)) == 1
    assert len(merge([(right, other)], width_px=300, height_px=100)) == 0


def test_a_cut_cell_within_the_tolerance_is_left_to_its_owner() -> None:
    left, right = two_tiles()
    cut = detections((96, 10, 200, 90, 0.9, 0))  # centre x 148: owned, though cut at x = 200
    fragment = detections((0, 10, 98, 90, 0.9, 0))  # centre x 149 in the field, cut at x = 100
    assert len(merge([(left, cut)], width_px=300, height_px=100)) == 1
    assert len(merge([(right, fragment)], width_px=300, height_px=100)) == 0


def test_a_cell_at_the_edge_of_the_field_is_not_cut_by_a_tile() -> None:
    left, right = two_tiles()
    edge = detections((0, 0, 20, 20, 0.9, 0))
    assert len(merge([(left, edge)], width_px=300, height_px=100)) == 1
    lower_right = detections((180, 80, 200, 100, 0.9, 0))
    found = merge([(right, lower_right)], width_px=300, height_px=100)
    assert found.boxes_xyxy.tolist() == [[280, 80, 300, 100]]


@pytest.mark.parametrize("box", [(132, 0, 172, 40), (132, 60, 172, 100)])
def test_the_edge_of_the_field_does_not_cut_as_a_tile_does(box: tuple[int, ...]) -> None:
    """Within the tolerance of a seam and at the field's edge: a tile may claim it all the same."""
    left, _ = two_tiles()
    x_min, y_min, x_max, y_max = box
    across = detections((x_min, y_min, x_max, y_max, 0.9, 0))
    assert len(merge([(left, across)], width_px=300, height_px=100)) == 1
    upper = split(100, 300, tile_px=200, margin_px=40)[0]
    down = detections((y_min, x_min, y_max, x_max, 0.9, 0))
    assert len(merge([(upper, down)], width_px=100, height_px=300)) == 1


@pytest.mark.parametrize("second", [0, 1])
def test_one_cell_under_two_classes_is_counted_once(second: int) -> None:
    tile = split(100, 100, tile_px=100, margin_px=10)[0]
    found = detections((10, 10, 50, 50, 0.6, second), (11, 10, 50, 50, 0.9, 2))
    merged = merge([(tile, found)], width_px=100, height_px=100)
    assert merged.labels.tolist() == [2]


def test_a_single_tile_keeps_what_overlaps_less_than_the_threshold() -> None:
    tile = split(100, 100, tile_px=100, margin_px=10)[0]
    found = detections((10, 10, 50, 50, 0.9, 0), (10, 20, 50, 60, 0.8, 0))  # IoU 0.6
    assert len(merge([(tile, found)], width_px=100, height_px=100)) == 2
    assert len(merge([(tile, found)], width_px=100, height_px=100, iou_threshold=0.5)) == 1


def test_a_platelet_on_a_red_cell_stays() -> None:
    tile = split(100, 100, tile_px=100, margin_px=10)[0]
    found = detections((10, 10, 80, 80, 0.9, 1), (30, 30, 48, 48, 0.5, 2))
    assert merge([(tile, found)], width_px=100, height_px=100).labels.tolist() == [1, 2]


def test_boxes_are_cut_to_the_field_and_dropped_outside() -> None:
    tile = split(100, 80, tile_px=100, margin_px=10)[0]
    found = detections((-5, 10, 30, 90, 0.9, 0), (101, 10, 120, 30, 0.9, 0))
    merged = merge([(tile, found)], width_px=100, height_px=80)
    assert merged.boxes_xyxy.tolist() == [[0, 10, 30, 80]]


def test_nothing_found_is_nothing() -> None:
    tiles = split(300, 300, tile_px=160, margin_px=40)
    assert len(merge([], width_px=300, height_px=300)) == 0
    empty = merge([(tile, Detections.empty()) for tile in tiles], width_px=300, height_px=300)
    assert len(empty) == 0
    assert empty.boxes_xyxy.dtype == np.float32


def lattice(width: int, height: int, step: int) -> NDArray[np.float64]:
    xs, ys = np.meshgrid(np.arange(step, width - step, step), np.arange(step, height - step, step))
    return np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float64)


def test_fifty_thousand_cells_merge_in_a_second(oracle: Oracle) -> None:
    centres = lattice(14_000, 11_600, 56)
    field = oracle.discs(
        np.random.default_rng(0), 1, 1, wanted=centres[:0], diameters=(40, 40), closeness=1
    )
    corners = np.concatenate([centres - 30, centres + 30], axis=1)
    field = type(field)(14_000, 11_600, corners, np.arange(len(corners)) % 3)
    assert len(corners) > 50_000
    rng = np.random.default_rng(1)
    parts = [
        (tile, oracle.see(rng, field, tile, least_share=0.3, jitter_px=2))
        for tile in split(14_000, 11_600, tile_px=1024, margin_px=64)
    ]
    start = time.process_time()
    found = merge(parts, width_px=14_000, height_px=11_600)
    elapsed = time.process_time() - start
    assert elapsed < 3  # 0.7 s on a free core
    assert len(found) == len(corners)
