"""Whole fields through an engine that knows the answer: scale, tiles, merge, white balance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.models.weights import read_card, resolve
from cellcount.rendering.field import FieldSpec, render_field

if TYPE_CHECKING:
    from tests.unit.conftest import DiscEngine, DiscField


def matched(found: Detections, field: DiscField) -> int:
    """Number of true discs found with their class at IoU 0.85."""
    iou = pairwise_iou(field.boxes_xyxy, found.boxes_xyxy)
    same = field.labels[:, None] == found.labels[None]
    return int(((iou >= 0.85) & same).any(axis=1).sum())


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.7])
def test_boxes_come_back_in_original_pixels(
    disc_engine: type[DiscEngine], disc_field: type[DiscField], factor: float
) -> None:
    field = disc_field(501, 377)
    found = FieldDetector(disc_engine()).detect(field.pixels, factor).detections
    assert len(found) == len(field.labels) == matched(found, field)
    assert found.boxes_xyxy[:, 2].max() <= 501
    assert found.boxes_xyxy[:, 3].max() <= 377
    np.testing.assert_array_less(
        np.abs(np.sort(found.boxes_xyxy, 0) - np.sort(field.boxes_xyxy, 0)).max(), 2.0 / factor + 1
    )


@pytest.mark.parametrize("tile_px", [256, 320, 512, 2048])
def test_tile_size_never_changes_a_count(
    disc_engine: type[DiscEngine], disc_field: type[DiscField], tile_px: int
) -> None:
    field = disc_field(1301, 905, whole=False, diameters=(30, 78))
    engine = disc_engine()
    found = FieldDetector(engine, tile_px).detect(field.pixels, 1.0).detections
    np.testing.assert_array_equal(
        np.bincount(found.labels, minlength=3), np.bincount(field.labels, minlength=3)
    )
    assert matched(found, field) == len(field.labels)
    shapes = engine.calls[0]
    padded = {tuple(-(-side // 32) for side in shape[:2]) for shape in shapes}
    assert len(padded) == 1, "all tiles of a field share their batches"
    assert max(max(shape[:2]) for shape in shapes) <= tile_px


def test_a_real_model_gives_the_same_boxes_and_scores_in_tiles_of_any_size() -> None:
    """Tiles off the grid of its strides would move scores by hundredths and boxes by pixels."""
    options = EngineOptions("cpu", "fp32")
    engine = load_engine("torchvision", resolve("blood"), options)
    spec = FieldSpec(900, 300, 3, engine.card.rbc_diameter_px, 0.4, n_wbc=2)
    pixels = render_field(spec).pixels
    found = [FieldDetector(engine, side).detect(pixels, 1.0).detections for side in (768, 640)]
    counted = [cells[cells.scores > 0.7] for cells in found]
    assert len(counted[0]) == len(counted[1]) > 40
    same = pairwise_iou(counted[0].boxes_xyxy, counted[1].boxes_xyxy).argmax(axis=1)
    other = counted[1][same]
    np.testing.assert_allclose(counted[0].scores, other.scores, atol=2e-3)
    off_px = np.abs(counted[0].boxes_xyxy - other.boxes_xyxy).max(axis=1)
    assert np.median(off_px) < 0.05


def test_a_slide_is_computed_little_more_than_twice(disc_engine: type[DiscEngine]) -> None:
    """The margin is one of cells at the model's scale, not of a fixed number of pixels."""
    detector = FieldDetector(disc_engine(read_card(resolve("blood"))))
    side = 30_000  # 40,000 px with red cells of 64 px
    computed = sum(tile.width * tile.height for tile in detector.tiles_for(side, side))
    assert computed / side**2 < 2.4


def test_best_score_first(disc_engine: type[DiscEngine], disc_field: type[DiscField]) -> None:
    field = disc_field(1500, 900)
    scores = FieldDetector(disc_engine()).detect(field.pixels, 1.0).detections.scores
    assert (np.diff(scores) <= 0).all()


def test_white_balance_follows_the_card(
    disc_engine: type[DiscEngine], disc_field: type[DiscField]
) -> None:
    field = disc_field(400, 300)
    yellow = (field.pixels * np.array([0.9, 0.8, 0.4])).astype(np.uint8)
    engine = disc_engine()
    assert matched(FieldDetector(engine).detect(yellow, 1.0).detections, field) < len(field.labels)
    card = dataclasses.replace(
        engine.card,
        preprocessing=dataclasses.replace(engine.card.preprocessing, white_balance=True),
    )
    found = FieldDetector(disc_engine(card)).detect(yellow, 1.0).detections
    assert matched(found, field) == len(field.labels)


def test_an_empty_field_and_the_smallest_one(disc_engine: type[DiscEngine]) -> None:
    detector = FieldDetector(disc_engine())
    for size in ((1, 1), (300, 7), (900, 1400)):
        found = detector.detect(np.full((*size, 3), 235, np.uint8), 1.0)
        assert len(found.detections) == 0
        assert not found.capped


@pytest.mark.parametrize(("threshold", "capped"), [(0.5, True), (0.995, False)])
def test_the_cap_is_told_where_it_may_have_cost_a_cell(
    disc_engine: type[DiscEngine], disc_field: type[DiscField], threshold: float, capped: bool
) -> None:
    field = disc_field(500, 400)
    card = disc_engine().card
    tight = dataclasses.replace(
        card,
        inference=dataclasses.replace(card.inference, max_detections=len(field.labels)),
        thresholds={c.id: threshold for c in card.classes},
    )
    assert FieldDetector(disc_engine(tight)).detect(field.pixels, 1.0).capped is capped
    assert not FieldDetector(disc_engine(card)).detect(field.pixels, 1.0).capped
