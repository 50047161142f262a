"""Cards of classifiers: what is written is read, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellcount.core.records import CellClass
from cellcount.errors import WeightsError
from cellcount.models.classifier_card import ClassifierCard, CropRule, types_of
from cellcount.models.detector_card import DetectorCard
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import (
    facts_of,
    read_any_card,
    read_card,
    read_classifier_card,
    read_classifier_weights,
    write_card,
    write_weights,
)
from tools.release_weights import release

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def types() -> ClassifierCard:
    return ClassifierCard(
        name="types",
        version="2.0",
        types=types_of(load_taxonomy("wbc-5")),
        taxonomy="wbc-5",
        license="MIT",
        crop=CropRule(2.5, 33.0, contour=True),
        prior={t.id: 0.2 for t in types_of(load_taxonomy("wbc-5"))},
        temperature=1.7,
        data=({"name": "made up", "images": [1, 2]},),
    )


def test_a_card_comes_back_as_it_was(types: ClassifierCard) -> None:
    again = ClassifierCard.from_json(types.to_json())
    assert again == types
    assert again.preprocessing.input_px == (160, 160)
    assert again.crop == CropRule(2.5, 33.0, contour=True)


def test_types_carry_what_the_taxonomy_says() -> None:
    neutrophil = types_of(load_taxonomy("pbc-8"))[0]
    assert neutrophil == CellClass(
        "neutrophil", "neutrophil", "neutrophils", "NEU", "granulopoiesis"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour="red"), r"unknown keys \['colour'\]"),
        (lambda c: c.pop("types"), "card lacks types"),
        (lambda c: c.update(types=c["types"][:1]), "expected two or more different"),
        (lambda c: c.update(types=[c["types"][0]] * 2), "expected two or more different"),
        (lambda c: c["types"][0].pop("plural"), "card's type lacks plural"),
        (lambda c: c.update(license=""), "names no license"),
        (lambda c: c.update(schema=7), "schema is 7"),
        (lambda c: c.update(temperature=0), "temperature is 0, expected 0.01 to 100"),
        (lambda c: c.update(review_below=1.2), "review_below is 1.2, expected 0 to 1"),
        (lambda c: c.update(review_below_of={"gnome": 0.9}), "review_below_of is .*gnome"),
        (lambda c: c.update(review_below_of={"neutrophil": 1.1}), "probabilities from 0 to 1"),
        (lambda c: c["prior"].popitem(), "prior is .* expected a share above 0 for each of"),
        (lambda c: c["prior"].update(neutrophil=0), "expected a share above 0"),
        (lambda c: c.update(trained_prior={"neutrophil": 1}), "trained_prior is .* above 0"),
        (lambda c: c["crop"].update(window_rbc=-1), "window_rbc is -1"),
        (lambda c: c["crop"].update(rbc_px=0), "rbc_px is 0"),
        (lambda c: c["crop"].update(contour="yes"), "contour is 'yes', expected true or false"),
        (lambda c: c["architecture"].update(scheme="ovo"), "expected 'softmax' or 'ovr'"),
        (lambda c: c["preprocessing"].update(input_px=[0, 160]), "expected sides of 8 to 2048"),
        (lambda c: c["preprocessing"].update(input_px=160), "a list of 2 x whole number"),
        (lambda c: c["preprocessing"].update(interpolation="nearest"), "'bilinear' or 'bicubic'"),
        (lambda c: c["preprocessing"].update(std=[1, 1, 0]), "expected numbers above 0"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(
    types: ClassifierCard, change: Change, message: str
) -> None:
    raw = json.loads(types.to_json())
    change(raw)
    with pytest.raises(WeightsError, match=message):
        ClassifierCard.from_json(json.dumps(raw))


def test_files_of_both_kinds_are_told_apart(tiny_weights: Path, tiny_classifier: Path) -> None:
    assert isinstance(read_any_card(tiny_weights), DetectorCard)
    assert read_any_card(tiny_classifier) == read_classifier_card(tiny_classifier)
    with pytest.raises(WeightsError, match="is the classifier 'tiny-types', expected a detector"):
        read_card(tiny_classifier)
    with pytest.raises(WeightsError, match="is the detector 'tiny-random', expected a classifier"):
        read_classifier_card(tiny_weights)


def test_a_weight_file_keeps_card_and_tensors(tiny_classifier: Path, tmp_path: Path) -> None:
    card, tensors = read_classifier_weights(tiny_classifier)
    path = tmp_path / "again.safetensors"
    write_weights(path, card, tensors)
    write_card(path, dataclasses.replace(card, version="9"))
    again, same = read_classifier_weights(path)
    assert again == dataclasses.replace(card, version="9")
    assert tensors.keys() == same.keys()
    assert all(tensors[k].equal(same[k]) for k in tensors)
    assert facts_of(path).card == again


def test_facts_complete_the_card_of_a_classifier(tiny_classifier: Path, tmp_path: Path) -> None:
    facts, target = tmp_path / "facts.json", tmp_path / "released.safetensors"
    facts.write_text(
        json.dumps(
            {
                "notes": ["knows no blasts"],
                "data": [{"name": "none", "source": "here", "license": "MIT"}],
            }
        ),
        "utf-8",
    )
    card = release(tiny_classifier, facts, target)
    assert card == read_classifier_card(target)
    assert card.notes == ("knows no blasts",)
    assert card.data == ({"name": "none", "source": "here", "license": "MIT"},)
