"""Types of the cells of a field: cut from its own pixels, whatever scale the detector saw."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.records import Cells, CellTypes, Detections, Picture
from cellcount.engines.base import EngineOptions
from cellcount.engines.cell_typer import CellTyper, cell_types, field_crops
from cellcount.engines.classifier_input import prepare_picture
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.engines.type_map import type_map
from cellcount.errors import UsageError
from cellcount.images.source import Field
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.images.windows import Interpolation, surroundings, window
from cellcount.models.classifier_card import CropRule
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_card

FIELD = np.random.default_rng(8).integers(90, 220, (40, 50, 3), dtype=np.uint8).repeat(6, 0)
FIELD = FIELD.repeat(6, 1)  # 240 x 300 px, spots of 6 px


@pytest.fixture(scope="module")
def classifier(tiny_classifier: Path) -> CropClassifier:
    return load_classifier(tiny_classifier, EngineOptions("cpu", "fp32", 4))


@pytest.fixture(scope="module")
def detector(tiny_weights: Path) -> DetectorCard:
    """Finds rbc, wbc, platelet; its red cells are 24 px."""
    return read_card(tiny_weights)


def held(pixels: NDArray[np.uint8]) -> Field:
    return Field(Picture(pixels))


def cells_at(*centres: tuple[float, float], labels: list[int], side: float = 30) -> Cells:
    centre = np.array(centres, np.float32).reshape(-1, 2)
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    scores = np.full(len(labels), 0.9, np.float32)
    detections = Detections(boxes, scores, np.array(labels, np.int64))
    return Cells(detections, np.zeros(len(labels), np.bool_))


def changed(classifier: CropClassifier, **card: object) -> CropClassifier:
    other = copy.copy(classifier)
    other.card = dataclasses.replace(classifier.card, **card)  # type: ignore[arg-type]
    return other


def test_white_cells_alone_are_typed(classifier: CropClassifier, detector: DetectorCard) -> None:
    cells = cells_at((100, 90), (200, 120), (60, 60), (0, 0), labels=[1, 0, 1, 2])
    types = CellTyper(classifier, detector).type_cells(held(FIELD), cells, 1.0)
    assert (types.best >= 0).tolist() == [True, False, True, False]
    assert (types.second >= 0).tolist() == [True, False, True, False]
    assert types.prob[[1, 3]].tolist() == [0, 0]
    assert not types.accepted[[1, 3]].any()


@pytest.mark.parametrize("rbc_px", [16, 24, 48])
def test_a_cell_of_a_field_is_typed_as_its_own_picture(
    classifier: CropClassifier, detector: DetectorCard, rbc_px: int
) -> None:
    # The window of 3 red cells, cut out by slicing, is a picture of which the scale is known.
    x, y, half = 140, 110, 3 * rbc_px // 2
    as_it_is = dataclasses.replace(classifier.card.preprocessing, white_balance=False)
    plain = changed(classifier, preprocessing=as_it_is)
    picture = FIELD[y - half : y + half, x - half : x + half]
    expected = plain.probs([prepare_picture(picture, plain.card, rbc_px)])[0]
    cells = cells_at((x, y), labels=[1], side=17)
    typed = CellTyper(plain, detector).type_cells(
        held(FIELD), cells, detector.rbc_diameter_px / rbc_px
    )
    assert typed.best[0] == expected.argmax()
    assert typed.prob[0] == pytest.approx(expected.max(), abs=0.02)


def test_the_size_of_the_box_does_not_matter(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    typer = CellTyper(classifier, detector)
    small, large = (
        typer.type_cells(held(FIELD), cells_at((150, 100), labels=[1], side=side), 1.0)
        for side in (10, 80)
    )
    assert_same(small, large)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [7.3, 61.0, 250.0])
def test_a_window_has_the_white_balance_of_its_surroundings(
    classifier: CropClassifier, interpolation: Interpolation, side: float
) -> None:
    before = dataclasses.replace(
        classifier.card.preprocessing, interpolation=interpolation, input_px=(8, 12)
    )
    card = dataclasses.replace(classifier.card, preprocessing=before)
    centres = np.array([[4.5, 3], [150.2, 100.7], [FIELD.shape[1], FIELD.shape[0]]])
    boxes = np.concatenate([centres - 5, centres + 5], axis=1).astype(np.float32)
    for box, crop in zip(boxes, field_crops(FIELD, boxes, card, side), strict=True):
        place = ((float(box[0]) + float(box[2])) / 2, (float(box[1]) + float(box[3])) / 2)
        near, inside = surroundings(FIELD, place, side)
        assert max(near.shape[:2]) <= 1.5 * side + 18
        plain = window(near, inside, side, before.input_px, before.interpolation)
        whole = window(FIELD, place, side, before.input_px, before.interpolation)
        np.testing.assert_array_equal(plain, whole)
        around, _ = surroundings(FIELD, place, side, sides=2.0)
        white = apply_gains(FIELD, white_balance_gains(around))
        expected = window(white, place, side, before.input_px, before.interpolation)
        np.testing.assert_array_equal(crop, expected)


def test_the_lamp_is_taken_out_around_each_cell(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    cells = cells_at((150, 100), (60, 200), labels=[1, 1])
    field = FIELD.copy()
    field[::50] = field[:, ::50] = 235  # glass
    dim = (field * np.array([0.9, 0.8, 0.85])).round().astype(np.uint8)
    typer = CellTyper(classifier, detector)
    bright, dimmed = (
        typer.type_cells(held(field), cells, 1.0),
        typer.type_cells(held(dim), cells, 1.0),
    )
    assert np.allclose(bright.prob, dimmed.prob, atol=0.02)
    as_it_is = dataclasses.replace(classifier.card.preprocessing, white_balance=False)
    raw = CellTyper(changed(classifier, preprocessing=as_it_is), detector)
    assert not np.allclose(raw.type_cells(held(dim), cells, 1.0).prob, dimmed.prob, atol=0.02)


def test_the_contour_is_cropped_within_the_window(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    y, x = np.mgrid[:300, :300]
    field = np.full((300, 300, 3), 235, np.uint8)
    field[np.hypot(x - 150, y - 150) < 25] = (120, 40, 160)
    contour = changed(classifier, crop=CropRule(3.0, None, contour=True))
    # The box lies beside its cell; the contour brings the cell to the middle.
    typer = CellTyper(contour, detector)
    beside = typer.type_cells(held(field), cells_at((160, 143), labels=[1]), 0.5)
    centred = typer.type_cells(held(field), cells_at((150, 150), labels=[1]), 0.5)
    assert beside.best[0] == centred.best[0]
    assert beside.prob[0] == pytest.approx(centred.prob[0], abs=0.02)


def test_types_may_be_mapped(classifier: CropClassifier, detector: DetectorCard) -> None:
    mapped = CellTyper(classifier, detector, type_map(classifier.card, "pbc-8:wbc-5"))
    assert [t.id for t in mapped.types] == ["neutrophil", "lymphocyte"]
    cells = cells_at((150, 100), labels=[1])
    own = CellTyper(classifier, detector).type_cells(held(FIELD), cells, 1.0)
    types = mapped.type_cells(held(FIELD), cells, 1.0)
    assert types.best[0] in (0, 1)
    assert types.prob[0] <= own.prob[0]
    assert types.prob[0] + types.second_prob[0] < 1  # what was dropped is not shared out


def test_a_field_without_cells_has_no_types(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    assert len(CellTyper(classifier, detector).type_cells(held(FIELD), Cells.empty(), 1.0)) == 0


def test_a_classifier_of_whole_pictures_is_refused(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    with pytest.raises(UsageError, match="looks at whole pictures of single cells"):
        CellTyper(changed(classifier, crop=CropRule(0)), detector)


def test_a_detector_without_its_cells_is_refused(
    classifier: CropClassifier, detector: DetectorCard
) -> None:
    with pytest.raises(UsageError, match=r"types blast, but the detector .* finds rbc, wbc, plat"):
        CellTyper(changed(classifier, detector_classes=("blast",)), detector)


def test_the_best_two_and_the_threshold() -> None:
    probs = np.array([[0.2, 0.5, 0.3], [0.45, 0.1, 0.45], [0.9, 0.1, 0.0]], np.float32)
    types = cell_types(probs, np.array([True, True, False]), np.full(3, 0.5, np.float32))
    assert types.best.tolist() == [1, 0, -1]
    assert types.second.tolist() == [2, 2, -1]
    assert np.allclose(types.prob, [0.5, 0.45, 0])
    assert np.allclose(types.second_prob, [0.3, 0.45, 0])
    assert types.accepted.tolist() == [True, False, False]


def test_a_type_that_must_be_surer_is_counted_from_its_own_probability_up() -> None:
    probs = np.array([[0.6, 0.4], [0.4, 0.6], [0.05, 0.95]], np.float32)
    least = np.array([0.5, 0.9], np.float32)
    assert cell_types(probs, np.ones(3, np.bool_), least).accepted.tolist() == [True, False, True]


def test_one_reported_type_has_no_second() -> None:
    types = cell_types(np.array([[0.7]], np.float32), np.array([True]), np.array([0.5], np.float32))
    assert (types.best[0], types.second[0], types.second_prob[0]) == (0, -1, 0)


def assert_same(one: CellTypes, other: CellTypes) -> None:
    for field in dataclasses.fields(CellTypes):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name))


def test_the_field_is_left_as_it_was(classifier: CropClassifier, detector: DetectorCard) -> None:
    before: NDArray[np.uint8] = FIELD.copy()
    CellTyper(classifier, detector).type_cells(held(FIELD), cells_at((9, 9), labels=[1]), 1.0)
    assert np.array_equal(FIELD, before)
