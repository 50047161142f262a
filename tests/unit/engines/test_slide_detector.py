"""Slides: every cell once, wherever windows and tiles are cut, by an engine that knows the answer.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellcount.core.boxes import pairwise_iou
from cellcount.core.cells import cells_from_detections
from cellcount.core.records import ImageRef, Picture
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.crop_classifier import load_classifier
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.engines.slide_detector import detect_on_slide, is_empty
from cellcount.engines.source_detector import detect
from cellcount.images.colour_balance import measure_balance
from cellcount.images.source import Field
from cellcount.images.whole_slide import WholeSlide, open_whole_slide

Pixels = NDArray[np.uint8]
MAX_PIXELS = 400_000  # largest window
IN_A_LOOP = [HealthCheck.function_scoped_fixture]


def slide_of(folder: Path, pixels: Pixels, max_pixels: int = MAX_PIXELS) -> WholeSlide:
    path = folder / "slide.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128))
    slide = open_whole_slide(ImageRef(path, "a", "s"), max_pixels=max_pixels)
    assert slide is not None
    return slide


def same(one: Found, other: Found) -> None:
    for name in ("boxes_xyxy", "scores", "labels"):
        a, b = (getattr(found.detections, name) for found in (one, other))
        np.testing.assert_array_equal(a, b)
    assert one.capped == other.capped


@settings(max_examples=12, deadline=None, suppress_health_check=IN_A_LOOP)
@given(
    seed=st.integers(0, 10**6),
    tile_px=st.sampled_from([256, 320, 512]),
    window_px=st.sampled_from([1, 100_000, 330_000]),
    whole=st.booleans(),
)
def test_every_disc_is_found_once_whatever_the_windows(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
    seed: int,
    tile_px: int,
    window_px: int,
    whole: bool,
) -> None:
    """Discs lie on all seams; each is there once, whole and of its class."""
    field = disc_field(1100, 830, seed=seed, whole=whole)
    detector = FieldDetector(disc_engine(), tile_px)
    slide = slide_of(tmp_path, field.pixels)
    found = detect_on_slide(detector, slide, 1.0, None, window_px=window_px)
    same(found, detector.detect(field.pixels, 1.0))
    assert len(found.detections) == len(field.labels) > 60
    overlaps = pairwise_iou(field.boxes_xyxy, found.detections.boxes_xyxy)
    partner = overlaps.argmax(axis=1)
    assert len(set(partner.tolist())) == len(partner)
    assert (overlaps.max(axis=1) > 0.9).all()
    np.testing.assert_array_equal(found.detections.labels[partner], field.labels)


@pytest.mark.parametrize("factor", [0.37, 0.5, 0.911, 1.6])
def test_at_another_scale_windows_change_nothing(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
    factor: float,
) -> None:
    size = 64 / factor
    field = disc_field(1400, 1000, diameters=(0.9 * size, 1.1 * size))
    detector = FieldDetector(disc_engine(), 320)
    slide = slide_of(tmp_path, field.pixels, 1_300_000)
    found = [
        detect_on_slide(detector, slide, factor, None, window_px=window_px)
        for window_px in (1, 400_000, None)
    ]
    same(found[0], found[1])
    same(found[0], found[2])
    assert len(found[0].detections) == len(field.labels) > 20
    whole = detector.detect(field.pixels, factor)  # resized whole: a grey level apart at most
    assert len(whole.detections) == len(field.labels)


@pytest.mark.parametrize("factor", [0.7, 1.0])
def test_a_real_model_sees_on_a_slide_what_it_sees_on_the_field(
    tmp_path: Path,
    tiny_weights: Path,
    disc_field: Any,  # noqa: ANN401
    factor: float,
) -> None:
    """The weights are random, so any difference of the tiles' pixels would show."""
    engine = load_engine("torchvision", tiny_weights, EngineOptions("cpu"))
    field = disc_field(620, 460, diameters=(20, 30))
    balance = measure_balance(field.pixels, red_cell_hue=False)
    detector = FieldDetector(engine, 256)
    slide = slide_of(tmp_path, field.pixels, 200_000)
    found = [detect_on_slide(detector, slide, factor, balance, window_px=n) for n in (1, 150_000)]
    same(found[0], found[1])
    whole = detector.detect(field.pixels, factor)
    if factor == 1:
        same(found[0], whole)
    count, expected = len(found[0].detections), len(whole.detections)
    assert expected > 20
    assert abs(count - expected) <= 0.03 * expected


