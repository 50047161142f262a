"""Tiles cover the field, their cores partition it, their margins are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount.core.tiles import Tile, split
from cellcount.errors import UsageError


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    tile=st.integers(20, 120),
    margin=st.integers(0, 5),
    grid=st.sampled_from([1, 8, 10]),
)
def test_cores_partition_and_margins_hold(
    width: int, height: int, tile: int, margin: int, grid: int
) -> None:
    tiles = split(width, height, tile_px=tile, margin_px=margin, grid_px=grid)
    owners = np.zeros((height, width), int)
    for part in tiles:
        x0, y0, x1, y1 = part.core
        owners[y0:y1, x0:x1] += 1
        right, lower = part.x + part.width, part.y + part.height
        assert part.width == min(width, tile) or (right == width and tile - part.width < grid)
        assert part.height == min(height, tile) or (lower == height and tile - part.height < grid)
        assert part.x % grid == 0
        assert part.y % grid == 0
        assert part.x >= 0
        assert part.y >= 0
        assert right <= width
        assert lower <= height
        assert part.x == 0 or x0 - part.x >= margin
        assert part.y == 0 or y0 - part.y >= margin
        assert right == width or right - x1 >= margin
        assert lower == height or lower - y1 >= margin
    assert (owners == 1).all()
    assert list(tiles) == sorted(tiles, key=lambda part: (part.y, part.x))


def test_a_field_that_fits_is_one_tile_of_its_size() -> None:
    assert split(640, 480, tile_px=640, margin_px=500) == (Tile(0, 0, 640, 480, (0, 0, 640, 480)),)


def test_a_known_grid() -> None:
    """1000 = 400 + 3 steps of 200: four columns; 300 is less than a tile: one row."""
    tiles = split(1000, 300, tile_px=400, margin_px=100)
    assert tiles == (
        Tile(0, 0, 400, 300, (0, 0, 300, 300)),
        Tile(200, 0, 400, 300, (300, 0, 500, 300)),
        Tile(400, 0, 400, 300, (500, 0, 700, 300)),
        Tile(600, 0, 400, 300, (700, 0, 1000, 300)),
    )


def test_tiles_begin_on_the_grid_and_the_last_ends_with_the_field() -> None:
    """The last tile is 19 steps of the grid away; two neighbours may be 6 steps apart."""
    starts = [(t.x, t.width) for t in split(995, 300, tile_px=400, margin_px=100, grid_px=32)]
    assert starts == [(0, 400), (128, 400), (288, 400), (448, 400), (608, 387)]


def test_no_more_tiles_than_needed() -> None:
    assert len(split(1001, 300, tile_px=400, margin_px=100)) == 5
    assert len(split(600, 300, tile_px=400, margin_px=100)) == 2
    assert len(split(401, 401, tile_px=400, margin_px=100)) == 4


def test_margins_that_leave_no_core_are_refused_only_where_tiles_are_needed() -> None:
    with pytest.raises(UsageError, match=r"a tile of 400 px with a margin of 200 px .* no core"):
        split(401, 100, tile_px=400, margin_px=200)
    assert len(split(400, 100, tile_px=400, margin_px=200)) == 1
    with pytest.raises(UsageError, match="no core of 64 px left; use tiles of 464 px or more"):
        split(401, 100, tile_px=400, margin_px=200, grid_px=64)


@pytest.mark.parametrize("wrong", [(0, 5, 9, 1), (5, -1, 9, 1), (5, 5, 0, 1), (5, 5, 9, -1)])
def test_impossible_sizes_are_refused(wrong: tuple[int, int, int, int]) -> None:
    width, height, tile, margin = wrong
    with pytest.raises(ValueError, match="1 or more"):
        split(width, height, tile_px=tile, margin_px=margin)


def test_the_core_is_half_open_and_grows_by_the_tolerance() -> None:
    tile = Tile(0, 0, 60, 60, (0, 0, 50, 50))
    centres = np.array([[0, 0], [49.9, 49.9], [50, 10], [53.9, 10], [54, 10], [10, 53.9]])
    assert tile.owns(centres).tolist() == [True, True, False, False, False, False]
    assert tile.owns(centres, 4).tolist() == [True, True, True, True, False, True]
