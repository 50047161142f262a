"""Results with people's corrections: each finds its cell again, or is reported as lost.

A cell is found by its lasting id. Where other settings gave other detections, it is the one that
overlaps the corrected cell best, by an IoU of 0.5 at least; each correction finds one cell and each
cell is found by one. What finds none does not count, and stays in the journal.

Shapes: N cells of a result, S corrected cells; boxes are float32 ``(N, 4)`` xyxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cellcount.core.boxes import pairwise_iou
from cellcount.core.cells import edge_of
from cellcount.core.records import BoxEdit, Cells, CellTypes, Detections, ImageResult, Review
from cellcount.store.cell_states import ADDED, CellState, cell_ids, cell_states
from cellcount.store.edits import Edit, EditKind, new_id

LEAST_IOU = 0.5
"""A detected cell that overlaps a corrected one by so much is the same cell."""


@dataclass(frozen=True, slots=True)
class Editor:
    """The person who edits, and the time.

    Attributes:
        name: as reviews are signed.
        made_at: when, ISO 8601 in UTC.
        source: name of the table that the edits are read from, "" for none.
    """

    name: str
    made_at: str
    source: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class CorrectedImage:
    """One image as people corrected it, and the edits that may be made to it.

    Attributes:
        key: content of the image.
        result: with what people did: boxes moved, cells added last, reviews and box edits.
        ids: lasting id of each of the N cells of the result.
        states: id → state, of each cell that was ever edited.
        classes: ids of the detector's classes.
    """

    key: str
    result: ImageResult
    ids: tuple[str, ...]
    states: Mapping[str, CellState] = field(default_factory=dict)
    classes: Sequence[str] = ()

    def version(self, place: int) -> int:
        """The last edit of a cell, which the next one must have seen; 0 where there is none."""
        state = self.states.get(self.ids[place])
        return 0 if state is None else state.version

    def identity(self, place: int) -> tuple[str, str]:
        """Key of a cell's edits: the content of its image, and its lasting id."""
        state = self.states.get(self.ids[place])
        return (self.key if state is None else state.image_key), self.ids[place]

    def edit(self, kind: EditKind, place: int, editor: Editor, **facts: object) -> Edit:
        """Make an edit of the cell at a place from 0; it is not yet stored in the journal.

        Args:
            kind: what is done; a cell is added by `add`.
            place: of the cell among those of the result.
            editor: who does it.
            facts: further attributes of `Edit`.
        """
        image_key, cell = self.identity(place)
        state = self.states.get(cell)
        detections = self.result.cells.detections
        found = tuple(detections.boxes_xyxy[place].tolist())
        return Edit(
            kind=kind,
            image_key=image_key,
            cell=cell,
            image=self.result.ref.image,
            rank=place,
            box_xyxy=found if state is None else state.found_xyxy,
            label=label_of(int(detections.labels[place]), self.classes),
            reviewer=editor.name,
            made_at=editor.made_at,
            source=editor.source,
            **facts,  # type: ignore[arg-type]  # as Edit declares them
        )

    def add(self, box_xyxy: Sequence[float], label: str, editor: Editor, **facts: object) -> Edit:
        """Make an edit that adds a cell which was not detected.

        Args:
            box_xyxy: where it is.
            label: class of the detector.
            editor: who saw it.
            facts: further attributes of `Edit`, such as ``type_id``.

        Raises:
            ValueError: the detector has no such class.
        """
        if label not in self.classes:
            raise ValueError(f"{label!r} is no class; known: {', '.join(self.classes)}")
        box = np.array([box_xyxy], np.float32)
        near = pairwise_iou(box, self.result.cells.detections.boxes_xyxy)[0] >= LEAST_IOU
        return Edit(
            kind="add",
            image_key=self.key,
            cell=f"{ADDED}{new_id()}",
            image=self.result.ref.image,
            rank=len(self.result.cells),
            box_xyxy=tuple(float(v) for v in box_xyxy),
            label=label,
            reviewer=editor.name,
            made_at=editor.made_at,
            source=editor.source,
            beside=tuple(self.ids[place] for place in np.flatnonzero(near)),
            **facts,  # type: ignore[arg-type]  # as Edit declares them
        )


def corrected(
    result: ImageResult, key: str, classes: Sequence[str], edits: Sequence[Edit]
) -> CorrectedImage:
    """Apply the edits of an image to its result.

    Args:
        result: as the models gave it.
        key: content of the image.
        classes: ids of the detector's classes.
        edits: of the image, the oldest first.
    """
    detections = result.cells.detections
    labels = [label_of(label, classes) for label in detections.labels.tolist()]
    ids = cell_ids(key, detections.boxes_xyxy.tolist(), labels)
    return with_states(CorrectedImage(key, result, tuple(ids), {}, classes), cell_states(edits))


def with_states(image: CorrectedImage, states: Mapping[str, CellState]) -> CorrectedImage:
    """Apply the states of corrected cells to the result of an image.

    Args:
        image: as the models gave it.
        states: of each cell that was ever edited, in the order of the first edits.
    """
    result, key, ids, classes = image.result, image.key, image.ids, image.classes
    detections = result.cells.detections
    if result.status != "done" or not states:
        return CorrectedImage(key, result, ids, states, classes)
    drawn = [s for s in states.values() if s.is_drawn and s.is_corrected]
    detected = [s for s in states.values() if not s.is_drawn]
    places = _found_places(detected, ids, detections.boxes_xyxy)
    places |= _taken_over(drawn, ids, detections.boxes_xyxy, set(places.values()))
    changed = _Changed(result, ids, classes)
    for state in (*detected, *drawn):
        if state.cell in places:
            changed.put(places[state.cell], state)
    for state in drawn:
        if state.cell not in places and state.label in classes:
            changed.append(state)
    return CorrectedImage(key, changed.result(), tuple(changed.ids), states, classes)


