"""A packaged model is its training's export with a completed card and the very same tensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from cellcount.differential.confusion import confusion_of_card
from cellcount.errors import WeightsError
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_any_card, read_card, read_classifier_card, write_card
from tools.release_weights import main, release, with_facts

SOURCES = ({"name": "fields", "format": "yolo", "train": 8, "val": 2}, {"name": "more"})
FACTS: dict[str, Any] = {
    "version": "1.2.3",
    "notes": ["Not for diagnosis."],
    "data": [
        {"name": "fields", "source": "here", "license": "MIT"},
        {"name": "more", "source": "there", "license": "CC BY 4.0"},
    ],
    "evaluations": [{"data": "fields", "split": "test", "ap50": 0.9}],
}


def raw_tensors(path: Path) -> dict[str, bytes]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118


@pytest.fixture
def export(tiny_weights: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny_weights.read_bytes())
    write_card(path, dataclasses.replace(read_card(path), data=SOURCES))
    return path


def test_the_card_is_completed_and_the_tensors_stay(export: Path, tmp_path: Path) -> None:
    facts, target = tmp_path / "facts.json", tmp_path / "blood.safetensors"
    facts.write_text(json.dumps(FACTS), "utf-8")
    before = read_card(export)
    main([str(export), str(facts), str(target)])
    card = read_card(target)
    assert card == dataclasses.replace(
        before,
        version="1.2.3",
        notes=("Not for diagnosis.",),
        data=(
            {**SOURCES[0], "source": "here", "license": "MIT"},
            {"name": "more", "source": "there", "license": "CC BY 4.0"},
        ),
        evaluations=({"data": "fields", "split": "test", "ap50": 0.9},),
    )
    assert raw_tensors(target) == raw_tensors(export)
    assert read_card(export) == before


def test_thresholds_chosen_elsewhere_replace_those_of_the_training(
    export: Path, tiny_classifier: Path
) -> None:
    before = read_card(export)
    card = with_facts(before, {**FACTS, "thresholds": {"wbc": 0.65}})
    assert isinstance(card, DetectorCard)
    assert card.thresholds == {**before.thresholds, "wbc": 0.65}
    with pytest.raises(WeightsError, match="unknown classes: \\['cell'\\]"):
        with_facts(before, {**FACTS, "thresholds": {"cell": 0.5}})
    with pytest.raises(WeightsError, match="thresholds, which only a detector's card has"):
        with_facts(read_classifier_card(tiny_classifier), {"thresholds": {"wbc": 0.5}})


def test_it_may_be_done_again_in_place(export: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(FACTS), "utf-8")
    first = release(export, facts, export)
    tensors = raw_tensors(export)
    assert release(export, facts, export) == first == read_card(export)
    assert raw_tensors(export) == tensors


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"licence": "MIT"}, r"facts name \['licence'\]"),
        ({"data": FACTS["data"][:1]}, r"trained on \['more'\], of which the facts tell nothing"),
    ],
)
def test_what_is_forgotten_or_misspelt_is_said(
    export: Path, facts: dict[str, Any], expected: str
) -> None:
    with pytest.raises(WeightsError, match=expected):
        with_facts(read_card(export), facts)


CONFUSION: dict[str, Any] = {
    "data": "pbc",
    "split": "val",
    "types": ["erythroblast", "neutrophil", "lymphocyte"],
    "cells": [[9, 1, 2], [3, 80, 4], [5, 6, 70]],
}


def test_a_classifier_s_confusions_are_taken_in_the_order_of_its_types(
    colour_weights: Path, tmp_path: Path
) -> None:
    facts, target = tmp_path / "facts.json", tmp_path / "colours.safetensors"
    facts.write_text(json.dumps({"evaluations": [{"data": "x"}], "confusion": CONFUSION}), "utf-8")
    target.write_bytes(colour_weights.read_bytes())
    for _ in range(2):  # again in place, too
        release(target, facts, target)
        card = read_classifier_card(target)
        assert card.evaluations == (
            {"data": "x"},
            {
                "data": "pbc",
                "split": "val",
                "cells": 180,
                "confusion": [[80, 4, 3], [6, 70, 5], [1, 2, 9]],
            },
        )
    found = confusion_of_card(card.name, [t.id for t in card.types], card.evaluations)
    assert (found.source, found.cells[0].tolist()) == ("pbc val", [80, 4, 3])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"types": ["erythroblast", "neutrophil", "monocyte"]}, r"expected \['neutrophil', 'lymph"),
        ({"cells": [[1, 2], [3, 4]]}, "not 3 rows of 3 counts"),
        ({"cells": [[1, 2, 3], [4, -5, 6], [7, 8, 9]]}, "no number of cells"),
        ({"cells": [[1, 2, 3], [4, 0.5, 6], [7, 8, 9]]}, "no number of cells"),
        ({"split": None, "date": "2026"}, r"expected \['cells', 'data', 'split', 'types'\]"),
    ],
)
def test_what_is_no_confusion_matrix_of_it_is_said(
    colour_weights: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(WeightsError, match=expected):
        with_facts(read_classifier_card(colour_weights), {"confusion": CONFUSION | changes})


def test_a_detector_confuses_no_types(tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match="which only a classifier's card has"):
        with_facts(read_card(tiny_weights), {"confusion": CONFUSION})


def test_the_facts_of_every_packaged_model_fit_its_card(repo_root: Path) -> None:
    for path in (repo_root / "cellcount" / "weights").glob("*.json"):
        own = read_any_card(path.with_suffix(".safetensors"))
        card = with_facts(own, json.loads(path.read_text("utf-8")))
        assert card.notes
        assert all({"name", "source", "license"} <= source.keys() for source in card.data)
