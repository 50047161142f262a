"""Journals of an earlier schema are brought to the present one, in one transaction.

Schema 3, of version 0.1.0, kept reviews of types by the image's name and the cell's place and box.
They become edits of the image's content. A review that counted before counts afterwards; one whose
cell had become another stays in the history, as it did.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cellcount.core.records import ImageResult
from cellcount.store.cell_states import cell_ids
from cellcount.store.corrected import label_of
from cellcount.store.edits import TABLE, Edit, decode, encode, insert_edit
from cellcount.store.file_key import image_key, name_key
from cellcount.store.results import result_of

BEFORE = 3
_REVIEW_COLUMNS = "image, cell, box, model_type, type, reviewer, reviewed_at, comment, source"
_SAME_PX = 0.005  # boxes are rounded to 0.01 px
_LOST = "lost:"  # key of an image that no run has: the file changed since


class _Known(NamedTuple):
    """A result of an image: the key it has from now on, its boxes, and ids of its cells."""

    key: str
    result: ImageResult
    ids: Sequence[str]
    labels: Sequence[str]


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a journal of schema 3 to the present one; the caller's transaction makes it whole."""
    connection.execute(TABLE)
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'review'"
    if connection.execute(query).fetchone()[0]:
        versions = Counter[tuple[str, str]]()
        for edit in list(_edits(connection)):
            versions[edit.image_key, edit.cell] += 1
            insert_edit(connection, edit, versions[edit.image_key, edit.cell])
        connection.execute("DROP TABLE review")
    connection.execute(f"PRAGMA user_version = {version}")


def _edits(connection: sqlite3.Connection) -> Iterator[Edit]:
    """The reviews as edits, the oldest first."""
    rows = connection.execute(f"SELECT {_REVIEW_COLUMNS} FROM review ORDER BY id").fetchall()
    known = {image: _known(connection, decode(image)) for image in {row[0] for row in rows}}
    times = Counter[str]()
    for row in rows:
        image, cell, box, model_type, type_id, reviewer, made_at, comment, source = row
        name, box_xyxy = decode(image), tuple(json.loads(box))
        key, cell_id, label = _place(known[image], name, cell, box_xyxy)
        text = json.dumps([name, *row[1:]])
        times[text] += 1
        uid = hashlib.sha256(f"{times[text]}\n{text}".encode()).hexdigest()[:16]
        yield Edit(
            kind="retype",
            image_key=key,
            cell=cell_id,
            image=name,
            rank=cell,
            box_xyxy=box_xyxy,
            label=label,
            reviewer=reviewer,
            made_at=made_at,
            type_id=type_id,
            model_type=model_type,
            comment=comment,
            source=source,
            uid=uid,  # the same in every copy of the journal
        )


def _known(connection: sqlite3.Connection, image: str) -> list[_Known]:
    """The results of an image, those of the last settings first."""
    query = (
        "SELECT record, cells, content, settings.json FROM result JOIN settings ON "
        "settings.id = result.settings WHERE image = ? ORDER BY settings.id = ("
        "SELECT CAST(json AS INTEGER) FROM value WHERE settings = 0 AND name = ?) DESC"
    )
    found = []
    for *row, sha256, settings in connection.execute(query, (encode(image), b"last settings")):
        result = result_of((row[0], row[1]), None)
        key = image_key(sha256, result.ref.page, image)
        detections = result.cells.detections
        classes = json.loads(settings).get("classes") or ()
        labels = [label_of(label, classes) for label in detections.labels.tolist()]
        ids = cell_ids(key, detections.boxes_xyxy.tolist(), labels)
        if _has_copy(connection, sha256, image):
            key = name_key(image)  # what was said of one of them was not said of the others
        found.append(_Known(key, result, ids, labels))
    return found


def _has_copy(connection: sqlite3.Connection, sha256: str, image: str) -> bool:
    """Return whether another file has the same content; pages of one file are no copies."""
    query = "SELECT image FROM result WHERE content = ? AND content != ''"
    name = image.partition("#page=")[0]
    found = {decode(row[0]) for row in connection.execute(query, (sha256,))}
    return any(other.partition("#page=")[0] != name for other in found)


def _place(
    known: Sequence[_Known], image: str, cell: int, box_xyxy: tuple[float, ...]
) -> tuple[str, str, str]:
    """Key of the image, id of the cell and its class; those of no cell where it is gone."""
    for one in known:
        boxes_xyxy = one.result.cells.detections.boxes_xyxy
        same = np.abs(boxes_xyxy[cell : cell + 1] - np.array(box_xyxy)) <= _SAME_PX
        if len(same) and same.all():
            return one.key, one.ids[cell], one.labels[cell]
    key = f"{_LOST}{image}" if known else name_key(image)
    return key, cell_ids(key, [box_xyxy], [""])[0], ""
