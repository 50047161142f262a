"""Locks on files that are being written: one process holds the lock of a small file beside each.

The journal guards a run's ``--out``; its other tables may be named by another run, too, whose
journal lies elsewhere. The system drops the lock when a process dies, on whatever host, so a killed
run blocks nobody. Where the file system has no locks, nothing is guarded. The file beside it names
the holder and is removed with the lock.

Shapes: none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

from cellcount.errors import OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: What systems answer where a file system has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextlib.contextmanager
def locked(outputs: Iterable[Path], wait_s: float = 0) -> Iterator[None]:
    """Hold the locks of these files within the block, so that no other process writes them.

    Args:
        outputs: the files, there or not.
        wait_s: how long to wait for another process that writes one of them.

    Raises:
        OutputError: somebody does, or no file can be made beside one of them.
    """
    with contextlib.ExitStack() as held:
        for target in sorted({Path(os.path.realpath(path)) for path in outputs}):
            held.enter_context(_locked(target, wait_s))
        yield


@contextlib.contextmanager
def _locked(target: Path, wait_s: float) -> Iterator[None]:
    import filelock  # only where something is written

    note = holder_file(target)
    _check_is_ours(note)
    lock = filelock.FileLock(note, timeout=wait_s, fallback_to_soft=False)
    try:
        guarded = _acquired(lock)
    except filelock.Timeout as error:
        holder = named_in(note) or "another process"
        raise OutputError(
            f"{target} is being written by {holder}; wait for that run or name another file"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot use {note}: {error.strerror or error}") from error
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock itself needs no space
            note.write_text(note_of_holder(), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()  # while it is locked: nobody else's is removed
        if guarded:
            lock.release()


def _acquired(lock: BaseFileLock) -> bool:
    """Try to take the lock; False where the file system has no locks.

    Raises:
        Timeout: another process holds it.
        OSError: its file cannot be opened.
    """
    try:
        lock.acquire()
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _check_is_ours(note: Path) -> None:
    """Refuse to overwrite a file that has the name of a lock file and is none.

    Raises:
        OutputError: it is something else.
    """
    try:
        foreign = not note.is_symlink() and note.stat().st_size > 0 and note.read_bytes()
    except OSError:  # absent, or held on a system whose locks forbid reading
        return
    if foreign and not named_in(note):
        raise OutputError(f"{note} is not a lock of cellcount; move it away")


def holder_file(path: Path) -> Path:
    """Return the path of the file that names the holder of a lock."""
    return path.with_name(path.name + ".lock")


def leave_note(path: Path, work: str = "") -> str:
    """Note this process as the holder of the journal; return the holder noted before, or "".

    Whoever gets here has SQLite's lock, so an earlier note is one of a process that died.

    Args:
        path: the journal.
        work: for which it is held, such as ``cellcount review open``; "" for an analysis.
    """
    stale = named_in(holder_file(path))
    holder_file(path).write_text(note_of_holder(work), encoding="utf-8")
    return stale


def note_of_holder(work: str = "") -> str:
    """Note in a lock file on its holder: host, process, start and work."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"host": gethostname(), "pid": os.getpid(), "started": started}
    return json.dumps(note | ({"work": work} if work else {}))


def named_in(lock_file: Path) -> str:
    """Return the holder that a lock file names, "" where it names none."""
    try:
        holder = json.loads(lock_file.read_text(encoding="utf-8"))
        work = f"{holder['work']}, " if holder.get("work") else ""
        return f"{work}process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
