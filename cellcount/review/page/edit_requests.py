"""Conversion of the page's edit requests into edits of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcount.core.records import UNCLASSIFIED
from cellcount.review.page.messages import RefusedError, box_of, list_of, text_of, whole_of
from cellcount.review.page.undo_stacks import batch_uid
from cellcount.review.page.workbench import Workbench
from cellcount.store.corrected import CorrectedImage, Editor
from cellcount.store.edits import Edit

MOST_EDITS = 2000
_OF_A_CELL = ("retype", "not_a_cell", "delete", "move", "comment")


def edits_asked_for(
    bench: Workbench, number: int, editor: Editor, batch: str, said: Mapping[str, Any]
) -> tuple[list[Edit], dict[str, int]]:
    """Make the edits of a request.

    Args:
        bench: the run.
        number: of the slide on which they are made.
        editor: who makes them.
        batch: id of the request.
        said: its body.

    Returns:
        The edits, and the version of each cell that the person saw.

    Raises:
        RefusedError: one is of no cell of the slide, or not as it should be.
    """
    edits: list[Edit] = []
    seen: dict[str, int] = {}
    for at, one in enumerate(list_of(said, "edits", most=MOST_EDITS)):
        image = whole_of(one, "image")
        if bench.slide_of_image(image) != number:
            raise RefusedError("the image is of another slide", 404)
        kept, uid = bench.kept(image), batch_uid(batch, at)
        if one.get("kind") == "add":
            edits.append(_added(bench, kept, editor, one, uid))
            continue
        place = bench.place_of(image, text_of(one, "cell"))
        edits.append(_changed(bench, kept, place, editor, one | {"uid": uid}))
        seen.setdefault(kept.ids[place], whole_of(one, "version"))
    return edits, seen


def _changed(
    bench: Workbench, kept: CorrectedImage, place: int, editor: Editor, one: Mapping[str, Any]
) -> Edit:
    """Make an edit of an existing cell."""
    kind, comment = one.get("kind"), text_of(one, "comment")
    facts: dict[str, Any] = {"uid": one["uid"], "comment": comment}
    facts["model_type"] = _model_type(bench, kept, place)
    if kind == "retype":
        facts["type_id"] = _type_of(bench, one)
        if facts["type_id"] == UNCLASSIFIED and not facts["model_type"]:
            raise RefusedError("the classifier did not type this cell, so it cannot be left open")
    elif kind == "move":
        facts["to_xyxy"] = box_of(one, "box", _size_of(kept))
    elif kind == "comment" and not comment:
        raise RefusedError("a comment is expected")
    elif kind not in _OF_A_CELL:
        raise RefusedError(f"kind must be one of {', '.join((*_OF_A_CELL, 'add'))}")
    return kept.edit(kind, place, editor, **facts)


def _added(
    bench: Workbench, kept: CorrectedImage, editor: Editor, one: Mapping[str, Any], uid: str
) -> Edit:
    label = text_of(one, "label")
    if label not in kept.classes:
        raise RefusedError(f"label must be one of {', '.join(kept.classes)}")
    facts: dict[str, Any] = {"uid": uid, "comment": text_of(one, "comment")}
    if one.get("type"):
        facts["type_id"] = _type_of(bench, one)
        if facts["type_id"] == UNCLASSIFIED:
            raise RefusedError("a cell that is added cannot be unclassified; leave its type out")
    return kept.add(box_of(one, "box", _size_of(kept)), label, editor, **facts)


def _type_of(bench: Workbench, one: Mapping[str, Any]) -> str:
    name = text_of(one, "type")
    if name not in bench.type_index or len(bench.types) < 2:
        raise RefusedError("type must be one of the run's types")
    return name


def _size_of(kept: CorrectedImage) -> tuple[int, int]:
    return kept.result.width_px, kept.result.height_px


def _model_type(bench: Workbench, kept: CorrectedImage, place: int) -> str:
    """The classifier's type of a cell, as ``cells.csv`` has it; "" where it was not typed."""
    said = kept.result.cells.types
    if said is None or said.best[place] < 0:
        return ""
    return bench.types[int(said.best[place])].id if said.accepted[place] else UNCLASSIFIED
