"""Makes a packaged model of a training's export: adds to its card what no training can know.

    python -m tools.release_weights RUN/model.safetensors FACTS.json NAME.safetensors

FACTS.json holds any of: ``version``, ``license``, ``notes`` (a list), ``data`` (a list: all data
sets, each with its name as in the card, its source and licence), ``evaluations`` (a list: every
test evaluation ever made of these weights), ``inference`` (an object: numbers of a detector's
``Inference`` that were chosen on validation images after the training), ``thresholds`` (an object:
those chosen on other images than the training's own), ``classifier`` (the
packaged one that types a detector's cells where none is named), ``smear`` (the kind of smear that a
detector is for), ``experimental`` (why no count of a detector can be relied on yet) and
``confusion`` (what ``--adjust card`` undoes of a classifier's confusions: an object with ``data``
and ``split``, which say what cells these are, none of which it learned from; ``types``, ids in any
order; and ``cells``, a row of counts per true type with a column per type given). It is kept
beside the weights, so that each change of a card is seen in the project's history. Tensors stay as
they are, to the bit.

Shapes: none.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellcount.errors import UsageError, WeightsError
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import AnyCard, read_any_card, write_card

_KEYS = {
    *("version", "license", "notes", "data", "evaluations", "inference", "classifier"),
    *("smear", "experimental", "confusion", "thresholds"),
}
_CONFUSION_KEYS = {"data", "split", "types", "cells"}


def with_facts(card: AnyCard, facts: dict[str, Any]) -> AnyCard:
    """The card with the facts added.

    Raises:
        WeightsError: an unknown fact, or a data set of the card about which nothing is said.
    """
    if unknown := sorted(set(facts) - _KEYS):
        raise WeightsError(f"facts name {unknown}, expected only {sorted(_KEYS)}")
    known = {source["name"]: source for source in card.data if "name" in source}
    told = facts.get("data", card.data)
    if untold := sorted(set(known) - {source["name"] for source in told}):
        raise WeightsError(f"the model was trained on {untold}, of which the facts tell nothing")
    if "inference" in facts:
        if not isinstance(card, DetectorCard):
            raise WeightsError("facts name inference, which only a detector's card has")
        chosen = dataclasses.replace(card.inference, **facts["inference"])
        card = dataclasses.replace(card, inference=chosen)
    if "thresholds" in facts:
        if not isinstance(card, DetectorCard):
            raise WeightsError("facts name thresholds, which only a detector's card has")
        card = dataclasses.replace(card, thresholds={**card.thresholds, **facts["thresholds"]})
    named = {"classifier": "a classifier", "smear": "a smear", "experimental": "an experiment"}
    for key in sorted(named.keys() & facts):
        if not isinstance(card, DetectorCard):
            raise WeightsError(f"facts name {named[key]}, which only a detector's card has")
        card = dataclasses.replace(card, **{key: facts[key]})
    evaluations = tuple(facts.get("evaluations", card.evaluations))
    if "confusion" in facts:
        entry = _confusion(card, facts["confusion"])
        evaluations = (*(other for other in evaluations if other != entry), entry)
    return dataclasses.replace(
        card,
        version=facts.get("version", card.version),
        license=facts.get("license", card.license),
        notes=tuple(facts.get("notes", card.notes)),
        data=tuple({**known.get(source["name"], {}), **source} for source in told),
        evaluations=evaluations,
    )


def _confusion(card: AnyCard, told: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of a card that holds a confusion matrix, in the order of its types.

    Raises:
        WeightsError: it is no matrix of counts of exactly the types of this classifier.
    """
    if not isinstance(card, ClassifierCard):
        raise WeightsError("facts name a confusion matrix, which only a classifier's card has")
    if set(told) != _CONFUSION_KEYS:
        raise WeightsError(
            f"the facts' confusion has {sorted(told)}, expected {sorted(_CONFUSION_KEYS)}"
        )
    ids, types, cells = [t.id for t in card.types], told["types"], told["cells"]
    if sorted(types) != sorted(ids):
        raise WeightsError(f"the facts' confusion is of the types {types}, expected {ids}")
    if [len(row) for row in cells] != [len(ids)] * len(ids):
        raise WeightsError(f"the facts' confusion is not {len(ids)} rows of {len(ids)} counts")
    if not all(type(n) is int and n >= 0 for row in cells for n in row):
        raise WeightsError("the facts' confusion holds what is no number of cells")
    order = [types.index(name) for name in ids]
    matrix = [[cells[true][given] for given in order] for true in order]
    total = sum(map(sum, matrix))
    return {"data": told["data"], "split": told["split"], "cells": total, "confusion": matrix}


def release(weights: Path, facts: Path, target: Path) -> AnyCard:
    """Writes ``target``: the tensors of ``weights`` with the completed card, which is returned."""
    card = with_facts(read_any_card(weights), json.loads(facts.read_text("utf-8")))
    if weights.resolve() != target.resolve():
        shutil.copyfile(weights, target)
    write_card(target, card)
    return card


def main(arguments: Sequence[str]) -> None:
    """The command line of this module."""
    if len(arguments) != 3:
        raise UsageError("expected three arguments: WEIGHTS FACTS TARGET")
    release(*(Path(a) for a in arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
