"""Undo and redo of unlimited depth for each person, derived from the journal's edits.

Edits that were made together are undone together. An undoing is itself an edit, so what was undone
can be done again, and nothing is ever removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from cellcount.store.corrected import Editor
from cellcount.store.edits import Edit


def batch_uid(batch: str, place: int) -> str:
    """Id of an edit, from the id of its batch and its place there."""
    return f"{batch}-{place}"


def _batch(edit: Edit) -> tuple[str, str]:
    return edit.reviewer, edit.uid.partition("-")[0]


@dataclass(slots=True)
class _Stack:
    """Batches of edits that a person may undo and redo on a slide, the latest last."""

    undo: list[tuple[Edit, ...]] = field(default_factory=list)
    redo: list[tuple[Edit, ...]] = field(default_factory=list)

    def learn(self, batch: tuple[Edit, ...]) -> None:
        if batch[0].kind != "undo":
            self.undo.append(batch)
            self.redo.clear()
            return
        undone = {edit.undoes for edit in batch}
        if self.undo and {e.uid for e in self.undo[-1]} == undone:
            self.undo.pop()
            self.redo.append(batch)
        elif self.redo and {e.uid for e in self.redo[-1]} == undone:
            self.redo.pop()
            self.undo.append(batch)


class UndoStacks:
    """Batches that each person may undo and redo on each slide.

    Args:
        edits: of the journal, the oldest first; tables that were applied are not undone here.
        slide_of: name of an image → its slide, None where the run does not have it.
    """

    def __init__(self, edits: Iterable[Edit], slide_of: Callable[[str], int | None]) -> None:
        self._slide_of = slide_of
        self._stacks: dict[tuple[str, int], _Stack] = {}
        own = (edit for edit in edits if "-" in edit.uid)
        for _, batch in groupby(own, _batch):
            self.learn(tuple(batch))

    def learn(self, batch: Sequence[Edit]) -> None:
        """Take in edits that were made together."""
        slide = self._slide_of(batch[0].image) if batch else None
        if slide is not None:
            key = (batch[0].reviewer, slide)
            self._stacks.setdefault(key, _Stack()).learn(tuple(batch))

    def depth(self, person: str, slide: int) -> tuple[int, int]:
        """Return the number of steps that a person may undo, and redo."""
        stack = self._stacks.get((person, slide), _Stack())
        return len(stack.undo), len(stack.redo)

    def taking_back(
        self, editor: Editor, slide: int, batch: str, *, redo: bool
    ) -> tuple[list[Edit], dict[str, int]]:
        """Make the edits that undo or redo the last batch; none where there is nothing.

        Args:
            editor: whose.
            slide: on which.
            batch: id of the new edits.
            redo: do again what was undone last.

        Returns:
            The edits, and the version of each cell that must not have changed since.
        """
        stack = self._stacks.get((editor.name, slide), _Stack())
        last = stack.redo if redo else stack.undo
        if not last:
            return [], {}
        seen: dict[str, int] = {}
        for edit in last[-1]:
            seen[edit.cell] = max(seen.get(edit.cell, 0), edit.version)
        return [
            replace(
                edit,
                kind="undo",
                reviewer=editor.name,
                made_at=editor.made_at,
                type_id="",
                to_xyxy=(),
                beside=(),
                comment="",
                undoes=edit.uid,
                uid=batch_uid(batch, place),
                version=0,
            )
            for place, edit in enumerate(reversed(last[-1]))
        ], seen
