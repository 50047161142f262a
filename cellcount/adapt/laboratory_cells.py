"""Cells that a laboratory has labelled: of a data set, or of a run that a person reviewed.

Shapes: N cells, K types of the classifier; allowed bool (N, K).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.stored_results import StoredResults, stored_results
from cellcount.core.records import UNCLASSIFIED, ImageResult
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.datasets.crops import read_crops
from cellcount.errors import UsageError
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.coarse_types import meant_by
from cellcount.models.taxonomy import load_taxonomy, normalised, taxonomies
from cellcount.models.weights import read_card, resolve
from cellcount.outputs.run_record import RUN_RECORD_SUFFIX
from cellcount.store.journal import JOURNAL_SUFFIX, journal_path

#: What stands for a box that a person took out, where the classifier knows such a type.
NO_WHITE_CELL = "not_a_white_cell"


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
    """

    items: tuple[LabelledCrop, ...]
    allowed: NDArray[np.bool_]
    groups: NDArray[np.int64]
    slides: int
    left_out: Counter[str]
    problems: tuple[Problem, ...]

    def kept(self, places: Sequence[int]) -> LaboratoryCells:
        """Some of the cells."""
        rows = np.asarray(places, np.intp)
        items = tuple(self.items[i] for i in places)
        groups = self.groups[rows]
        slides = len(np.unique(groups)) if self.slides else 0
        return LaboratoryCells(
            items, self.allowed[rows], groups, slides, self.left_out, self.problems
        )

    def by_label(self) -> dict[str, int]:
        """Label → cells, the commonest first."""
        return dict(Counter(item.label for item in self.items).most_common())


def is_run(source: Path) -> bool:
    """Whether a path belongs to results of ``cellcount analyze``."""
    if source.is_dir():
        return any(source.glob(f"*{JOURNAL_SUFFIX}"))
    ends = (JOURNAL_SUFFIX, RUN_RECORD_SUFFIX)
    return source.name.endswith(ends) or journal_path(source).is_file()


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
        items, problems = _of_run(source)
    else:
        crops = read_crops(source)
        items, problems = crops.items, crops.problems
    return cells_of(items, card, problems)


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
    """Ids of the classifier's types that a label may mean; none where one is not among them."""
    ids = {t.id for t in card.types}
    if card.taxonomy in taxonomies():
        found = meant_by(load_taxonomy(card.taxonomy), label)
        if found:
            return found if set(found) <= ids else ()
    own = {normalised(name): t.id for t in card.types for name in (t.id, t.name, t.abbreviation)}
    return (own[normalised(label)],) if normalised(label) in own else ()


def _of_run(source: Path) -> tuple[tuple[LabelledCrop, ...], tuple[Problem, ...]]:
    """The cells of a run whose type a person gave."""
    with stored_results(source) as stored:
        detector = str(stored.run.facts.settings.get("detector", ""))
        diameter = read_card(resolve(detector)).rbc_diameter_px
        items = list[LabelledCrop]()
        problems = list[Problem]()
        for result in stored.results()():
            cells = tuple(_reviewed(result, diameter))
            if cells and result.ref.page:
                problems.append(Problem(result.ref.path, "a further page of a file; left out"))
            else:
                items += cells
        _check_reviewed(stored, items, source)
    return tuple(items), tuple(problems)


def _check_reviewed(stored: StoredResults, items: Sequence[LabelledCrop], source: Path) -> None:
    if not items:
        raise UsageError(
            f"{source} is a run of which no cell was reviewed; review some with cellcount review "
            "export and apply, or name a folder with a folder per type"
        )
    if stored.run.output.pseudonymize is not None and not items[0].path.is_file():
        raise UsageError(f"the images of {source} are not where they were when it was made")


def _reviewed(result: ImageResult, detector_rbc_px: float) -> Iterator[LabelledCrop]:
    """Cells with a person's type; what a person took out is no white cell."""
    if result.status != "done" or not result.scale_factor:
        return
    said = {place: review.type_id for place, review in result.reviewed.items()}
    said |= {p: NO_WHITE_CELL for p, e in result.box_edits.items() if e.change == "not_a_cell"}
    boxes_xyxy = result.cells.detections.boxes_xyxy.tolist()
    slide = "/".join(part for part in (result.ref.specimen, result.ref.slide) if part)
    for place in sorted(said):
        if said[place] == UNCLASSIFIED:
            continue
        x_min, y_min, x_max, y_max = boxes_xyxy[place]
        yield LabelledCrop(
            result.ref.path,
            said[place],
            box_xyxy=(x_min, y_min, x_max, y_max),
            rbc_px=detector_rbc_px / result.scale_factor,
            slide=slide,
        )
