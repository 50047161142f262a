"""The journal of a run: one SQLite file that takes every finished image, once.

All tables are pure functions of it, so an interrupted run loses nothing and goes on where it
stopped. Each image is one atomic commit (rollback journal, full synchronisation). The file is
locked by SQLite for as long as it is open; the system drops that lock when a process dies, on
whatever host, so a killed run never blocks the next one. A small ``.lock`` file beside it only
says who holds it.

Shapes: none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import Any, Self

from cellcount.errors import JournalError
from cellcount.records import ImageRef, ImageResult, path_order
from cellcount.stored_result import pack, record_of, result_of

Json = dict[str, Any] | list[Any] | str | float | None

APPLICATION_ID = 0x63656C6C  # "cell", in bytes 68-71 of the file
SCHEMA_VERSION = 2  # 2: with the quality of each field

# Names are kept as bytes: a file name may hold bytes that are no valid UTF-8. JSON escapes them.
_TABLES = """
CREATE TABLE value (name BLOB PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE result (
    image BLOB PRIMARY KEY, file_key TEXT NOT NULL, status TEXT NOT NULL,
    record TEXT NOT NULL, cells BLOB NOT NULL
);
"""
_FINGERPRINT = "fingerprint"


def journal_path(out: Path) -> Path:
    """Where the journal of ``counts.csv`` lies: ``counts.journal.sqlite`` beside it."""
    return out.with_name(f"{out.stem}.journal.sqlite")


def key_of(ref: ImageRef) -> str:
    """What must be unchanged for a stored result to hold: the file and all that sets its scale.

    That is identity, page, size, modification time, slide and given µm/px.
    """
    try:
        found = os.stat(ref.path)
        state = (found.st_size, found.st_mtime_ns)
    except OSError:
        state = (-1, -1)
    return ascii((ref.image, ref.page, *state, ref.slide, ref.um_per_px))


class Journal:
    """Finished images of one run, on disk. Use ``Journal.open`` and ``with``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._closed = False

    @classmethod
    def open(cls, path: Path, fingerprint: dict[str, Any], *, fresh: bool = False) -> Journal:
        """Start a journal, or continue the one that is there.

        Args:
            path: the SQLite file, usually ``journal_path(out)``.
            fingerprint: all that decides the numbers, JSON-ready: settings, weights' hashes,
                classes, version.
            fresh: forget what an existing journal holds.

        Raises:
            JournalError: it belongs to other settings, is in use, damaged, or not a journal.
        """
        if fresh:
            _discard(path)
        connection = _connect(path)
        try:
            with _explained(path):
                _prepare(path, connection, json.loads(json.dumps(fingerprint)))
                _leave_note(path)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        if not self._closed:
            self._closed = True
            # First the note, then the lock: never remove the note of the next holder.
            _holder_file(self.path).unlink(missing_ok=True)
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def is_done(self, ref: ImageRef) -> bool:
        """Whether its result stands: done or excluded, and the file unchanged since.

        Failed images are not done: the next run tries them again.
        """
        with _explained(self.path):
            row = self._connection.execute(
                "SELECT file_key, status FROM result WHERE image = ?", (_encode(ref.image),)
            ).fetchone()
        return row is not None and row[1] != "failed" and row[0] == key_of(ref)

    def add(self, result: ImageResult, file_key: str | None = None) -> None:
        """Keep one finished image, in place of an older result; safe on disk on return.

        Args:
            result: the finished image.
            file_key: ``key_of`` its reference taken before the file was read, so that a file
                that changes meanwhile is done again; taken now when None.
        """
        file_key = key_of(result.ref) if file_key is None else file_key
        facts = (result.status, record_of(result), pack(result.cells))
        row = (_encode(result.ref.image), file_key, *facts)
        with _explained(self.path):
            self._connection.execute("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?)", row)

    def results(self, refs: Iterable[ImageRef] | None = None) -> Iterator[ImageResult]:
        """Stream results in path order, one in memory at a time.

        Args:
            refs: the images of this run; stored results of others are left out, images without
                one are passed over, and each result carries the reference given here, so that
                a specimen renamed in the manifest shows. None streams everything stored.
        """
        if refs is None:
            with _explained(self.path):
                rows = self._connection.execute("SELECT image FROM result").fetchall()
            wanted: dict[str, ImageRef | None] = {_decode(row[0]): None for row in rows}
        else:
            wanted = {ref.image: ref for ref in refs}
        for image in sorted(wanted, key=path_order):
            with _explained(self.path):
                row = self._connection.execute(
                    "SELECT record, cells FROM result WHERE image = ?", (_encode(image),)
                ).fetchone()
                result = None if row is None else result_of(row, wanted[image])
            if result is not None:
                yield result

    def set_value(self, name: str, value: Json) -> None:
        """Keep one small JSON-ready value other than None, such as a slide's scale."""
        with _explained(self.path):
            _write_value(self._connection, f"user:{name}", value)

    def get_value(self, name: str) -> Json:
        """The value kept under this name, or None."""
        with _explained(self.path):
            return _read_value(self._connection, f"user:{name}")


def _connect(path: Path) -> sqlite3.Connection:
    """Open and lock the file without changing it."""
    with _explained(path):
        # Serialised by SQLite itself; each write is one statement, so threads may share it.
        connection = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        try:
            connection.executescript("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(path: Path, connection: sqlite3.Connection, asked: dict[str, Any]) -> None:
    """Create the tables of a new file, or make sure that an existing one may be continued."""
    is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not is_new:
        _check_ours(path, connection)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    if is_new:
        connection.execute("BEGIN EXCLUSIVE")  # all of it or nothing, should we be killed here
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        _write_value(connection, _FINGERPRINT, asked)
        connection.execute("COMMIT")
        return
    stored = _read_value(connection, _FINGERPRINT)
    if stored is None:
        raise _DamagedError(path, "it names no settings")
    differences = _differences(stored, asked)
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise JournalError(
            f"{path} belongs to a run with other settings (stored -> asked):\n{lines}\n"
            "Repeat the stored settings to continue it, use --fresh to start over (its results "
            "are lost), or name another --out."
        )


def _check_ours(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise _foreign(path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise JournalError(
            f"{path} has the form of another version of cellcount ({version}, expected "
            f"{SCHEMA_VERSION}); use --fresh to start over or name another --out"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _DamagedError(path, " ".join(verdict.split()))


def _discard(path: Path) -> None:
    """Delete our own journal, sound or damaged; never a foreign file, nor one in use."""
    if not path.exists():
        return
    with _explained(path):
        header = _header(path)
        if header and not _is_ours(header):
            raise _foreign(path)
        with contextlib.suppress(_DamagedError):
            _connect(path).close()
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
        path.unlink()


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _is_ours(header: bytes) -> bool:
    return header[:16] == b"SQLite format 3\0" and header[68:72] == APPLICATION_ID.to_bytes(4)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into sentences for the person at the keyboard."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise JournalError(
                f"{path} is in use {_holder(path)}; wait for that run or name another --out"
            ) from error
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            explained = (
                _DamagedError(path, str(error)) if _is_ours(_header(path)) else _foreign(path)
            )
            raise explained from error
        raise _unusable(path, error) from error
    except OSError as error:
        raise _unusable(path, error) from error
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(path, str(error)) from error


class _DamagedError(JournalError):
    """It is our file, but its content cannot be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        advice = "use --fresh to start over or name another --out"
        super().__init__(f"{path} is damaged ({reason}); {advice}")


def _foreign(path: Path) -> JournalError:
    return JournalError(
        f"{path} is not a journal of cellcount; it was left as it is: move it away or name "
        "another --out"
    )


def _unusable(path: Path, error: Exception) -> JournalError:
    return JournalError(
        f"cannot use {path}: {error}; check the folder, its permissions and the free space, "
        "then run the same command again: what is finished is kept"
    )


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _leave_note(path: Path) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"host": gethostname(), "pid": os.getpid(), "started": started}
    _holder_file(path).write_text(json.dumps(note), encoding="utf-8")


def _holder(path: Path) -> str:
    """Who has it, as far as is known: the note may be a moment late."""
    try:
        holder = json.loads(_holder_file(path).read_text(encoding="utf-8"))
        return f"by process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"


def _write_value(connection: sqlite3.Connection, name: str, value: Json) -> None:
    row = (_encode(name), json.dumps(value, sort_keys=True))
    connection.execute("INSERT OR REPLACE INTO value VALUES (?, ?)", row)


def _read_value(connection: sqlite3.Connection, name: str) -> Json:
    query = "SELECT json FROM value WHERE name = ?"
    row = connection.execute(query, (_encode(name),)).fetchone()
    value: Json = None if row is None else json.loads(row[0])
    return value


def _differences(stored: Json, asked: Json, name: str = "") -> list[str]:
    """One line per setting that differs, nested ones by their dotted name."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        lines: list[str] = []
        for key in sorted(stored.keys() | asked.keys()):
            dotted = f"{name}.{key}" if name else key
            lines += _differences(stored.get(key), asked.get(key), dotted)
        return lines
    if stored == asked:
        return []
    return [f"{name}: {json.dumps(stored)} -> {json.dumps(asked)}"]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