def test_an_image_is_detected_whole_where_it_is_held_and_by_windows_where_not(
    tmp_path: Path,
    tiny_weights: Path,
    disc_field: Any,  # noqa: ANN401
) -> None:
    """At 0.7 both ways differ by a grey level, which random weights show."""
    detector = FieldDetector(load_engine("torchvision", tiny_weights, EngineOptions("cpu")), 256)
    pixels = disc_field(620, 460, diameters=(20, 30)).pixels
    slide, shares = slide_of(tmp_path, pixels, 200_000), list[float]()
    by_windows = detect_on_slide(detector, slide, 0.7, slide.balance(red_cell_hue=False))
    same(detect(detector, slide, 0.7, shares.append), by_windows)
    assert shares
    whole, shares = detector.detect(pixels, 0.7), []
    same(detect(detector, Field(Picture(pixels)), 0.7, shares.append), whole)
    assert not shares
    assert not np.array_equal(whole.detections.scores, by_windows.detections.scores)


def test_empty_glass_costs_the_model_nothing(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((1200, 1600, 3), 235, np.uint8)
    pixels[:400, 1200:] = disc_field(400, 400).pixels
    noisy = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
    engine = disc_engine()
    detector = FieldDetector(engine, 320)
    found = detect_on_slide(detector, slide_of(tmp_path, noisy), 1.0, None)
    looked_at = sum(len(call) for call in engine.calls)
    assert 1 <= looked_at <= 16 < len(detector.tiles_for(1600, 1200)) / 5
    assert len(found.detections) == len(disc_field(400, 400).labels)


def test_the_palest_and_smallest_things_are_not_taken_for_glass() -> None:
    rng = np.random.default_rng(1)
    glass = np.clip(rng.normal(225, 4, (256, 256, 3)), 0, 255)
    y, x = np.mgrid[0:256, 0:256]
    glass *= 1 - 0.0004 * np.hypot(y, x)[..., None]  # vignette
    assert is_empty(glass.astype(np.uint8), 64)
    for radius, light in ((32, 0.88), (8, 0.7)):  # a ghost of a red cell, a small platelet
        spot = np.where(np.hypot(y - 100, x - 130) < radius, light, 1.0)[..., None]
        assert not is_empty((glass * spot).astype(np.uint8), 64)


@pytest.mark.parametrize("window_px", [90_000, 400_000])
def test_cells_of_a_slide_have_the_types_they_have_on_the_field(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
    colour_weights: Path,
    classifier_plugins: Path,
    window_px: int,
) -> None:
    options = EngineOptions("cpu", "fp32", plugin_folder=classifier_plugins)
    typer = CellTyper(load_classifier(colour_weights, options), disc_engine().card)
    field = disc_field(1100, 830)
    found = FieldDetector(disc_engine()).detect(field.pixels, 1.0)
    cells = cells_from_detections(
        found.detections, 1100, 830, thresholds=np.full(3, 0.5, np.float32), edge_rule="all"
    )
    slide = slide_of(tmp_path, field.pixels, window_px)
    on_slide, on_field = (
        typer.type_cells(source, cells, 1.0) for source in (slide, Field(Picture(field.pixels)))
    )
    for name in ("best", "second", "accepted"):
        np.testing.assert_array_equal(getattr(on_slide, name), getattr(on_field, name))
    np.testing.assert_allclose(on_slide.prob, on_field.prob, atol=1e-3)
    assert (on_slide.best >= 0).sum() > 40


def test_a_stop_comes_between_windows(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    engine, windows, shares = disc_engine(), [], []

    def tell(share: float) -> None:
        windows.append(len(engine.calls))
        shares.append(share)
        if len(windows) == 3:
            raise KeyboardInterrupt

    slide = slide_of(tmp_path, disc_field(1100, 830).pixels)
    with pytest.raises(KeyboardInterrupt):
        detect_on_slide(FieldDetector(engine, 256), slide, 1.0, None, window_px=1, tell=tell)
    assert windows == [0, 1, 2]
    tiles = len(FieldDetector(engine, 256).tiles_for(1100, 830))
    assert shares == [0, 1 / tiles, 2 / tiles]
