"""Corrections as they lie in the journal: a table of edits that is only ever added to.

An edit is of one cell of one image: the image is known by its content, the cell by an id that
lasts. Undoing is a further edit. What counts now is derived from the edits alone (see
`cellcount.store.cell_states`).

Shapes: boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cellcount.errors import EditConflictError

EditKind = Literal["retype", "not_a_cell", "move", "add", "delete", "comment", "undo"]

TABLE = """
CREATE TABLE edit (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, image_key BLOB NOT NULL, cell TEXT NOT NULL,
    version INTEGER NOT NULL, kind TEXT NOT NULL, image BLOB NOT NULL, rank INTEGER NOT NULL,
    box TEXT NOT NULL, label TEXT NOT NULL, facts TEXT NOT NULL, reviewer TEXT NOT NULL,
    made_at TEXT NOT NULL, comment TEXT NOT NULL, source TEXT NOT NULL,
    UNIQUE (image_key, cell, version)
)
"""
_COLUMNS = (
    "uid, image_key, cell, version, kind, image, rank, box, label, facts, reviewer, made_at, "
    "comment, source"
)


def new_id() -> str:
    """Make an id that no other edit or added cell has, here or in another journal."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One correction of one cell by one person, which a later edit may undo.

    Attributes:
        kind: what was done: ``retype`` names the cell's type, ``not_a_cell`` and ``delete`` take
            it out, ``move`` gives it another box, ``add`` draws a cell, ``comment`` says
            something, ``undo`` takes another edit of the cell back (or an undoing of it).
        image_key: content of the image, as `image_key` names it.
        cell: lasting id of the cell.
        image: what the image was called then.
        rank: place of the cell among those of the image then, from 0.
        box_xyxy: where the cell was detected or, of an added one, drawn.
        label: class of the detector that it was detected or drawn as.
        reviewer: who it was.
        made_at: when, ISO 8601 in UTC.
        type_id: of ``retype``, and of ``add`` where the person named it, the type.
        to_xyxy: of ``move``, the new box.
        undoes: of ``undo``, the uid of the edit that is taken back.
        beside: of ``add``, ids of detected cells that it overlaps and yet is none of.
        model_type: what the classifier called the cell then; "" where it had not typed it.
        comment: as the person wrote it.
        source: name of the table that said so, "" where there was none.
        uid: its own id; an edit that is there already is not added again.
        version: which edit of its cell it is, from 1; 0 until the journal has it.
    """

    kind: EditKind
    image_key: str
    cell: str
    image: str
    rank: int
    box_xyxy: tuple[float, ...]
    label: str
    reviewer: str
    made_at: str
    type_id: str = ""
    to_xyxy: tuple[float, ...] = ()
    undoes: str = ""
    beside: tuple[str, ...] = ()
    model_type: str = ""
    comment: str = ""
    source: str = ""
    uid: str = field(default_factory=new_id)
    version: int = 0

    def __post_init__(self) -> None:
        needs = {"retype": self.type_id, "move": self.to_xyxy, "undo": self.undoes}
        if not needs.get(self.kind, True):
            raise ValueError(f"{self.kind} of cell {self.cell} does not say to what")
        box = self.box_xyxy if self.kind == "add" else self.to_xyxy
        if box and (len(box) != 4 or not (box[0] < box[2] and box[1] < box[3])):
            raise ValueError(f"the box {box} of cell {self.cell} has no area")


def has_edits(connection: sqlite3.Connection) -> bool:
    """Return whether a person has corrected anything."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM edit)").fetchone()[0])


def add_edits(
    connection: sqlite3.Connection, edits: Iterable[Edit], seen: Mapping[str, int] | None = None
) -> list[Edit]:
    """Add edits within the caller's transaction; returns the new ones with their versions.

    Args:
        connection: of the journal.
        edits: in their order; those that are there already are passed over.
        seen: cell → version that the person saw; cells that are not named are not checked.

    Raises:
        EditConflictError: a cell was edited since the person saw it; nothing is added.
    """
    known = "SELECT 1 FROM edit WHERE uid = ?"
    new = [e for e in edits if connection.execute(known, (e.uid,)).fetchone() is None]
    checked, added = dict(seen or {}), []
    for edit in new:
        version = _version(connection, edit)
        if checked.pop(edit.cell, version) != version:
            raise EditConflictError(edit.cell, _reviewer(connection, edit))
        insert_edit(connection, edit, version + 1)
        added.append(replace(edit, version=version + 1))
    return added


def insert_edit(connection: sqlite3.Connection, edit: Edit, version: int) -> None:
    """Add one edit as the given version of its cell, within the caller's transaction."""
    facts = {
        "type": edit.type_id,
        "to": edit.to_xyxy,
        "undoes": edit.undoes,
        "beside": edit.beside,
        "model_type": edit.model_type,
    }
    row = (
        edit.uid,
        encode(edit.image_key),
        edit.cell,
        version,
        edit.kind,
        encode(edit.image),
        edit.rank,
        json.dumps(edit.box_xyxy),
        edit.label,
        json.dumps({name: fact for name, fact in facts.items() if fact}),
        edit.reviewer,
        edit.made_at,
        edit.comment,
        edit.source,
    )
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO edit ({_COLUMNS}) VALUES ({places})", row)


def _version(connection: sqlite3.Connection, edit: Edit) -> int:
    query = "SELECT coalesce(max(version), 0) FROM edit WHERE image_key = ? AND cell = ?"
    return int(connection.execute(query, (encode(edit.image_key), edit.cell)).fetchone()[0])


def _reviewer(connection: sqlite3.Connection, edit: Edit) -> str:
    query = (
        "SELECT reviewer FROM edit WHERE image_key = ? AND cell = ? ORDER BY version DESC LIMIT 1"
    )
    row = connection.execute(query, (encode(edit.image_key), edit.cell)).fetchone()
    return "" if row is None else str(row[0])


def all_edits(connection: sqlite3.Connection) -> list[Edit]:
    """Every edit ever made, the oldest first."""
    return _found(connection, "", ())


def edits_of(connection: sqlite3.Connection, image_keys: Sequence[str]) -> list[Edit]:
    """The edits of an image, which may be known by several keys; the oldest first."""
    places = ", ".join("?" * len(image_keys))
    return _found(connection, f"WHERE image_key IN ({places})", [encode(key) for key in image_keys])


def _found(connection: sqlite3.Connection, where: str, values: Sequence[bytes]) -> list[Edit]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM edit {where} ORDER BY id", values)
    return [_edit_of(row) for row in rows]


def _edit_of(row: Sequence[Any]) -> Edit:
    uid, key, cell, version, kind, image, rank, box, label, stored, *said = row
    facts = json.loads(stored)
    reviewer, made_at, comment, source = said
    return Edit(
        kind=kind,
        image_key=decode(key),
        cell=cell,
        image=decode(image),
        rank=rank,
        box_xyxy=tuple(json.loads(box)),
        label=label,
        reviewer=reviewer,
        made_at=made_at,
        type_id=facts.get("type", ""),
        to_xyxy=tuple(facts.get("to", ())),
        undoes=facts.get("undoes", ""),
        beside=tuple(facts.get("beside", ())),
        model_type=facts.get("model_type", ""),
        comment=comment,
        source=source,
        uid=uid,
        version=version,
    )


def encode(text: str) -> bytes:
    """A name as bytes: a file name may hold bytes that are no valid UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """Return the text that `encode` was given."""
    return data.decode("utf-8", "surrogatepass")
