"""Remarks of people that are no corrections of cells: flags, approvals, second readings.

Like edits they are only ever added to; what holds now is derived from all of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cellcount.store.edits import decode, encode, new_id

RemarkKind = Literal["flag", "approve", "reopen", "reading", "settle", "keys"]

REMARK_TABLE = """
CREATE TABLE IF NOT EXISTS remark (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, subject BLOB NOT NULL,
    person TEXT NOT NULL, made_at TEXT NOT NULL, facts TEXT NOT NULL
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One statement of a person on a slide, a field, a cell, or the keys of the page.

    Attributes:
        kind: ``flag`` marks a field, ``approve`` signs off a slide and ``reopen`` takes that back,
            ``reading`` is a blind second reading of a cell, ``settle`` the consensus on one, and
            ``keys`` the layout of a person's keyboard.
        subject: what it is about: the key of an image, a slide, a cell, or a person.
        person: who said so.
        made_at: when, ISO 8601 in UTC.
        facts: what was said, JSON-ready.
        uid: its own id; a remark that is there already is not added again.
    """

    kind: RemarkKind
    subject: str
    person: str
    made_at: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=new_id)


def slide_subject(specimen: str, slide: str) -> str:
    """Key that names a slide in remarks."""
    return json.dumps([specimen, slide])


def insert_remarks(connection: sqlite3.Connection, remarks: Iterable[Remark]) -> None:
    """Add remarks within the caller's transaction; those that are there are passed over."""
    connection.executemany(
        "INSERT OR IGNORE INTO remark (uid, kind, subject, person, made_at, facts) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (r.uid, r.kind, encode(r.subject), r.person, r.made_at, json.dumps(dict(r.facts)))
            for r in remarks
        ],
    )


def all_remarks(connection: sqlite3.Connection, kind: RemarkKind | None = None) -> list[Remark]:
    """Every remark, or those of one kind, the oldest first."""
    rows = connection.execute(
        "SELECT uid, kind, subject, person, made_at, facts FROM remark "
        "WHERE ? IN (kind, '') ORDER BY id",
        (kind or "",),
    )
    return [
        Remark(
            uid=uid,
            kind=said,
            subject=decode(subject),
            person=person,
            made_at=made_at,
            facts=json.loads(facts),
        )
        for uid, said, subject, person, made_at, facts in rows
    ]
