"""Cards: what is written is read, and nothing else is let in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cellcount.errors import WeightsError
from cellcount.models.card import MAX_CARD_BYTES
from cellcount.models.detector_card import Architecture, DetectorCard, Inference, Preprocessing

Change = Callable[[dict[str, Any]], object]


def changed(card: DetectorCard, change: Change) -> str:
    raw = json.loads(card.to_json())
    change(raw)
    return json.dumps(raw)


def test_a_card_comes_back_as_it_was(card: DetectorCard) -> None:
    again = DetectorCard.from_json(card.to_json())
    assert again == card
    assert again.architecture.anchor_sizes_px == ((8.0, 12.5), (24.0, 32.0), (48.0, 64.0))


def test_defaults_fill_what_a_card_leaves_out() -> None:
    text = json.dumps(
        {
            "name": "n",
            "version": "1",
            "license": "MIT",
            "rbc_diameter_px": 80,
            "classes": [{"id": "rbc", "name": "red cell", "plural": "red cells"}],
        }
    )
    card = DetectorCard.from_json(text)
    assert (card.architecture, card.inference) == (Architecture(), Inference())
    assert card.threshold_of("rbc") == 0.5
    assert card.rbc_diameter_px == 80


def test_the_margin_of_tiles_follows_the_scale_up_to_the_stated_one(card: DetectorCard) -> None:
    margins = {}
    for diameter_px in (25.0, 48.0, 80.0, 120.0):
        scaled = replace(card, rbc_diameter_px=diameter_px, inference=Inference(margin_px=256))
        margins[diameter_px] = scaled.tile_margin_px
    assert margins == {25.0: 67, 48.0: 128, 80.0: 214, 120.0: 256}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour="red"), r"unknown keys \['colour'\]"),
        (lambda c: c["architecture"].update(depth=3), "architecture has unknown keys"),
        (lambda c: c["classes"][0].update(rank=1), "class has unknown keys"),
        (lambda c: c["classes"][0].pop("name"), "class lacks name"),
        (lambda c: c.pop("classes"), "card lacks classes"),
        (lambda c: c.update(classes=[]), "lists no classes"),
        (lambda c: c.update(classes=[c["classes"][0]] * 2), "lists a class twice"),
        (lambda c: c.update(schema=2), "schema is 2, this cellcount reads 1"),
        (lambda c: c.update(license=""), "names no license"),
        (lambda c: c.pop("license"), "card lacks license"),
        (lambda c: c.update(rbc_diameter_px="80"), "rbc_diameter_px is '80', expected number"),
        (lambda c: c.update(rbc_diameter_px=True), "rbc_diameter_px is True"),
        (lambda c: c.update(rbc_diameter_px=float("nan")), "rbc_diameter_px is nan"),
        (lambda c: c.update(rbc_diameter_px=4), "expected 8 to 512"),
        (lambda c: c.update(classes="rbc"), "classes is 'rbc'"),
        (lambda c: c.update(classes=[3]), "class must be a JSON object, got int"),
        (lambda c: c.update(architecture=[]), "architecture must be a JSON object"),
        (lambda c: c.update(name=None), "name is None, expected text"),
        (lambda c: c.update(thresholds={"rbc": "high"}), "thresholds is"),
        (lambda c: c.update(thresholds={"rbc": 1.5}), "expected 0 to 1"),
        (lambda c: c.update(thresholds={"neutrophil": 0.5}), r"unknown classes: \['neutrophil'\]"),
        (lambda c: c["architecture"].update(strides=[8, 16.5, 32]), "strides is"),
        (lambda c: c["architecture"].update(strides=[8, 24, 32]), "ascending powers of two"),
        (lambda c: c["architecture"].update(strides=[16, 8, 32]), "ascending powers of two"),
        (lambda c: c["architecture"].update(strides=[8, 16]), "has 3 levels, expected 1 to 2"),
        (lambda c: c["architecture"].update(pyramid="none"), "has 3 levels, expected 1 to 1"),
        (
            lambda c: c["architecture"].update(anchor_sizes_px=[[8], [16, 24], [32]]),
            "same number of sizes on every level",
        ),
        (lambda c: c["architecture"].update(head_dim=10**9), "head_dim is 1000000000"),
        (lambda c: c["preprocessing"].update(mean=[0.5, 0.5]), "a list of 3 x number"),
        (lambda c: c["preprocessing"].update(std=[1.0, 0.0, 1.0]), "expected numbers above 0"),
        (
            lambda c: c["preprocessing"].update(red_cell_hue=True, white_balance=False),
            "red_cell_hue is true without white_balance",
        ),
        (lambda c: c["inference"].update(tile_px=0), "tile_px is 0, expected 64 to 8192"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(
    card: DetectorCard, change: Change, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        DetectorCard.from_json(changed(card, change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object, got list"),
        ('{"x": "' + "a" * MAX_CARD_BYTES + '"}', "the limit is"),
    ],
    ids=["broken", "list", "oversize"],
)
def test_what_is_no_card_is_refused(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        DetectorCard.from_json(text)


def test_the_parts_check_themselves_when_made_in_code() -> None:
    with pytest.raises(WeightsError, match="max_detections is 0"):
        Inference(max_detections=0)
    with pytest.raises(WeightsError, match="pad_multiple is 0"):
        Preprocessing(pad_multiple=0)
