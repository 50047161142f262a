"""The scale pass with an engine that knows the answer but only near its own scale."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.engines.red_cells import red_cell_diameter_px

if TYPE_CHECKING:
    from tests.unit.conftest import DiscEngine, DiscField

# Like a detector trained with scale jitter of 0.4 to 2.5.
SEEN = (0.35, 2.7)
SIZES = [(800, 640), (1600, 1200), (2800, 2100)]


@pytest.mark.parametrize("diameter", [20, 32, 51, 74, 100, 129, 200, 300])
@pytest.mark.parametrize("size", SIZES)
def test_the_diameter_is_measured(
    disc_engine: type[DiscEngine],
    disc_field: type[DiscField],
    diameter: float,
    size: tuple[int, int],
) -> None:
    if diameter > 200 and size == SIZES[0]:
        pytest.skip("three whole cells do not fit into this field")
    patch = disc_field(960, 960, diameters=(diameter, diameter), kinds=1, spacing=1.5).pixels
    pixels = np.tile(patch, (3, 4, 1))[: size[1], : size[0]]
    engine = disc_engine(seen=SEEN)
    measured = red_cell_diameter_px(engine, pixels)
    assert measured == pytest.approx(diameter, rel=0.06)
    assert max(max(shape) for call in engine.calls for shape in call) <= 481, "views stay small"


def test_what_is_as_small_as_a_block_of_jpeg_is_no_red_cell(
    disc_engine: type[DiscEngine], disc_field: type[DiscField]
) -> None:
    pixels = disc_field(480, 480, diameters=(14, 14), kinds=1, spacing=1.5).pixels
    assert red_cell_diameter_px(disc_engine(seen=SEEN), pixels) is None


def test_a_huge_field_is_looked_at_in_its_middle(
    disc_engine: type[DiscEngine], disc_field: type[DiscField]
) -> None:
    tile = disc_field(700, 700, diameters=(76, 76), kinds=1, spacing=1.5).pixels
    huge = np.tile(tile, (6, 9, 1))  # 6,300 x 4,200 px
    engine = disc_engine(seen=SEEN)
    assert red_cell_diameter_px(engine, huge) == pytest.approx(76, rel=0.06)
    assert sum(len(call) for call in engine.calls) <= 8


def test_only_whole_red_cells_count(
    disc_engine: type[DiscEngine], disc_field: type[DiscField]
) -> None:
    field = disc_field(320, 320, diameters=(64, 64), kinds=3, seed=4)
    field.pixels[:, :3] = (200, 90, 110)  # something red that the edge cuts
    assert red_cell_diameter_px(disc_engine(), field.pixels) == pytest.approx(64, abs=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (480, 640), (2500, 3000)])
def test_no_red_cells_is_none(disc_engine: type[DiscEngine], shape: tuple[int, int]) -> None:
    engine = disc_engine()
    assert red_cell_diameter_px(engine, np.full((*shape, 3), 235, np.uint8)) is None
    assert len(engine.calls) <= 5


def test_two_cells_are_too_few(disc_engine: type[DiscEngine], disc_field: type[DiscField]) -> None:
    field = disc_field(320, 240, diameters=(64, 64), kinds=1, count=2)
    assert red_cell_diameter_px(disc_engine(), field.pixels) is None


def test_a_detector_without_red_cells_measures_nothing(disc_engine: type[DiscEngine]) -> None:
    card = disc_engine().card
    card = dataclasses.replace(card, classes=card.classes[1:], thresholds={})
    assert red_cell_diameter_px(disc_engine(card), np.full((9, 9, 3), 235, np.uint8)) is None


def test_a_misled_engine_ends(disc_engine: type[DiscEngine]) -> None:
    """An engine that sees dots at every scale must not drive the zoom without end."""

    class Dots(disc_engine):  # type: ignore[misc,valid-type]  # the fixture is a class
        def find(self, tile: NDArray[np.uint8]) -> Detections:
            middle = max(4.0, min(tile.shape[:2]) / 2)
            boxes = np.array([[middle, middle, middle + 1, middle + 1]] * 3, np.float32)
            return Detections(boxes, np.ones(3, np.float32), np.zeros(3, np.int64))

    engine = Dots()
    assert red_cell_diameter_px(engine, np.full((300, 400, 3), 235, np.uint8)) is None
    assert len(engine.calls) <= 20
