"""One run at a time writes an output: whoever began it holds the lock of a small file beside it.

The journal guards a run's ``--out``; its other tables may be named by another run, too, whose
journal lies elsewhere. The system drops the lock when a process dies, on whatever host, so a killed
run blocks nobody. Where the system or the file system has no locks, nothing is guarded.

Shapes: none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import BinaryIO

from cellcount.errors import OutputError


@contextlib.contextmanager
def claimed(outputs: Iterable[Path]) -> Iterator[None]:
    """Nobody else writes these files while the block runs.

    Raises:
        OutputError: somebody does, or no file can be made beside one of them.
    """
    with contextlib.ExitStack() as held:
        for target in sorted({Path(os.path.realpath(path)) for path in outputs}):
            held.enter_context(_claim(target))
        yield


@contextlib.contextmanager
def _claim(target: Path) -> Iterator[None]:
    lock = holder_file(target)
    try:
        file = _locked(lock)
    except BlockingIOError as error:
        holder = named_in(lock) or "another process"
        raise OutputError(
            f"{target} is being written by {holder}; wait for that run or name another file"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot use {lock}: {error.strerror or error}") from error
    with file:
        if lock.stat().st_size and not named_in(lock):
            raise OutputError(f"{lock} is not a lock of cellcount; move it away")
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock itself needs no space
                file.truncate(0)
                file.write(note_of_holder().encode())
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()  # while it is locked: nobody else's is removed


def _locked(lock: Path) -> BinaryIO:
    """The open file with its lock.

    Raises:
        BlockingIOError: another process has it.
    """
    while True:
        file = open(lock, "ab", buffering=0, opener=_itself)  # noqa: SIM115 -- it stays open
        try:
            _lock(file)
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass  # removed by who held it, between our opening and our locking
        except BaseException:
            file.close()
            raise
        file.close()


def _itself(path: str, flags: int) -> int:
    """Opens no file that a link leads to: what is in a lock file is written over."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        return
    import fcntl  # not there on every system

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # some systems say the latter
        raise BlockingIOError(*error.args) from error
    except OSError:  # no locks on this file system
        return


def holder_file(path: Path) -> Path:
    """Where it stands who holds a journal."""
    return path.with_name(path.name + ".lock")


def leave_note(path: Path) -> str:
    """Say that this process holds the journal; who was said to before, "" for nobody.

    Whoever gets here has SQLite's lock, so an earlier note is one of a process that died.
    """
    stale = named_in(holder_file(path))
    holder_file(path).write_text(note_of_holder(), encoding="utf-8")
    return stale


def note_of_holder() -> str:
    """What a lock file says of the process that holds it: host, process, start."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"host": gethostname(), "pid": os.getpid(), "started": started})


def named_in(lock_file: Path) -> str:
    """Who the note in a lock file names, "" where there is none to be read."""
    try:
        holder = json.loads(lock_file.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
