"""Every look of a detector at a field is in the colours that its card states."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import Detections, ImageRef
from cellcount.engines.field_colours import balance_of, in_model_colours
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.red_cells import red_cell_diameter_px
from cellcount.engines.source_detector import detect
from cellcount.images.colour_balance import measure_balance
from cellcount.images.source import Source
from cellcount.images.whole_slide import open_whole_slide
from cellcount.models.detector_card import Preprocessing

if TYPE_CHECKING:
    from tests.unit.conftest import DiscEngine

Pixels = NDArray[np.uint8]
COLOURS = [
    Preprocessing(white_balance=False),
    Preprocessing(),
    Preprocessing(red_cell_hue=True),
]


def expected(pixels: Pixels, before: Preprocessing) -> Pixels:
    if not before.white_balance:
        return pixels
    return measure_balance(pixels, red_cell_hue=before.red_cell_hue).apply(pixels)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Greenish grey cells under yellow light."""
    field = np.full((300, 320, 3), (230, 210, 150), np.uint8)
    for y in range(40, 300, 90):
        for x in range(40, 320, 90):
            field[y - 25 : y + 25, x - 25 : x + 25] = (160, 165, 115)
    return field


def watched(engine: Any) -> list[Pixels]:  # noqa: ANN401 -- a fixture's class
    """The tiles that an engine is shown from now on."""
    seen: list[Pixels] = []

    def look(tiles: list[Pixels]) -> list[Detections]:
        seen.extend(tiles)
        return [engine.find(tile) for tile in tiles]

    engine.detect = look
    return seen


@pytest.mark.parametrize("before", COLOURS)
def test_fields_scale_and_slides_are_seen_as_the_card_says(
    pixels: Pixels, before: Preprocessing, disc_engine: type[DiscEngine], tmp_path: Path
) -> None:
    engine = disc_engine(dataclasses.replace(disc_engine().card, preprocessing=before))
    seen = watched(engine)
    FieldDetector(engine).detect(pixels, 1.0)
    np.testing.assert_array_equal(seen[-1], expected(pixels, before))
    cell = np.s_[20:60, 20:60]  # a part without glass has no balance of its own
    np.testing.assert_array_equal(
        in_model_colours(pixels[cell], pixels, before), expected(pixels, before)[cell]
    )
    seen.clear()
    red_cell_diameter_px(engine, pixels)
    np.testing.assert_array_equal(seen[0], expected(pixels, before))
    seen.clear()
    whole = np.tile(pixels, (2, 2, 1))
    tifffile.imwrite(tmp_path / "a.tif", whole, photometric="rgb", tile=(128, 128))
    slide: Source | None = open_whole_slide(
        ImageRef(tmp_path / "a.tif", "a", "s"), max_pixels=300_000
    )
    assert slide is not None
    detect(FieldDetector(engine), slide, 1.0)
    height, width = seen[0].shape[:2]
    balance = balance_of(slide, before)
    own = whole if balance is None else balance.apply(whole)
    np.testing.assert_array_equal(seen[0], own[:height, :width])
    np.testing.assert_allclose(  # measured on spots, so that a step or two may differ
        own.astype(int), expected(whole, before).astype(int), atol=6
    )
