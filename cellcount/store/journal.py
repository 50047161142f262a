"""The journal of a run: one SQLite file in which every finished image is stored once.

All tables are pure functions of it, so an interrupted run loses nothing and goes on where it
stopped. Each image is one atomic commit. Results are kept by the settings that made them: with
other settings images are analysed again, and what the earlier settings gave stays.

Shapes: none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

from cellcount.core.records import ImageRef, ImageResult, path_order
from cellcount.errors import JournalError
from cellcount.files.locks import holder_file, leave_note
from cellcount.store.cell_states import CellState, cell_states
from cellcount.store.changed_settings import Json, differences
from cellcount.store.corrected import CorrectedImage, corrected
from cellcount.store.edits import (
    Edit,
    add_edits,
    all_edits,
    decode,
    edits_of,
    encode,
    has_edits,
)
from cellcount.store.file_key import FileKey, image_key, key_of, name_key, still_holds
from cellcount.store.journal_file import (
    DamagedError,
    check_identity,
    connect,
    discard,
    explained,
    identity_of,
    prepare,
)
from cellcount.store.remarks import Remark, RemarkKind, all_remarks, insert_remarks
from cellcount.store.results import pack, record_of, result_of

ImageState = Literal["done", "failed", "changed", "new"]
Row = tuple[bytes, str, str, str, str, str, bytes]
"""A result as it is stored, of whatever settings."""

_COLUMNS = "image, given, state, content, status, record, cells"
_EVERY = 0  # settings of values that are not tied to any
_LAST, _SHARD = "last settings", "shard"


JOURNAL_SUFFIX = ".journal.sqlite"
"""Ends the name of every journal."""


def journal_path(out: Path) -> Path:
    """Return the path of the journal of ``counts.csv``: ``counts.journal.sqlite`` beside it."""
    return out.with_name(out.stem + JOURNAL_SUFFIX)


class Journal:
    """Finished images of one run, on disk. Use ``Journal.open`` and ``with``.

    Attributes:
        path: the file.
        settings: what decides its numbers, JSON-ready.
        shard: ``3/8``, or "" for a run of all images.
        differences: a line per setting that differs from those of the run before, none where
            that had the same.
        left_behind: who held it before and died with it, "" where nobody did.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, left_behind: str = "") -> None:
        self.path = path
        self.settings: dict[str, Any] = {}
        self.shard = ""
        self.differences: tuple[str, ...] = ()
        self.left_behind = left_behind
        self._connection = connection
        self._identity = identity_of(path)
        self._settings_id = self._earlier_id = _EVERY
        self._lock = Lock()
        self._closed = False

    @classmethod
    def open(
        cls, path: Path, fingerprint: dict[str, Any], *, fresh: bool = False, shard: str = ""
    ) -> Journal:
        """Start a journal, or continue the one that is there.

        Args:
            path: the SQLite file, usually ``journal_path(out)``.
            fingerprint: all that decides the numbers, JSON-ready: settings, weights' hashes,
                classes, version.
            fresh: forget what an existing journal holds.
            shard: which part of the images this is, as ``Shard`` is written, "" for all.

        Raises:
            JournalError: it is of another shard, in use, damaged, or not a journal.
        """
        if fresh:
            discard(path)
        journal = cls._locked(path)
        try:
            with explained(path):
                journal._begin(json.loads(json.dumps(fingerprint)), shard)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def reopen(cls, path: Path, *, work: str = "") -> Journal:
        """The journal of an earlier run with the settings that it had last.

        Args:
            path: the SQLite file.
            work: what others are told that it is in use for.

        Raises:
            JournalError: there is none, or it is in use, damaged, or not a journal.
        """
        if not path.is_file():
            raise JournalError(f"there is no journal {path}; run its part of the images first")
        journal = cls._locked(path, work)
        try:
            with explained(path):
                journal._go_on()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def _locked(cls, path: Path, work: str = "") -> Journal:
        connection = connect(path)
        try:
            with explained(path):
                prepare(path, connection)
                return cls(path, connection, leave_note(path, work))
        except BaseException:
            connection.close()
            raise

    def _begin(self, asked: dict[str, Any], shard: str) -> None:
        last = self._read(_EVERY, _LAST)
        if last is None:
            self._write(_EVERY, _SHARD, shard)
        self.shard = str(self._read(_EVERY, _SHARD))
        if self.shard != shard:
            raise JournalError(
                f"{self.path} holds {_named(self.shard)}, but {_named(shard)} was asked for; give "
                "each shard an --out of its own, or use --fresh to start this one over"
            )
        if isinstance(last, int | float):
            before = self._settings_of(int(last))
            self.differences = tuple(differences(before, asked))
            self._earlier_id = int(last)
        self.settings, self._settings_id = asked, self._id_of(asked)
        if self._settings_id != last:
            self._write(_EVERY, _LAST, self._settings_id)

    def _go_on(self) -> None:
        last = self._read(_EVERY, _LAST)
        if not isinstance(last, int | float):
            raise DamagedError(self.path, "it names no settings")
        self.settings, self._settings_id = self._settings_of(int(last)), int(last)
        self.shard = str(self._read(_EVERY, _SHARD))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            # First the note, then the lock: never remove the note of the next holder.
            holder_file(self.path).unlink(missing_ok=True)
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def has(self, ref: ImageRef) -> bool:
        """Return whether there is a result, even if its file has changed since."""
        with explained(self.path):
            query = "SELECT 1 FROM result WHERE settings = ? AND image = ?"
            found = self._connection.execute(query, (self._settings_id, encode(ref.image)))
            return found.fetchone() is not None

    def state_of(self, ref: ImageRef) -> ImageState:
        """State of an image, read without writing anything.

        Returns:
            ``done`` where its result stands, ``failed``, ``changed`` where its file is not the one
            that was analysed, or ``new``.
        """
        stored = self._stored_key(ref)
        if stored is None:
            return "new"
        key, status = stored
        if status == "failed":
            return "failed"
        return "changed" if still_holds(key, ref) is None else "done"

    def refresh_key(self, ref: ImageRef) -> None:
        """Store the present place and time of a file that was moved, copied or touched.

        Its content is compared this once, and then no more. Files of which the content has
        changed, or was never known, keep the key they have.
        """
        stored = self._stored_key(ref)
        if stored is None or stored[1] == "failed":
            return
        now = still_holds(stored[0], ref)
        if now is None or now == stored[0]:
            return
        with self._writing():
            self._connection.execute(
                "UPDATE result SET state = ? WHERE settings = ? AND image = ?",
                (now.state, self._settings_id, encode(ref.image)),
            )

    def _stored_key(self, ref: ImageRef) -> tuple[FileKey, str] | None:
        """The key of an image's file when it was analysed, with the status of its result."""
        with explained(self.path):
            row = self._connection.execute(
                "SELECT given, state, content, status FROM result WHERE settings = ? AND image = ?",
                (self._settings_id, encode(ref.image)),
            ).fetchone()
        return None if row is None else (FileKey(*row[:3]), row[3])

    def add(self, result: ImageResult, file_key: FileKey | None = None) -> None:
        """Store one finished image, in place of an older result; safe on disk on return.

        Args:
            result: the finished image.
            file_key: the key of its file taken before that was read, so that a file which
                changes meanwhile is done again; taken now when None.
        """
        key = file_key or key_of(result.ref)
        facts = (result.status, record_of(result), pack(result.cells))
        row = (encode(result.ref.image), key.given, key.state, key.sha256, *facts)
        with self._writing():
            self._insert([row])

    def contents(self, images: Iterable[str]) -> dict[str, str]:
        """Image → hash of its content when it was last analysed, where that is known."""
        wanted = set(images)
        query = "SELECT image, content FROM result WHERE content != '' ORDER BY settings = ?"
        with explained(self.path):
            found = self._connection.execute(query, (self._settings_id,))
            named = ((decode(image), content) for image, content in found)
            return {image: content for image, content in named if image in wanted}

    def rows(self) -> Iterator[Row]:
        """Every result of these settings as it is stored, for another journal's ``take``."""
        with explained(self.path):
            yield from self._connection.execute(
                f"SELECT {_COLUMNS} FROM result WHERE settings = ?", (self._settings_id,)
            )

    def clear(self) -> None:
        """Forget the results of these settings; reviews stay."""
        with self._writing():
            self._connection.execute("DELETE FROM result WHERE settings = ?", (self._settings_id,))

    def take(self, rows: Iterable[Row]) -> None:
        """Store the rows of another journal, all of them or none."""
        with self._writing(), self._connection:
            self._connection.execute("BEGIN")
            self._insert(rows)

    def results(self, refs: Iterable[ImageRef] | None = None) -> Iterator[ImageResult]:
        """Stream results in path order, one in memory at a time.

        Args:
            refs: the images of this run; stored results of others are left out, images without
                one are passed over, and each result carries the reference given here, so that
                a specimen renamed in the manifest shows. None streams everything stored.
        """
        if refs is None:
            with explained(self.path):
                query = "SELECT image FROM result WHERE settings = ?"
                rows = self._connection.execute(query, (self._settings_id,)).fetchall()
            wanted: dict[str, ImageRef | None] = {decode(row[0]): None for row in rows}
        else:
            wanted = {ref.image: ref for ref in refs}
        is_corrected = self.has_reviews
        for image in sorted(wanted, key=path_order):
            found = self._stored(image, wanted[image], is_corrected=is_corrected)
            if found is not None:
                yield found.result

    def corrected(self, ref: ImageRef) -> CorrectedImage | None:
        """One image with the ids of its cells, from which edits are made; None without a result."""
        return self._stored(ref.image, ref, is_corrected=True)

    def edits_of(self, key: str, image: str) -> list[Edit]:
        """Every edit of one image, by its content and its identity, the oldest first."""
        with explained(self.path):
            return edits_of(self._connection, list({key, name_key(image)}))

    def uncorrected(self, ref: ImageRef) -> CorrectedImage | None:
        """Return the result of one image without corrections; None without a result."""
        found = self._stored(ref.image, ref, is_corrected=False)
        if found is None:
            return None
        return corrected(found.result, found.key, self.settings.get("classes") or (), ())

    def _stored(
        self, image: str, ref: ImageRef | None, *, is_corrected: bool
    ) -> CorrectedImage | None:
        with explained(self.path):
            row = self._connection.execute(
                "SELECT record, cells, content FROM result WHERE settings = ? AND image = ?",
                (self._settings_id, encode(image)),
            ).fetchone()
            if row is None:
                return None
            result = result_of(row[:2], ref)
            key = image_key(row[2], result.ref.page, image)
            if not is_corrected:
                return CorrectedImage(key, result, ())
            edits = edits_of(self._connection, list({key, name_key(image)}))
            return corrected(result, key, self.settings.get("classes") or (), edits)

    def looks(self) -> dict[str, str]:
        """Stored perceptual hashes of done images, by image."""
        query = (
            "SELECT image, json_extract(record, '$.look') FROM result "
            "WHERE settings = ? AND status = 'done'"
        )
        with explained(self.path):
            rows = self._connection.execute(query, (self._settings_id,)).fetchall()
        return {decode(image): look for image, look in rows if look}

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Store one small JSON-ready value other than None, such as a slide's scale.

        Args:
            name: of the value.
            value: what to keep.
            forget: images whose results do not hold with it; they go in the same commit.
        """
        gone = [(self._settings_id, encode(image)) for image in forget]
        with self._writing(), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "DELETE FROM result WHERE settings = ? AND image = ?", gone
            )
            self._write(self._settings_id, f"user:{name}", value)

    def get_value(self, name: str) -> Json:
        """The value stored under this name, or None."""
        with explained(self.path):
            return self._read(self._settings_id, f"user:{name}")

    def earlier_value(self, name: str) -> Json:
        """The value of that name that the run before kept, whatever its settings, or None."""
        with explained(self.path):
            return self._read(self._earlier_id, f"user:{name}")

    def values(self, prefix: str) -> dict[str, Json]:
        """Return all values whose names begin with the prefix, by the rest of the name."""
        start = encode(f"user:{prefix}")
        with explained(self.path):
            rows = self._connection.execute(
                "SELECT name, json FROM value WHERE settings = ? AND substr(name, 1, ?) = ?",
                (self._settings_id, len(start), start),
            ).fetchall()
            return {decode(name[len(start) :]): json.loads(text) for name, text in rows}

    @property
    def has_reviews(self) -> bool:
        """Whether a person has reviewed or corrected cells."""
        with explained(self.path):
            return has_edits(self._connection)

    def said(self) -> list[int]:
        """Count the edits and the remarks of people."""
        query = "SELECT (SELECT count(*) FROM edit), (SELECT count(*) FROM remark)"
        with explained(self.path):
            return list(self._connection.execute(query).fetchone())

    def edits(self) -> list[Edit]:
        """Every edit of a person, those that do not count any more included, the oldest first."""
        with explained(self.path):
            return all_edits(self._connection)

    def corrections(self) -> dict[str, CellState]:
        """Lasting id of each corrected cell → its state.

        Each result names those that count with it; all others do not count.
        """
        states = cell_states(self.edits()) if self.has_reviews else {}
        return {cell: state for cell, state in states.items() if state.is_corrected}

    def add_edits(
        self,
        edits: Iterable[Edit],
        seen: Mapping[str, int] | None = None,
        remarks: Iterable[Remark] = (),
    ) -> list[Edit]:
        """Add edits and remarks, all of them or none; safe on disk on return.

        Returns the edits that were new, with their versions.

        Args:
            edits: in their order; those that are there already are passed over.
            seen: lasting id of a cell → version that the person saw; others are not checked.
            remarks: what else is said with them.

        Raises:
            EditConflictError: a cell was edited since the person saw it; nothing is added.
        """
        with self._writing(), self._connection:
            self._connection.execute("BEGIN EXCLUSIVE")
            added = add_edits(self._connection, edits, seen)
            insert_remarks(self._connection, remarks)
        return added

    def remarks(self, kind: RemarkKind | None = None) -> list[Remark]:
        """Every remark of a person, or those of one kind, the oldest first."""
        with explained(self.path):
            return all_remarks(self._connection, kind)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock for one writing thread, and check that the file is still at its path."""
        with self._lock, explained(self.path):
            check_identity(self.path, self._identity)
            yield

    def _insert(self, rows: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(
            f"INSERT OR REPLACE INTO result (settings, {_COLUMNS}) "
            f"VALUES ({self._settings_id}, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def _id_of(self, settings: dict[str, Any]) -> int:
        text = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        insert = "INSERT OR IGNORE INTO settings (sha256, json) VALUES (?, ?)"
        self._connection.execute(insert, (digest, text))
        query = "SELECT id FROM settings WHERE sha256 = ?"
        return int(self._connection.execute(query, (digest,)).fetchone()[0])

    def _settings_of(self, number: int) -> dict[str, Any]:
        query = "SELECT json FROM settings WHERE id = ?"
        row = self._connection.execute(query, (number,)).fetchone()
        if row is None:
            raise DamagedError(self.path, "it names no settings")
        stored: dict[str, Any] = json.loads(row[0])
        return stored

    def _write(self, settings: int, name: str, value: Json) -> None:
        row = (settings, encode(name), json.dumps(value, sort_keys=True))
        self._connection.execute("INSERT OR REPLACE INTO value VALUES (?, ?, ?)", row)

    def _read(self, settings: int, name: str) -> Json:
        query = "SELECT json FROM value WHERE settings = ? AND name = ?"
        row = self._connection.execute(query, (settings, encode(name))).fetchone()
        value: Json = None if row is None else json.loads(row[0])
        return value


def _named(shard: str) -> str:
    return f"shard {shard}" if shard else "a run of all images"
