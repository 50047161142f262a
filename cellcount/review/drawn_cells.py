"""Comparison of the cells that another program drew with those of a run: a person's changes.

A cell that was moved, given another name or taken out becomes a correction, and so does one that
was drawn. Nothing is taken from a file that was written before the image was last corrected, unless
it says nothing new: it would undo what was said since.

Shapes: boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.analysis.stored_results import StoredResults
from cellcount.core.blood import is_white
from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import NOT_A_CELL, UNCLASSIFIED, CellClass, ImageRef, ImageResult
from cellcount.outputs.columns import Value
from cellcount.outputs.drawn_labels import drawn_labels, last_review
from cellcount.outputs.run_content import Labels
from cellcount.outputs.typed import label_values
from cellcount.store.corrected import CorrectedImage, Editor
from cellcount.store.edits import Edit

#: A side that differs by less was rounded, not moved.
_MOVED_PX = 0.5
#: A drawn cell that overlaps a known one by so much is that cell.
_SAME_IOU = 0.9
#: How QuPath calls what is not to be counted.
_IGNORED = "ignore*"


@dataclass(frozen=True, slots=True)
class DrawnCell:
    """A cell in the file of another program.

    Attributes:
        number: of the cell in its image's table, from 1; None of one that cellcount did not write.
        box_xyxy: what encloses it.
        label: what it is called there, "" where it has no name.
        where: its place in the file, for messages.
    """

    number: int | None
    box_xyxy: tuple[float, float, float, float]
    label: str
    where: str


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """The cells of an image in the file of another program.

    Attributes:
        cells: in the order of the file.
        last_review: when the image had been corrected last as the file was written, in seconds
            since 1970; 0 where it had not been.
    """

    cells: Sequence[DrawnCell]
    last_review: int = 0


@dataclass(slots=True)
class DrawnChanges:
    """Changes that a person made to drawn cells.

    Attributes:
        edits: of the journal, in order.
        relabelled: the label before and the new one of each cell that got another.
        moved, added, deleted: how many cells.
        touched: images with an edit.
    """

    edits: list[Edit] = field(default_factory=list)
    relabelled: list[tuple[str, str]] = field(default_factory=list)
    moved: int = 0
    added: int = 0
    deleted: int = 0
    touched: list[ImageRef] = field(default_factory=list)


class DrawnReader:
    """Compares drawn images with those of a run, one by one.

    Args:
        stored: the run.
        editor: who drew.

    Attributes:
        changes: of all images so far.
    """

    def __init__(self, stored: StoredResults, editor: Editor) -> None:
        self._stored, self._editor = stored, editor
        self._outputs = stored.outputs.reviewed_by(stored.reviews())
        self._labels: Labels = self._outputs.facts.labels
        own = stored.run.facts
        self._words = (
            Vocabulary(own.types, own.counting.assessable, own.counting.profile)
            if own.types
            else None
        )
        self._edited: dict[str, str] = {}
        self.changes = DrawnChanges()

    def take(self, ref: ImageRef, drawn: DrawnImage) -> None:
        """Compare an image.

        Args:
            ref: the image.
            drawn: its cells in the other program.

        Raises:
            ValueError: what is wrong with it; nothing of it was taken.
        """
        found = next(self._stored.unnamed([ref]), None)
        image = self._stored.journal.corrected(ref)
        if found is None or image is None or found.status != "done":
            raise ValueError("the image was not analysed, so that it has no cells to correct")
        told = self._outputs.final(self._stored.outputs.names.result(found))
        one = _Comparison(told, image, self._labels, self._words, self._editor)
        one.compare(drawn.cells)
        changes = one.changes
        if not changes.edits:
            return
        if last_review(found) > drawn.last_review:
            raise ValueError(
                "the image was corrected since this file was written, which would undo that; "
                "export the cells again"
            )
        other = self._edited.setdefault(image.key, told.ref.image)
        if other != told.ref.image:
            raise ValueError(f"it is a copy of {other}, which was changed too; keep one of both")
        mine = self.changes
        mine.edits += changes.edits
        mine.relabelled += changes.relabelled
        mine.moved += changes.moved
        mine.added += changes.added
        mine.deleted += changes.deleted
        mine.touched.append(ref)


class _Comparison:
    """One image against what was drawn on it."""

    def __init__(
        self,
        told: ImageResult,
        image: CorrectedImage,
        labels: Labels,
        words: Vocabulary | None,
        editor: Editor,
    ) -> None:
        self._told, self._image, self._editor = told, image, editor
        self._labels, self._words = labels, words
        self._called = drawn_labels(told, labels)
        self._boxes_xyxy = told.cells.detections.boxes_xyxy
        self.changes = DrawnChanges()

    @cached_property
    def _model_types(self) -> list[Value]:
        """The classifier's type of each cell of the image, removed ones too."""
        return label_values(self._image.result, self._labels.types)["type"]

    def compare(self, cells: Sequence[DrawnCell]) -> None:
        """Find what was changed."""
        matched = self._matched(cells)
        seen = set(matched.values())
        for at, cell in enumerate(cells):
            if at in matched:
                self._changed(matched[at], cell)
            elif cell.number is None:
                self._added(cell)
            elif self._meaning(cell, cell.label) != NOT_A_CELL:
                raise ValueError(
                    f"{cell.where}: cell {cell.number} was taken out since this file was written; "
                    "export the cells again"
                )
        for place in range(len(self._told.cells)):
            if place not in seen:
                self._edit("delete", place)
                self.changes.deleted += 1

    def _matched(self, cells: Sequence[DrawnCell]) -> dict[int, int]:
        """Place among the drawn cells → place among the known ones."""
        known = {self._told.cells.number_of(place): place for place in range(len(self._told.cells))}
        matched: dict[int, int] = {}
        taken: set[int] = set()
        for at, cell in enumerate(cells):
            place = None if cell.number is None else known.get(cell.number)
            if place is None:
                continue
            if place in taken:
                raise ValueError(f"{cell.where}: cell {cell.number} is there twice; keep one")
            matched[at] = place
            taken.add(place)
        left = [at for at in range(len(cells)) if at not in matched]
        free = [place for place in known.values() if place not in taken]
        for _, at, place in self._overlaps(cells, left, free):
            if at not in matched and place not in taken:
                matched[at] = place
                taken.add(place)
        return matched

    def _overlaps(
        self, cells: Sequence[DrawnCell], left: Sequence[int], free: Sequence[int]
    ) -> list[tuple[float, int, int]]:
        """Pairs of a drawn and a known cell that may be the same one, the best overlap first."""
        pairs: list[tuple[float, int, int]] = []
        known = self._boxes_xyxy[list(free)]
        for at in left if free else ():  # one by one: a slide has too many for one matrix
            drawn = np.array([self._within(cells[at])], np.float32)
            ious = pairwise_iou(drawn, known)[0]
            pairs += [
                (-float(ious[n]), at, free[n]) for n in np.flatnonzero(ious >= _SAME_IOU).tolist()
            ]
        return sorted(pairs)

    def _changed(self, place: int, cell: DrawnCell) -> None:
        label = cell.label or self._called[place]
        meaning = self._meaning(cell, label)
        if meaning != self._meaning(cell, self._called[place]):
            if self._is_class(meaning) and meaning != self._class_of(place):
                self._edit("delete", place)
                self._draw(cell, meaning, "")
                self.changes.relabelled.append((self._called[place], label))
                return
            self._retype(place, UNCLASSIFIED if self._is_class(meaning) else meaning, label)
            if meaning == NOT_A_CELL:
                return
        known = self._boxes_xyxy[place].tolist()
        box = self._within(cell)
        if max(abs(a - b) for a, b in zip(known, box, strict=True)) > _MOVED_PX:
            self._edit("move", place, to_xyxy=box)
            self.changes.moved += 1

    def _retype(self, place: int, type_id: str, label: str) -> None:
        said = self._told.cells.types
        typed = said is not None and int(said.best[place]) >= 0
        if type_id == UNCLASSIFIED and not typed:
            return
        rank = self._told.cells.number_of(place) - 1
        facts = {"model_type": str(self._model_types[rank] or "")}
        if type_id == NOT_A_CELL:
            self._edit("not_a_cell", place, **facts)
        else:
            self._edit("retype", place, type_id=type_id, **facts)
        self.changes.relabelled.append((self._called[place], label))

    def _added(self, cell: DrawnCell) -> None:
        if not cell.label:
            raise ValueError(
                f"{cell.where} was drawn and has no name; call it one of {', '.join(self._names())}"
            )
        meaning = self._meaning(cell, cell.label)
        if meaning in (NOT_A_CELL, UNCLASSIFIED):
            raise ValueError(f"{cell.where} was drawn and is called {cell.label!r}; delete it")
        if self._is_class(meaning):
            self._draw(cell, meaning, "")
        else:
            self._draw(cell, self._typed_class(cell), meaning)
        self.changes.added += 1

    def _draw(self, cell: DrawnCell, label: str, type_id: str) -> None:
        box = self._within(cell)
        self.changes.edits.append(self._image.add(box, label, self._editor, type_id=type_id))

    def _edit(self, kind: str, place: int, **facts: object) -> None:
        rank = self._told.cells.number_of(place) - 1
        self.changes.edits.append(self._image.edit(kind, rank, self._editor, **facts))  # type: ignore[arg-type]

    def _within(self, cell: DrawnCell) -> tuple[float, float, float, float]:
        """The box of a drawn cell as far as it lies in the image."""
        width, height = self._told.width_px, self._told.height_px
        x_min, y_min, x_max, y_max = cell.box_xyxy
        box = max(x_min, 0.0), max(y_min, 0.0), min(x_max, width), min(y_max, height)
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"{cell.where} has no area in the image of {width} x {height} px")
        return box

    def _meaning(self, cell: DrawnCell, label: str) -> str:
        """The class or type that a name means."""
        name = label.strip().lower()
        if name == _IGNORED:
            return NOT_A_CELL
        if name.endswith(f"({UNCLASSIFIED})"):
            return UNCLASSIFIED
        for one in self._labels.classes:
            if name in (one.id.lower(), one.name.lower(), one.plural.lower()):
                return one.id
        if self._words is None:
            raise ValueError(f"{cell.where}: {label!r} is none of {', '.join(self._names())}")
        try:
            return self._words.id_of(label)
        except ValueError as error:
            raise ValueError(f"{cell.where}: {error}") from None

    def _names(self) -> Iterator[str]:
        every: Sequence[CellClass] = (*self._labels.classes, *self._labels.types)
        return (one.name for one in every)

    def _is_class(self, meaning: str) -> bool:
        return any(meaning == one.id for one in self._labels.classes)

    def _class_of(self, place: int) -> str:
        return self._labels.classes[int(self._told.cells.detections.labels[place])].id

    def _typed_class(self, cell: DrawnCell) -> str:
        """The class of cells that have a type."""
        labels, said = self._told.cells.detections.labels, self._told.cells.types
        typed: set[int] = set() if said is None else set(labels[said.best >= 0].tolist())
        fitting = {self._labels.classes[index].id for index in typed}
        white = {c.id for c in self._labels.classes if is_white(c.id)}
        for among in (fitting & white, fitting, white):
            if len(among) == 1:
                return among.pop()
        raise ValueError(f"{cell.where}: no class of the detector goes with {cell.label!r}")
