"""Typing crops: against the bare network, independent of batch mates, mapped and prepared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cellcount.engines.base import EngineOptions
from cellcount.engines.classifier_input import prepare_picture
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.engines.type_map import type_map
from cellcount.errors import UsageError, WeightsError
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import ClassifierCard, CropRule, types_of
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import load_state, read_classifier_weights

Crop = NDArray[np.uint8]


def options(batch_size: int = 4) -> EngineOptions:
    return EngineOptions("cpu", "fp32", batch_size)


@pytest.fixture(scope="module")
def classifier(tiny_classifier: Path) -> CropClassifier:
    return load_classifier(tiny_classifier, options())


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    coarse = np.random.default_rng(3).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((32, 32))) for c in coarse]


def test_logits_are_those_of_the_bare_network(
    tiny_classifier: Path, classifier: CropClassifier, crops: list[Crop]
) -> None:
    card, state = read_classifier_weights(tiny_classifier)
    model = build_classifier(card).eval()
    load_state(model, state, source=tiny_classifier)
    mean, std = np.array(card.preprocessing.mean), np.array(card.preprocessing.std)
    images = ((np.stack(crops) / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    logits = classifier.logits(crops)
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 1e-4
    assert (
        np.ptp(logits, axis=0).min() > 0.01
    )  # the cells differ, so the comparison means something


def test_probabilities_are_a_softmax_at_the_cards_temperature(
    classifier: CropClassifier, crops: list[Crop]
) -> None:
    exponentials = np.exp(classifier.logits(crops).astype(np.float64) / 1.5)
    expected = exponentials / exponentials.sum(1, keepdims=True)
    assert np.allclose(classifier.probs(crops), expected, atol=1e-6)


def test_a_stated_prior_moves_probabilities_by_the_rule_of_bayes(
    tiny_classifier: Path, classifier: CropClassifier, crops: list[Crop]
) -> None:
    ids = [t.id for t in classifier.card.types]
    trained, stated = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.6, 0.05, 0.25])
    card, state = read_classifier_weights(tiny_classifier)
    told = dataclasses.replace(
        card,
        trained_prior=dict(zip(ids, trained.tolist(), strict=True)),
        prior=dict(zip(ids, stated.tolist(), strict=True)),
    )
    model = build_classifier(told)
    load_state(model, state, source=tiny_classifier)
    joint = classifier.probs(crops).astype(np.float64) * stated / trained
    expected = joint / joint.sum(1, keepdims=True)
    assert np.allclose(CropClassifier(model, told, options()).probs(crops), expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_result_does_not_depend_on_the_others(
    tiny_classifier: Path, crops: list[Crop], batch_size: int
) -> None:
    classifier = load_classifier(tiny_classifier, options(batch_size))
    together = classifier.logits(crops)
    assert np.array_equal(classifier.logits(crops[::-1])[::-1], together)
    alone = np.concatenate([classifier.logits([crop]) for crop in crops])
    assert np.array_equal(alone, together)


def test_no_cell_is_no_row(classifier: CropClassifier) -> None:
    assert classifier.probs([]).shape == (0, 4)


def test_a_crop_of_another_size_is_refused(classifier: CropClassifier) -> None:
    with pytest.raises(ValueError, match=r"a crop must be uint8 \(32, 32, 3\)"):
        classifier.logits([np.zeros((32, 31, 3), np.uint8)])


def test_it_says_where_and_how_it_computes(classifier: CropClassifier) -> None:
    assert (classifier.device, classifier.precision, classifier.batch_size) == ("cpu", "fp32", 4)
    assert classifier.card.name == "tiny-types"


def test_half_precision_is_near(tiny_classifier: Path, crops: list[Crop]) -> None:
    half = load_classifier(tiny_classifier, EngineOptions("cpu", "bf16", 4)).probs(crops)
    whole = load_classifier(tiny_classifier, options()).probs(crops)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() < 0.1


def test_a_detector_is_no_classifier(tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match="expected a classifier"):
        load_classifier(tiny_weights, options())


@pytest.fixture(scope="module")
def card(tiny_classifier: Path) -> ClassifierCard:
    return read_classifier_weights(tiny_classifier)[0]


def picture(height: int = 90, width: int = 120) -> Crop:
    """Light with a cast, and a red square of 20 px in the middle."""
    pixels = np.full((height, width, 3), (220, 200, 180), np.uint8)
    y, x = height // 2, width // 2
    pixels[y - 10 : y + 10, x - 10 : x + 10] = (150, 20, 20)
    return pixels


def share_of_red(crop: Crop) -> float:
    return float((crop[..., 1] < 128).mean())


def test_the_window_is_a_number_of_red_cells_wide(card: ClassifierCard) -> None:
    # 3 red cells of 20 px: the square takes up 20² of 60²; of 30 px: 20² of 90².
    assert share_of_red(prepare_picture(picture(), card)) == pytest.approx((20 / 60) ** 2, abs=0.03)
    wider = prepare_picture(picture(), card, rbc_px=30)
    assert share_of_red(wider) == pytest.approx((20 / 90) ** 2, abs=0.03)
    assert wider.shape == (32, 32, 3)


def test_the_whole_picture_is_made_square_with_white(card: ClassifierCard) -> None:
    whole = prepare_picture(picture(60, 120), dataclasses.replace(card, crop=CropRule(0)))
    assert (whole[:7] == 235).all()
    assert (whole[-7:] == 235).all()
    assert share_of_red(whole) == pytest.approx((20 / 120) ** 2, abs=0.01)
    unknown = dataclasses.replace(card, crop=CropRule(3.0, None))
    assert np.array_equal(prepare_picture(picture(60, 120), unknown), whole)


def test_the_background_is_brought_to_white_where_the_card_says_so(card: ClassifierCard) -> None:
    pixels = picture()
    balanced = prepare_picture(pixels, card)
    assert np.allclose(balanced[0, 0], 235, atol=1)
    before = dataclasses.replace(card.preprocessing, white_balance=False)
    plain = dataclasses.replace(card, preprocessing=before)
    assert tuple(prepare_picture(pixels, plain)[0, 0]) == (220, 200, 180)
    by_hand = apply_gains(pixels, white_balance_gains(pixels))
    assert np.array_equal(prepare_picture(by_hand, plain), balanced)


def test_the_contour_is_what_the_window_lies_on(card: ClassifierCard) -> None:
    y, x = np.mgrid[:250, :250]
    pixels = np.full((250, 250, 3), 235, np.uint8)
    pixels[np.hypot(x - 90, y - 150) < 40] = (120, 40, 160)  # 43 px off the centre
    contour = dataclasses.replace(card, crop=CropRule(0, contour=True))
    tight = prepare_picture(pixels, contour)
    assert share_of_red(tight) == pytest.approx(np.pi / 4, abs=0.12)
    windowed = dataclasses.replace(card, crop=CropRule(3.0, 60.0, contour=True))
    dark = np.argwhere(prepare_picture(pixels, windowed)[..., 1] < 128)
    assert np.allclose(dark.mean(0), 15.5, atol=0.6)
    assert len(dark) / 32**2 == pytest.approx(np.pi * 40**2 / 180**2, abs=0.03)


def test_no_map_changes_nothing(card: ClassifierCard) -> None:
    probs = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    unchanged = type_map(card, None)
    assert unchanged.types == card.types
    assert np.array_equal(unchanged.apply(probs), probs)


def test_a_map_leaves_out_what_it_drops(card: ClassifierCard) -> None:
    # neutrophil, lymphocyte, ig, erythroblast -> the first two of the five; no other is reached.
    mapped = type_map(card, "pbc-8:wbc-5")
    assert [t.id for t in mapped.types] == ["neutrophil", "lymphocyte"]
    probs = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    assert np.allclose(mapped.apply(probs), [[0.1, 0.2]])


def test_a_type_that_several_make_up_needs_the_highest_of_their_probabilities(
    card: ClassifierCard,
) -> None:
    own = {"blast": 0.9, "promyelocyte": 0.8}
    mll = dataclasses.replace(
        card,
        types=types_of(load_taxonomy("mll-7")),
        taxonomy="mll-7",
        prior={},
        trained_prior={},
        review_below=0.4,
        review_below_of=own,
    )
    mapped = type_map(mll, "mll-7:lineage-5")
    target_of = load_taxonomy("mll-7").mappings["lineage-5"].target_of
    expected = [
        max(own.get(i, 0.4) for i, target in target_of.items() if target == reported.id)
        for reported in mapped.types
    ]
    assert mapped.least_probs(mll).tolist() == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_a_map_adds_up_what_it_joins(card: ClassifierCard) -> None:
    mll = dataclasses.replace(card, types=types_of(load_taxonomy("mll-7")), taxonomy="mll-7")
    mapped = type_map(mll, "mll-7:lineage-5")
    lineage_of = load_taxonomy("mll-7").mappings["lineage-5"].target_of
    probs = np.random.default_rng(0).dirichlet(np.ones(7), 5).astype(np.float32)
    for column, target in enumerate(mapped.types):
        sources = [i for i, t in enumerate(mll.types) if lineage_of[t.id] == target.id]
        assert sources
        assert np.allclose(mapped.apply(probs)[:, column], probs[:, sources].sum(1), atol=1e-6)
    assert mapped.types[0].lineage
    assert np.array_equal(type_map(mll, "mll-21:lineage-5").sums, mapped.sums)


def test_a_map_from_other_types_is_refused(card: ClassifierCard) -> None:
    with pytest.raises(UsageError, match=r"starts from the types of mll-21, but .* 'tiny-types'"):
        type_map(card, "mll-21:lineage-5")
