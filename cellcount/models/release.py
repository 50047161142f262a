"""Makes a packaged model of a training's export: adds to its card what no training can know.

    python -m cellcount.models.release RUN/model.safetensors FACTS.json NAME.safetensors

FACTS.json holds any of: ``version``, ``license``, ``notes`` (a list), ``data`` (a list: all data
sets, each with its name as in the card, its source and licence), ``evaluations`` (a list: every
test evaluation ever made of these weights), ``inference`` (an object: numbers of a detector's
``Inference`` that were chosen on validation images after the training) and ``classifier`` (the
packaged one that types a detector's cells where none is named). It is kept beside the
weights, so that each change of a card is seen in the project's history. Tensors stay as they are,
to the bit.

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
from cellcount.models.card import Card
from cellcount.models.weights import AnyCard, read_any_card, write_card

_KEYS = {"version", "license", "notes", "data", "evaluations", "inference", "classifier"}


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
        if not isinstance(card, Card):
            raise WeightsError("facts name inference, which only a detector's card has")
        chosen = dataclasses.replace(card.inference, **facts["inference"])
        card = dataclasses.replace(card, inference=chosen)
    if "classifier" in facts:
        if not isinstance(card, Card):
            raise WeightsError("facts name a classifier, which only a detector's card has")
        card = dataclasses.replace(card, classifier=facts["classifier"])
    return dataclasses.replace(
        card,
        version=facts.get("version", card.version),
        license=facts.get("license", card.license),
        notes=tuple(facts.get("notes", card.notes)),
        data=tuple({**known.get(source["name"], {}), **source} for source in told),
        evaluations=tuple(facts.get("evaluations", card.evaluations)),
    )


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
