"""Adaptation of a run's own classifier to the cells that people review while its page is open."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cellcount.adapt.adapted_classifier import AdaptRequest, NotBetterError, adapt_classifier
from cellcount.adapt.laboratory_cells import LaboratoryCells, cells_of_run
from cellcount.analysis.stored_results import StoredResults
from cellcount.files.text import listed, number_of
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import read_card, resolve
from cellcount.review.named_cells import model_of_run
from cellcount.review.page.classifier_job import Adaptation, OnCell
from cellcount.settings import AUTO_CLASSIFIER

_SHOWN = 3


def adapt_reviewed_run(
    stored: StoredResults, lock: AbstractContextManager[Any], out: Path, on_cell: OnCell
) -> Adaptation:
    """Adapt the classifier of a run to the cells whose type people gave.

    Args:
        stored: the run, its journal open.
        lock: held while the journal is read.
        out: an empty folder for the classifier.
        on_cell: given the number of cells, returns what is called after each.

    Raises:
        UsageError: too few cells, or the classifier cannot be adapted.
        WeightsError: the classifier is not where it was.
        OutputError: the folder cannot be written.
    """
    source = stored.outputs.files.settings.out
    plugins = str(stored.run.facts.settings.get("plugins") or "")
    request = AdaptRequest(
        source,
        _classifier_of(stored),
        out,
        plugins=stored.run.folder / plugins if plugins else None,
    )

    def read_cells(_: Path, card: ClassifierCard) -> LaboratoryCells:
        with lock:
            return cells_of_run(stored, source, card)

    try:
        adapted = adapt_classifier(request, on_cell, read_cells)
    except NotBetterError as refused:
        return Adaptation(str(refused), refused.figures.facts(), _notes(refused.cells))
    return Adaptation("", adapted.figures.facts(), _notes(adapted.cells))


def _classifier_of(stored: StoredResults) -> str:
    """The classifier that typed the cells of a run, by a name that holds in any folder."""
    if stored.run.facts.settings.get("classifier", AUTO_CLASSIFIER) == AUTO_CLASSIFIER:
        return read_card(resolve(model_of_run(stored, "detector"))).classifier
    return model_of_run(stored, "classifier")


def _notes(cells: LaboratoryCells) -> tuple[str, ...]:
    """Sentences about cells that were left out."""
    notes = [
        f"{number_of(count, 'cell')} of {label!r} left out: no type of the classifier"
        for label, count in sorted(cells.left_out.items())
    ]
    if cells.problems:
        notes.append(f"left out: {listed(cells.told_problems(), _SHOWN)}")
    return tuple(notes)
