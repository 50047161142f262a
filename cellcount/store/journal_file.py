"""The file of a journal: opening, locking, recognising and explaining it.

SQLite locks it for as long as it is open, with a rollback journal and one writer, which is all that
a network file system must offer; the system drops that lock when a process dies, on whatever host,
so a killed run never blocks the next one. A small ``.lock`` file beside it only says who holds it.

Shapes: none.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from cellcount.errors import JournalError
from cellcount.files.locks import holder_file, named_in
from cellcount.store.edits import TABLE
from cellcount.store.migrate import BEFORE, migrate
from cellcount.store.remarks import REMARK_TABLE

APPLICATION_ID = 0x63656C6C  # "cell", in bytes 68-71 of the file
# 2: with the quality of each field; 3: content hashes, results by settings; 4: edits of cells.
SCHEMA_VERSION = 4

# Names are kept as bytes: a file name may hold bytes that are no valid UTF-8. JSON escapes them.
_TABLES = f"""
CREATE TABLE settings (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, json TEXT NOT NULL);
CREATE TABLE value (
    settings INTEGER NOT NULL, name BLOB NOT NULL, json TEXT NOT NULL, PRIMARY KEY (settings, name)
);
CREATE TABLE result (
    settings INTEGER NOT NULL, image BLOB NOT NULL, given TEXT NOT NULL, state TEXT NOT NULL,
    content TEXT NOT NULL, status TEXT NOT NULL, record TEXT NOT NULL, cells BLOB NOT NULL,
    PRIMARY KEY (settings, image)
);
{TABLE};
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open and lock the file without changing it; an empty one where there is none."""
    with explained(path):
        path.touch()
        before = identity_of(path)
        # Serialised by SQLite itself; each write is one statement, so threads may share it.
        connection = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        try:
            connection.executescript("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
            check_identity(path, before)  # what is locked may have been removed meanwhile
        except BaseException:
            connection.close()
            raise
    return connection


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode of the file that a path leads to."""
    state = path.stat()
    return state.st_dev, state.st_ino


def check_identity(path: Path, expected: tuple[int, int]) -> None:
    """Raise where another file, or none, is at the path of a journal that is open.

    Raises:
        JournalError: what would be written would be lost.
    """
    try:
        if identity_of(path) == expected:
            return
    except FileNotFoundError:
        pass
    raise JournalError(
        f"{path} was removed or replaced while it was in use; what was not yet in the tables is "
        "lost: give the command again"
    )


def peek(path: Path, name: str) -> object:
    """Read a value that the last run of a journal stored under a name, without locking the journal.

    None where there is no such value or no journal, or where somebody else holds it: opening it
    tells why.
    """
    if not path.is_file():
        return None
    last = "SELECT CAST(json AS INTEGER) FROM value WHERE settings = 0 AND name = ?"
    query = f"SELECT json FROM value WHERE settings = ({last}) AND name = ?"
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"  # a write that was cut short is rolled back
        with contextlib.closing(sqlite3.connect(uri, timeout=0.5, uri=True)) as connection:
            row = connection.execute(query, (b"last settings", name.encode())).fetchone()
        return None if row is None else json.loads(row[0])
    except (sqlite3.Error, OSError, ValueError):
        return None


def prepare(path: Path, connection: sqlite3.Connection) -> None:
    """Create the tables of a new file, or make sure that an existing one is ours and sound.

    One of the schema before is brought to the present one.
    """
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
        connection.execute("COMMIT")
    elif _version(connection) == BEFORE:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            migrate(connection, SCHEMA_VERSION)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    connection.execute(REMARK_TABLE)  # journals of this schema were made before it was there


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_ours(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise _foreign(path)
    version = _version(connection)
    _check_known(path, version)
    if version < BEFORE:
        raise JournalError(
            f"{path} has the form of an early version of cellcount ({version}, expected "
            f"{SCHEMA_VERSION}); use --fresh to start over or name another --out"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise DamagedError(path, " ".join(verdict.split()))


def _check_known(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path} was written by another version of cellcount, a newer one (its form is "
            f"{version}, this version knows up to {SCHEMA_VERSION}); use that version, or name "
            "another --out"
        )


def discard(path: Path) -> None:
    """Delete our own journal, sound or damaged; never a foreign file, nor one in use."""
    if not path.exists():
        return
    with explained(path):
        header = _header(path)
        if header and not _is_ours(header):
            raise _foreign(path)
        try:
            connection = connect(path)
        except DamagedError:
            _unlink(path)
            return
        with contextlib.closing(connection):
            with contextlib.suppress(DamagedError):
                _check_unreviewed(path, connection)
            _unlink(path)  # while it is locked: two that start afresh never hold one each


def _unlink(path: Path) -> None:
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    path.unlink()


def _check_unreviewed(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse to discard corrections, which no model can find again."""
    with explained(path):
        _check_known(path, _version(connection))
        if _is_reviewed(connection):
            raise JournalError(
                f"{path} holds reviews of cells, which --fresh would lose; name another --out, "
                "or move the file away"
            )


def _is_reviewed(connection: sqlite3.Connection) -> bool:
    """Return whether a journal of this schema or an earlier one holds what a person said."""
    query = "SELECT name FROM sqlite_master WHERE name IN ('edit', 'remark', 'review')"
    tables = [name for (name,) in connection.execute(query).fetchall()]
    return any(
        connection.execute(f"SELECT EXISTS (SELECT 1 FROM {t})").fetchone()[0] for t in tables
    )


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _is_ours(header: bytes) -> bool:
    return header[:16] == b"SQLite format 3\0" and header[68:72] == APPLICATION_ID.to_bytes(4)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
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
            reason = DamagedError(path, str(error)) if _is_ours(_header(path)) else _foreign(path)
            raise reason from error
        raise _unusable(path, error) from error
    except OSError as error:
        raise _unusable(path, error) from error
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise DamagedError(path, str(error)) from error


class DamagedError(JournalError):
    """Error for a journal whose content cannot be trusted."""

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


def _holder(path: Path) -> str:
    """Return the holder of the lock in words; the note that names it may be a moment late."""
    return f"by {named_in(holder_file(path)) or 'another process'}"
