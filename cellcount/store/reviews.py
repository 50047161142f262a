"""How reviews of cells lie in the journal: rows that are only ever added, so the history stays.

A review belongs to a cell by its image, its place there and its box. Where an image is analysed
again and another cell stands in that place, the review stays in the history and counts no more.

Shapes: boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cellcount.core.records import ImageResult, Review

_TABLE = """
CREATE TABLE IF NOT EXISTS review (
    id INTEGER PRIMARY KEY, image BLOB NOT NULL, cell INTEGER NOT NULL, box TEXT NOT NULL,
    model_type TEXT NOT NULL, type TEXT NOT NULL, reviewer TEXT NOT NULL,
    reviewed_at TEXT NOT NULL, comment TEXT NOT NULL, source TEXT NOT NULL
)
"""
_COLUMNS = "image, cell, box, model_type, type, reviewer, reviewed_at, comment, source"
_SAME_PX = 0.005  # boxes are rounded to 0.01 px


@dataclass(frozen=True, slots=True)
class StoredReview:
    """One review as it was given, whatever came of it later.

    Attributes:
        image: identity of the image.
        cell: place of the cell there, from 0.
        box_xyxy: its box at the time.
        model_type: what the model called it then; "" where it had not typed it.
        review: what was said.
        source: name of the table that said so.
    """

    image: str
    cell: int
    box_xyxy: tuple[float, ...]
    model_type: str
    review: Review
    source: str


def has_reviews(connection: sqlite3.Connection) -> bool:
    """Whether anything was reviewed."""
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'review'"
    return bool(
        connection.execute(query).fetchone()[0]
        and connection.execute("SELECT count(*) FROM review").fetchone()[0]
    )


def add_reviews(connection: sqlite3.Connection, reviews: Iterable[StoredReview]) -> None:
    """Add them all, or none where the disk is full or the power fails."""
    rows = [
        (
            encode(one.image),
            one.cell,
            json.dumps(one.box_xyxy),
            one.model_type,
            one.review.type_id,
            one.review.reviewer,
            one.review.reviewed_at,
            one.review.comment,
            one.source,
        )
        for one in reviews
    ]
    connection.execute("BEGIN EXCLUSIVE")
    try:
        connection.execute(_TABLE)
        connection.execute("CREATE INDEX IF NOT EXISTS review_image ON review (image)")
        places = ", ".join("?" * len(_COLUMNS.split(",")))
        connection.executemany(f"INSERT INTO review ({_COLUMNS}) VALUES ({places})", rows)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def all_reviews(connection: sqlite3.Connection) -> list[StoredReview]:
    """The history, oldest first."""
    return _found(connection, "", ())


def reviews_of(connection: sqlite3.Connection, result: ImageResult) -> dict[int, Review]:
    """The latest review of each cell of a result that still is the cell that was reviewed."""
    boxes_xyxy, latest = result.cells.detections.boxes_xyxy, dict[int, Review]()
    for one in _found(connection, "WHERE image = ?", (encode(result.ref.image),)):
        if one.cell < len(boxes_xyxy):
            box_xyxy = np.array(one.box_xyxy)
            if np.abs(boxes_xyxy[one.cell] - box_xyxy).max() <= _SAME_PX:
                latest[one.cell] = one.review
    return dict(sorted(latest.items()))


def _found(
    connection: sqlite3.Connection, condition: str, values: tuple[bytes, ...]
) -> list[StoredReview]:
    query = f"SELECT {_COLUMNS} FROM review {condition} ORDER BY id"
    return [
        StoredReview(
            image=decode(image),
            cell=cell,
            box_xyxy=tuple(json.loads(box)),
            model_type=model_type,
            review=Review(type_id, reviewer, reviewed_at, comment),
            source=source,
        )
        for image, cell, box, model_type, type_id, reviewer, reviewed_at, comment, source in (
            connection.execute(query, values)
        )
    ]


def encode(text: str) -> bytes:
    """A name as bytes: a file name may hold bytes that are no valid UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """What `encode` was given."""
    return data.decode("utf-8", "surrogatepass")
