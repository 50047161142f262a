"""State of each corrected cell, derived from its edits alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cellcount.core.records import BoxChange, BoxEdit, Review
from cellcount.store.edits import Edit

ADDED = "a-"
"""Prefix of the ids of cells that a person drew; ids of detected cells begin with ``d-``."""

_REMOVING: dict[str, BoxChange] = {"not_a_cell": "not_a_cell", "delete": "deleted"}


@dataclass(frozen=True, slots=True)
class CellState:
    """One cell as its edits left it.

    Attributes:
        cell: its lasting id.
        image_key: of its image.
        image: what the image was called when the cell was edited last.
        found_xyxy: where it was detected or, of an added one, drawn.
        place_xyxy: where it is now.
        label: class of the detector.
        added: whether a person drew it, and has not taken that back.
        version: its last edit, which the next one must have seen.
        review: its type, as far as a person named it.
        box_edit: what was done to it besides; None where nothing was.
        comment: the last words about it.
        beside: ids of detected cells that overlap it and yet are others.
    """

    cell: str
    image_key: str
    image: str
    found_xyxy: tuple[float, ...]
    place_xyxy: tuple[float, ...]
    label: str
    added: bool = False
    version: int = 0
    review: Review | None = None
    box_edit: BoxEdit | None = None
    comment: str = ""
    beside: tuple[str, ...] = ()

    @property
    def is_drawn(self) -> bool:
        """Whether a person added the cell, even if it was taken back since."""
        return self.cell.startswith(ADDED)

    @property
    def is_corrected(self) -> bool:
        """Whether it differs from the models' result, or was confirmed."""
        if self.is_drawn:
            return self.added and not self.is_removed
        return self.review is not None or self.box_edit is not None

    @property
    def is_removed(self) -> bool:
        """Whether it does not count any more."""
        return self.box_edit is not None and self.box_edit.removes


def cell_ids(
    image_key: str, boxes_xyxy: Iterable[Sequence[float]], labels: Sequence[str]
) -> list[str]:
    """Give detected cells lasting ids: the same detection on the same content has the same id.

    Args:
        image_key: content of the image.
        boxes_xyxy: of the cells, rounded to 0.01 px as results have them.
        labels: class of each.
    """
    ids, taken = [], Counter[str]()
    for box_xyxy, label in zip(boxes_xyxy, labels, strict=True):
        box = ",".join(f"{v:.2f}" for v in box_xyxy)
        text = f"{image_key}\n{label}\n{box}".encode("utf-8", "surrogatepass")
        cell = f"d-{hashlib.sha256(text).hexdigest()[:16]}"
        taken[cell] += 1
        ids.append(cell if taken[cell] == 1 else f"{cell}~{taken[cell]}")
    return ids


def cell_states(edits: Sequence[Edit]) -> dict[str, CellState]:
    """Derive the state of every cell that was ever edited, by its id.

    Args:
        edits: of one or several images, the oldest first; those of one reviewer give what this
            one alone said.
    """
    counting = _not_undone(edits)
    states: dict[str, CellState] = {}
    for edit in edits:
        state = states.get(edit.cell) or _untouched(edit)
        if edit.uid in counting:
            state = _after(state, edit)
        states[edit.cell] = replace(
            state, version=edit.version, image_key=edit.image_key, image=edit.image
        )
    return states


def _not_undone(edits: Sequence[Edit]) -> set[str]:
    """Uids of the edits that count: an undo cancels the edit it names, even another undo."""
    undone, counting = set[str](), set[str]()
    for edit in reversed(edits):
        if edit.uid in undone:
            continue
        counting.add(edit.uid)
        if edit.kind == "undo":
            undone.add(edit.undoes)
    return counting


def _untouched(edit: Edit) -> CellState:
    box_xyxy = edit.box_xyxy
    return CellState(edit.cell, edit.image_key, edit.image, box_xyxy, box_xyxy, edit.label)


def _after(state: CellState, edit: Edit) -> CellState:
    """State of a cell after an edit."""
    comment = edit.comment or state.comment
    if edit.kind == "comment":
        return replace(state, comment=comment)
    if edit.kind == "retype":
        # Whoever names the type of a cell that was taken out says that it is one.
        kept = None if state.is_removed else state.box_edit
        return replace(state, review=_review(edit), box_edit=kept, comment=comment)
    if edit.kind in _REMOVING:
        return replace(state, box_edit=_box_edit(_REMOVING[edit.kind], edit), comment=comment)
    if edit.kind == "move":
        change: BoxChange = "added" if state.added else "moved"
        return replace(
            state, place_xyxy=edit.to_xyxy, box_edit=_box_edit(change, edit), comment=comment
        )
    if edit.kind == "add":
        return replace(
            state,
            added=True,
            review=_review(edit) if edit.type_id else None,
            box_edit=_box_edit("added", edit),
            comment=comment,
            beside=edit.beside,
        )
    return state


def _review(edit: Edit) -> Review:
    return Review(edit.type_id, edit.reviewer, edit.made_at, edit.comment)


def _box_edit(change: BoxChange, edit: Edit) -> BoxEdit:
    return BoxEdit(change, edit.reviewer, edit.made_at, edit.comment)
