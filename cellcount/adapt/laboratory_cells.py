"""Cells that a laboratory has labelled: of a data set, or of a run that a person reviewed.

Shapes: N cells, K types of the classifier; allowed bool (N, K).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.stored_results import StoredResults, is_run, stored_results
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.datasets.crops import read_crops
from cellcount.errors import UsageError
from cellcount.files.text import listed
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.coarse_types import meant_by
from cellcount.models.taxonomy import load_taxonomy, normalised, taxonomies
from cellcount.review.named_cells import named_cells, told_problems

_SHOWN = 3


@dataclass(frozen=True, eq=False, slots=True)
class LaboratoryCells:
    """Cells whose type is known.

    Attributes:
        items: the cells, those of one picture in a row.
        allowed: the types that the label of each may mean.
        groups: int64 (N,), number of the slide of each; of the picture where no slide is named.
        slides: slides that are named; 0 where none is.
        left_out: label → cells whose type the classifier does not know.
        problems: what was wrong with the data and survived.
        codes: picture → its code, where the outputs of a run have codes in place of names.
    """

    items: tuple[LabelledCrop, ...]
    allowed: NDArray[np.bool_]
    groups: NDArray[np.int64]
    slides: int
    left_out: Counter[str]
    problems: tuple[Problem, ...]
    codes: Mapping[Path, str] = field(default_factory=dict)

    def kept(self, places: Sequence[int]) -> LaboratoryCells:
        """Select some of the cells."""
        rows = np.asarray(places, np.intp)
        items = tuple(self.items[i] for i in places)
        groups = self.groups[rows]
        slides = len(np.unique(groups)) if self.slides else 0
        return replace(self, items=items, allowed=self.allowed[rows], groups=groups, slides=slides)

    def told_problems(self) -> list[str]:
        """Problems in a sentence each, with codes in place of names where outputs have them."""
        return told_problems(self.problems, self.codes)

    def by_label(self) -> dict[str, int]:
        """Label → cells, the commonest first."""
        return dict(Counter(item.label for item in self.items).most_common())


def labelled_cells(source: Path, card: ClassifierCard) -> LaboratoryCells:
    """The labelled cells of a data set or a reviewed run.

    Args:
        source: a folder per type, a table, boxes with types, or a run's counts.csv or folder.
        card: whose types the labels are read as.

    Raises:
        AnnotationError: it cannot be read.
        UsageError: no cell is of a type that the classifier knows.
    """
    if is_run(source):
        with stored_results(source) as stored:
            return cells_of_run(stored, source, card)
    crops = read_crops(source)
    return cells_of(crops.items, card, crops.problems)


def cells_of_run(stored: StoredResults, source: Path, card: ClassifierCard) -> LaboratoryCells:
    """The cells of a run whose type a person gave.

    Args:
        stored: the run.
        source: by which it is named in sentences.
        card: whose types the labels are read as.

    Raises:
        UsageError: no cell was reviewed, its images are gone, or no type is known.
    """
    named = named_cells(stored)
    if named.problems and not named.items:
        lost = listed(told_problems(named.problems, named.codes), _SHOWN)
        raise UsageError(f"no reviewed cell of {source} can be used (problems: {lost})")
    if not named.items:
        raise UsageError(
            f"{source} is a run of which no cell was reviewed; review some with cellcount review "
            "open, or export and apply, or name a folder with a folder per type"
        )
    if stored.run.output.pseudonymize is not None and not named.items[0].path.is_file():
        raise UsageError(f"the images of {source} are not where they were when it was made")
    return replace(cells_of(named.items, card, named.problems), codes=named.codes)


def cells_of(
    items: Sequence[LabelledCrop], card: ClassifierCard, problems: Sequence[Problem] = ()
) -> LaboratoryCells:
    """Labelled cells with the types that they may mean, and their slides by number.

    Raises:
        UsageError: no cell is of a type that the classifier knows.
    """
    ids = [t.id for t in card.types]
    meaning = {label: _meant(card, label) for label in {item.label for item in items}}
    known = [item for item in items if meaning[item.label]]
    left_out = Counter(item.label for item in items if not meaning[item.label])
    if not known:
        raise UsageError(
            f"no cell has a type that the classifier {card.name!r} knows: labels are "
            f"{', '.join(sorted(left_out)) or 'none'}, its types are {', '.join(ids)}"
        )
    allowed = np.array([[i in meaning[item.label] for i in ids] for item in known])
    named = [item.patient or item.slide for item in known]
    own = [name or item.path.as_posix() for name, item in zip(named, known, strict=True)]
    number = {name: place for place, name in enumerate(sorted(set(own)))}
    groups = np.array([number[name] for name in own], np.int64)
    slides = len(set(named)) if all(named) else 0
    return LaboratoryCells(tuple(known), allowed, groups, slides, left_out, tuple(problems))


def _meant(card: ClassifierCard, label: str) -> tuple[str, ...]:
    """Ids of the types that a label may mean; none if the classifier lacks one of them."""
    ids = {t.id for t in card.types}
    if card.taxonomy in taxonomies():
        found = meant_by(load_taxonomy(card.taxonomy), label)
        if found:
            return found if set(found) <= ids else ()
    own = {normalised(name): t.id for t in card.types for name in (t.id, t.name, t.abbreviation)}
    return (own[normalised(label)],) if normalised(label) in own else ()
