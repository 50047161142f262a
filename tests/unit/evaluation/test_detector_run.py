"""Evaluation as analyze would detect, with an engine that knows the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cellcount.core.records import LabelledImage
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detector_run import (
    RESIZES,
    detect_set,
    evaluate_detector,
    field_factor,
    robustness_variants,
    truth_of,
)
from cellcount.evaluation.perturbations import RED_CELL_SHIFTS, SHIFTS, Variant

if TYPE_CHECKING:
    from tests.unit.conftest import DiscEngine, DiscField

CLASSES = ("rbc", "wbc", "platelet")
THRESHOLDS = dict.fromkeys(CLASSES, 0.5)


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, disc_field: type[DiscField]
) -> list[LabelledImage]:
    folder = tmp_path_factory.mktemp("discs")
    made = []
    for number, diameters in enumerate([(60, 66), (36, 40), (120, 132)]):
        field = disc_field(640, 480, diameters=diameters, spacing=1.3, seed=number)
        path = folder / f"{number}.png"
        Image.fromarray(field.pixels).save(path)
        labels = tuple(CLASSES[i] for i in field.labels)
        # Sizes are not always stated, so evaluation takes them from the pixels.
        made.append(LabelledImage(path, field.boxes_xyxy, labels))
    return made


@pytest.fixture
def detector(disc_engine: type[DiscEngine]) -> FieldDetector:
    return FieldDetector(disc_engine(seen=(0.2, 4.0)))


def test_an_oracle_has_no_faults(images: list[LabelledImage], detector: FieldDetector) -> None:
    ticks: list[int] = []
    report = evaluate_detector(
        images, detector, thresholds=THRESHOLDS, on_image=lambda: ticks.append(1)
    )
    assert report.images == len(ticks) == 3
    assert report.crowded.ap50 == pytest.approx(1.0)
    assert report.crowded.ap75 == pytest.approx(1.0)
    assert (report.crowded.ap or 0) > 0.9, "the oracle is exact to a pixel"
    for scores in report.classes:
        assert (scores.precision, scores.recall) == (1.0, 1.0)
        assert scores.counting.mae == 0


@pytest.mark.parametrize("factor", RESIZES)
def test_resized_images_are_judged_at_their_own_size(
    images: list[LabelledImage], detector: FieldDetector, factor: float
) -> None:
    variant = Variant("resized", factor)
    report = evaluate_detector(images[:2], detector, thresholds=THRESHOLDS, variant=variant)
    assert report.crowded.ap50 == pytest.approx(1.0)
    assert report.all.counting.mae == 0


def test_micrometres_take_the_place_of_the_estimate(
    images: list[LabelledImage], detector: FieldDetector
) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    # Red cells of 7.5 µm are to have 64 px: 0.06 µm/px makes them 125 px, so half the size.
    assert field_factor(detector, pixels, 0.06) == pytest.approx(64 * 0.06 / 7.5)
    assert field_factor(detector, pixels, None) == 1.0, "nothing to measure"
    truths, found = detect_set(images[2:], detector, um_per_px=0.06)
    assert len(found[0]) == len(truths[0].boxes_xyxy)
    halved = Variant("half", 0.5)
    _, smaller = detect_set(images[2:], detector, variant=halved, um_per_px=0.06)
    np.testing.assert_allclose(
        np.sort(smaller[0].boxes_xyxy * 2, 0), np.sort(found[0].boxes_xyxy, 0), atol=6
    )


def test_a_photometric_change_reaches_the_detector(
    images: list[LabelledImage], detector: FieldDetector
) -> None:
    black = Variant("black", change=lambda pixels: np.zeros_like(pixels))
    report = evaluate_detector(images[:1], detector, thresholds=THRESHOLDS, variant=black)
    assert report.all.counting.counted == 0
    assert report.all.counting.true > 0


def test_the_suite_holds_original_sizes_and_shifts() -> None:
    names = [v.name for v in robustness_variants()]
    assert names == [
        "original",
        "0.4x size",
        "0.6x size",
        "1.5x size",
        "2.5x size",
        *SHIFTS,
        *RED_CELL_SHIFTS,
    ]
    pixels = np.full((20, 30, 3), 128, np.uint8)
    sizes = {v.name: v.apply(pixels).shape[:2] for v in robustness_variants()}
    assert sizes["0.4x size"] == (8, 12)
    assert sizes["2.5x size"] == (50, 75)
    assert sizes["dark"] == (20, 30)
    assert robustness_variants()[0].apply(pixels) is pixels


def test_truth_leaves_other_classes_out_and_scales_boxes() -> None:
    image = LabelledImage(
        Path("x.png"),
        np.array([[0, 0, 10, 10], [5, 5, 9, 9], [2, 4, 6, 8]], np.float32),
        ("rbc", "artefact", "platelet"),
    )
    truth = truth_of(image, CLASSES, (48, 64, 3), 0.5)
    assert truth.boxes_xyxy.tolist() == [[0, 0, 5, 5], [1, 2, 3, 4]]
    assert truth.labels.tolist() == [0, 2]
    assert (truth.width_px, truth.height_px) == (64, 48)