def label_of(index: int, classes: Sequence[str]) -> str:
    """Name of a class by its index; the index as text where the classes are not known."""
    return classes[index] if index < len(classes) else str(index)


def _found_places(
    states: Sequence[CellState], ids: Sequence[str], boxes_xyxy: NDArray[np.float32]
) -> dict[str, int]:
    """Id of each corrected cell that is found again → its place."""
    known = {cell: place for place, cell in enumerate(ids)}
    places = {s.cell: known[s.cell] for s in states if s.cell in known}
    lost = [s for s in states if s.cell not in places]
    return places | _best_overlaps(lost, boxes_xyxy, set(places.values()))


def _taken_over(
    drawn: Sequence[CellState],
    ids: Sequence[str],
    boxes_xyxy: NDArray[np.float32],
    taken: set[int],
) -> dict[str, int]:
    """Id of each drawn cell that is detected now, and was not when it was drawn → its place."""
    found: dict[str, int] = {}
    for state in drawn:
        beside = {place for place, cell in enumerate(ids) if cell in state.beside}
        found |= _best_overlaps([state], boxes_xyxy, taken | set(found.values()) | beside)
    return found


def _best_overlaps(
    states: Sequence[CellState], boxes_xyxy: NDArray[np.float32], taken: Iterable[int]
) -> dict[str, int]:
    """Id → place of the cell that overlaps best, each once, the best pair first."""
    if not states or not len(boxes_xyxy):
        return {}
    now, then = (
        np.array([getattr(s, name) for s in states], np.float32)
        for name in ("place_xyxy", "found_xyxy")
    )
    ious = np.maximum(pairwise_iou(now, boxes_xyxy), pairwise_iou(then, boxes_xyxy))  # (S, N)
    ious[:, sorted(taken)] = 0
    rows, columns = np.nonzero(ious >= LEAST_IOU)
    found: dict[str, int] = {}
    used = set[int]()
    for pair in np.lexsort((columns, rows, -ious[rows, columns])).tolist():
        cell, place = states[rows[pair]].cell, int(columns[pair])
        if cell not in found and place not in used:
            found[cell] = place
            used.add(place)
    return found


class _Changed:
    """Result under construction, to which corrections are applied."""

    def __init__(self, result: ImageResult, ids: Sequence[str], classes: Sequence[str]) -> None:
        cells = result.cells
        self.ids = list(ids)
        self._result, self._classes = result, classes
        self._boxes_xyxy = [*cells.detections.boxes_xyxy]
        self._labels = cells.detections.labels.tolist()
        self._scores = cells.detections.scores.tolist()
        self._edge = cells.edge.tolist()
        self._reviewed: dict[int, Review] = {}
        self._edits: dict[int, BoxEdit] = {}

    def put(self, place: int, state: CellState) -> None:
        """Apply the corrections of a detected cell."""
        self.ids[place] = state.cell
        if state.box_edit is not None:
            self._edits[place] = state.box_edit
            if state.box_edit.change in ("moved", "added"):
                self._move(place, state)
        if state.review is not None and not state.is_removed:
            self._reviewed[place] = state.review
        if state.added and state.label in self._classes:
            self._labels[place] = self._classes.index(state.label)

    def append(self, state: CellState) -> None:
        """Add a cell that a person drew, after all others."""
        place = len(self.ids)
        self.ids.append(state.cell)
        self._boxes_xyxy.append(np.zeros(4, np.float32))
        self._edge.append(False)
        self._scores.append(float("nan"))
        self._labels.append(0)
        self.put(place, state)

    def _move(self, place: int, state: CellState) -> None:
        box_xyxy = np.array(state.place_xyxy, np.float32)
        self._boxes_xyxy[place] = box_xyxy
        size = (self._result.width_px, self._result.height_px)
        self._edge[place] = bool(edge_of(box_xyxy[None], *size)[0])

    def result(self) -> ImageResult:
        """Return the result with all corrections made."""
        count, types = len(self.ids), self._result.cells.types
        detections = Detections(
            np.array(self._boxes_xyxy, np.float32).reshape(count, 4),
            np.array(self._scores, np.float32),
            np.array(self._labels, np.int64),
        )
        if types is not None:
            types = _longer(types, count)
        done = {*self._reviewed, *self._edits}
        return replace(
            self._result,
            cells=Cells(detections, np.array(self._edge, np.bool_), types),
            reviewed=dict(sorted(self._reviewed.items())),
            box_edits=dict(sorted(self._edits.items())),
            corrections=frozenset(self.ids[place] for place in done),
        )


def _longer(types: CellTypes, count: int) -> CellTypes:
    """Append untyped cells until there are ``count``."""
    more = CellTypes.untyped(count - len(types))
    names = ("best", "prob", "second", "second_prob", "accepted")
    return CellTypes(*(np.concatenate([getattr(t, n) for t in (types, more)]) for n in names))
