"""Atomic writing: an output is either the old file or the whole new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from socket import gethostname
from typing import BinaryIO

from cellcount.errors import OutputError

_TEMPORARIES = ".cellcount-*.tmp"
_WRITER = re.compile(r"\.cellcount-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{12}\.tmp")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Give a binary file that takes ``path``'s place when the block ends without an error.

    It is written beside its target (a rename is atomic only within one file system), brought to
    the disk, then renamed. Missing folders are made. A link is followed, so it stays a link.

    Raises:
        OutputError: the target cannot be written; the old file is untouched.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(_temporary_name())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_special(target)
        try:
            with _create(temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise _output_error(path, error) from error


def check_writable(path: Path) -> None:
    """Raise, before hours of work, if an output file could not be written.

    Missing folders are made; nothing else is left behind, and what a killed process left half
    written beside the file is removed.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_special(target)
        # A rename would replace even a write-protected file: protection is a wish to be kept.
        if target.exists() and not os.access(target, os.W_OK):
            raise OutputError(f"{path} is write-protected; unprotect it or name another file")
        _try_folder(target.parent)
        _remove_orphans(target.parent.glob(_TEMPORARIES))
    except OSError as error:
        raise _output_error(path, error) from error


def check_folder_writable(folder: Path) -> None:
    """Make an output folder if it is missing; raise if files cannot be written there.

    What a killed process left half written in it is removed.

    Raises:
        OutputError: it is no folder, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_folder(folder)
        _remove_orphans(folder.rglob(_TEMPORARIES))
    except OSError as error:
        raise _output_error(folder, error) from error


def _temporary_name() -> str:
    """Name a temporary file; it holds host and process id, so that leftovers can be recognised."""
    return f".cellcount-{_host()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"


def _host() -> str:
    return f"{zlib.crc32(gethostname().encode()):08x}"


def _remove_orphans(temporaries: Iterable[Path]) -> None:
    """Remove temporary files whose process, on this machine, has ended."""
    for path in temporaries:
        writer = _WRITER.fullmatch(path.name)
        if writer and writer[1] == _host() and not _is_running(int(writer[2])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # elsewhere a process cannot be asked without harm
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _create(path: Path) -> BinaryIO:
    # Not tempfile: that gives mode 0600, and colleagues are meant to read the results.
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "w+b")


def _try_folder(folder: Path) -> None:
    probe = folder / _temporary_name()
    _create(probe).close()
    probe.unlink()


def _refuse_special(target: Path) -> None:
    """Refuse folders, devices and pipes, which cannot be replaced by renaming a file."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"{target} is a folder, expected the name of a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{target} is not a regular file; name a file that can be replaced")


def _sync_folder(folder: Path) -> None:
    """Bring the rename itself to the disk, where the system can open folders at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    blocked = next((p for p in path.parents if p.exists() and not p.is_dir()), None)
    if blocked is not None:
        reason = f"{blocked} is not a folder"
    return OutputError(
        f"cannot write {path}: {reason}; check the folder, its permissions and the free space, "
        "or name another place"
    )
