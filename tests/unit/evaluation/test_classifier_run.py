"""A classifier is evaluated on exactly the inputs that it sees in use, and scored as by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.engines.base import EngineOptions
from cellcount.engines.cell_typer import field_crops
from cellcount.engines.classifier_input import prepare_picture
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.engines.type_map import type_map
from cellcount.errors import AnnotationError
from cellcount.evaluation.classifier_run import RESIZES, reported_probs, score, type_labelled
from cellcount.evaluation.perturbations import SHIFTS, resized, variants
from cellcount.evaluation.true_types import true_types
from cellcount.models.classifier_card import ClassifierCard, CropRule, types_of
from cellcount.models.taxonomy import load_taxonomy

COLOURS = {"neutrophil": (200, 70, 80), "lymphocyte": (60, 190, 80), "erythroblast": (70, 60, 200)}


@pytest.fixture(scope="module")
def classifier(colour_weights: Path, classifier_plugins: Path) -> CropClassifier:
    options = EngineOptions("cpu", plugin_folder=classifier_plugins)
    return load_classifier(colour_weights, options)


@pytest.fixture
def pictures(tmp_path: Path) -> list[LabelledCrop]:
    """One cell of each colour, noisy, of different sizes."""
    rng = np.random.default_rng(5)
    items = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        side = 48 + 8 * number
        pixels = np.full((side, side, 3), 235, np.uint8)
        pixels[8:-8, 8:-8] = colour
        noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(noisy).save(path)
        items.append(LabelledCrop(path, name))
    return items


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_pictures_pass_through_the_steps_of_classify(
    classifier: CropClassifier, pictures: list[LabelledCrop]
) -> None:
    seen: list[None] = []
    chosen = variants(RESIZES)
    assert [v.factor for v in chosen[1:5]] == [0.5, 0.75, 1.5, 2.0]
    assert [v.name for v in chosen[5:]] == list(SHIFTS)
    typed = type_labelled(
        pictures, classifier, variants=chosen, rbc_px=40.0, on_cell=lambda: seen.append(None)
    )
    assert list(typed.logits) == [v.name for v in chosen]
    for name, change in {
        "original": lambda pixels: pixels,
        "2x size": lambda pixels: resized(pixels, 2.0),
        "hue +20": SHIFTS["hue +20"],
    }.items():
        inputs = [
            prepare_picture(change(pixels_of(i.path)), classifier.card, 40.0) for i in pictures
        ]
        np.testing.assert_array_equal(typed.logits[name], classifier.logits(inputs))
    assert typed.logits["original"].argmax(axis=1).tolist() == [0, 1, 2]
    assert len(seen) == 3


def test_boxes_pass_through_the_steps_of_analyze(
    classifier: CropClassifier, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "field.png")
    boxes = np.array([[10, 10, 40, 44], [70, 50, 100, 86]], np.float32)
    items = [
        LabelledCrop(tmp_path / "field.png", "neutrophil", box_xyxy=tuple(box))
        for box in boxes.tolist()
    ]
    chosen = [v for v in variants(RESIZES) if v.name in ("original", "0.5x size")]
    typed = type_labelled(items, classifier, variants=chosen, rbc_px=30.0)
    whole = classifier.logits(field_crops(pixels, boxes, classifier.card, 30.0))
    np.testing.assert_array_equal(typed.logits["original"], whole)
    halved = field_crops(resized(pixels, 0.5), boxes / np.float32(2), classifier.card, 30.0)
    np.testing.assert_array_equal(typed.logits["0.5x size"], classifier.logits(halved))
    with pytest.raises(AnnotationError, match=r"state the diameter .* with --rbc-px"):
        type_labelled(items, classifier)


def test_a_window_of_the_whole_picture_becomes_the_box(
    classifier: CropClassifier, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "field.png")
    whole = CropClassifier(
        classifier._model,
        dataclasses.replace(classifier.card, crop=CropRule(window_rbc=0.0)),
        EngineOptions("cpu"),
    )
    box = (10.0, 20.0, 40.0, 40.0)
    (logits,) = type_labelled(
        [LabelledCrop(tmp_path / "field.png", "neutrophil", box_xyxy=box)], whole
    ).logits.values()
    expected = field_crops(pixels, np.array([box], np.float32), whole.card, 30.0)
    np.testing.assert_array_equal(logits, whole.logits(expected))


def test_a_broken_picture_is_said_and_left_out(
    classifier: CropClassifier, pictures: list[LabelledCrop]
) -> None:
    pictures[1].path.write_bytes(b"no picture")
    typed = type_labelled(pictures, classifier, rbc_px=40.0)
    assert typed.kept.tolist() == [0, 2]
    assert typed.logits["original"].shape == (2, 3)
    (problem,) = typed.problems
    assert problem.path == pictures[1].path


def card_of(taxonomy: str, **values: object) -> ClassifierCard:
    return ClassifierCard(
        name="c",
        version="1",
        types=types_of(load_taxonomy(taxonomy)),
        taxonomy=taxonomy,
        license="MIT",
        **values,  # type: ignore[arg-type]
    )


def test_scores_by_hand() -> None:
    card = card_of("wbc-5", temperature=2.0, review_below=0.6)
    logits = np.zeros((4, 5), np.float32)
    logits[[0, 1, 2, 3], [0, 1, 2, 3]] = [8, 8, 8, 2]  # the last cell is uncertain
    labels = np.array([0, 1, 3, 3])
    crops = CropSet((LabelledCrop(Path("a"), "monocyte"),), ("monocyte",))
    scores = score(logits, labels, true_types(crops, card, None), card)
    assert scores.report.strict.accuracy == 0.75
    best = softmax(logits.astype(float) / 2, axis=1).max(axis=1)
    assert (best >= 0.6).tolist() == [True, True, True, False]
    assert (scores.accepted, scores.accepted_right) == (3, 2)
    assert scores.accepted_share == 0.75
    assert scores.accepted_accuracy == pytest.approx(2 / 3)
    # Calibration error: one bin holds the three alike (2 of 3 right), another the last.
    assert scores.report.ece == pytest.approx(
        3 / 4 * abs(2 / 3 - best[0]) + 1 / 4 * abs(1 - best[3]), abs=1e-6
    )
    sharp = softmax(logits.astype(float), axis=1).max(axis=1)
    assert scores.ece_before == pytest.approx(
        3 / 4 * abs(2 / 3 - sharp[0]) + 1 / 4 * abs(1 - sharp[3]), abs=1e-6
    )


def test_a_type_that_must_be_surer_is_accepted_from_its_own_probability_up() -> None:
    card = card_of("wbc-5", review_below=0.6, review_below_of={"eosinophil": 0.99})
    types = [t.id for t in card.types]
    logits = np.zeros((2, 5), np.float32)
    labels = np.array([types.index("eosinophil"), types.index("monocyte")])
    logits[[0, 1], labels] = 4  # probabilities of 0.93
    crops = CropSet((LabelledCrop(Path("a"), "monocyte"),), ("monocyte",))
    scores = score(logits, labels, true_types(crops, card, None), card)
    assert (scores.accepted, scores.accepted_right) == (1, 1)


def test_the_prior_moves_probabilities_as_the_engine_does(
    classifier: CropClassifier, pictures: list[LabelledCrop]
) -> None:
    prior = {"neutrophil": 0.1, "lymphocyte": 0.7, "erythroblast": 0.2}
    card = dataclasses.replace(classifier.card, prior=prior, temperature=3.0)
    engine = CropClassifier(classifier._model, card, EngineOptions("cpu"))
    inputs = [prepare_picture(pixels_of(i.path), card, 40.0) for i in pictures]
    logits = engine.logits(inputs)
    own = type_map(card, None)
    types, probs = reported_probs(logits, own, card, prior, card.temperature)
    assert types == ("neutrophil", "lymphocyte", "erythroblast")
    np.testing.assert_allclose(probs, engine.probs(inputs), atol=1e-6)
    _, as_trained = reported_probs(logits, own, card, {}, 1.0)
    np.testing.assert_allclose(as_trained, softmax(logits.astype(float), axis=1), atol=1e-9)


def test_dropped_types_are_an_outcome_of_their_own() -> None:
    card = card_of("pbc-8", review_below=0.3)
    crops = CropSet((LabelledCrop(Path("a"), "monocyte"),), ("monocyte",))
    truth = true_types(crops, card, "pbc-8:wbc-5")
    logits = np.zeros((2, 8), np.float32)
    logits[0, [t.id for t in card.types].index("platelet")] = 2
    logits[1, [t.id for t in card.types].index("monocyte")] = 9
    types, probs = reported_probs(logits, truth.reported, card, {}, 1.0)
    assert types == (*truth.ids, "dropped")
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert probs[0, -1] == pytest.approx((np.e**2 + 2) / (np.e**2 + 7), rel=1e-6)
    labels = np.array([truth.ids.index("monocyte")] * 2)
    scores = score(logits, labels, truth, card)
    assert scores.report.confusion[labels[0]].tolist() == [0, 0, 0, 0, 1, 1]
    assert (scores.accepted, scores.accepted_right) == (1, 1)
