"""Background job of the review page that makes a classifier from the corrected cells.

Each one has a folder of its own beside the run, so that none is ever overwritten; a folder appears
when all of it is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock, Thread
from typing import Any, Literal, Protocol

from cellcount.analysis.stored_results import StoredResults
from cellcount.errors import CellcountError, OutputError
from cellcount.review.page.messages import RefusedError
from cellcount.store.journal import JOURNAL_SUFFIX

#: Name by which every adapter writes its figures; review may not import adapt, which has it too.
FIGURES_FILE = "adaptation.json"
_UNFINISHED = ".making-"

OnCell = Callable[[int], Callable[[], None]]
"""Given the number of cells, returns what is called after each."""
State = Literal["idle", "looking", "fitting", "made", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """Result of an adaptation to the corrected cells.

    Attributes:
        sentence: why nothing was written; "" where the classifier is there.
        figures: before and after, JSON-ready.
        notes: what a person must know besides, in a sentence each.
    """

    sentence: str
    figures: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class Adapter(Protocol):
    """Makes a classifier of the reviewed cells of a run."""

    def __call__(
        self, stored: StoredResults, lock: AbstractContextManager[Any], out: Path, on_cell: OnCell
    ) -> Adaptation:
        """Write the classifier to a folder, or say why it would not be better.

        Args:
            stored: the run.
            lock: to be held while the run is read.
            out: an empty folder.
            on_cell: told of progress; whatever it raises is passed on.

        Raises:
            CellcountError: it cannot be made.
        """
        ...


class _EndedError(CellcountError):
    """The page was closed before the classifier was made."""


@dataclass(slots=True)
class _Progress:
    """Progress of the adaptation.

    Attributes:
        state: likewise.
        person: who asked for it.
        done, cells: cells that were looked at, of all.
        sentence: why there is none.
        figures: before and after, as far as they are known.
        notes: as of an `Adaptation`.
        number: of the classifier that was made, 0 for none.
    """

    state: State = "idle"
    person: str = ""
    done: int = 0
    cells: int = 0
    sentence: str = ""
    figures: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    number: int = 0


@dataclass(slots=True)
class ClassifierJob:
    """Makes one classifier at a time.

    Attributes:
        stored: the run.
        lock: held while it is read.
        adapter: makes a classifier; None where the page offers none.
    """

    stored: StoredResults
    lock: AbstractContextManager[Any]
    adapter: Adapter | None
    _progress: _Progress = field(default_factory=_Progress)
    _starting: Lock = field(default_factory=Lock)
    _thread: Thread | None = None
    _is_ended: bool = False

    @property
    def folder(self) -> Path:
        """Folder of every classifier that was made of this run."""
        journal = self.stored.journal.path
        return journal.with_name(journal.name.removesuffix(JOURNAL_SUFFIX) + ".classifiers")

    @property
    def is_offered(self) -> bool:
        """Whether the run has a classifier that can be made better."""
        return self.adapter is not None and bool(self.stored.run.facts.types)

    def start(self, person: str) -> None:
        """Begin to make a classifier.

        Raises:
            RefusedError: one is being made, or none can be.
        """
        if not self.is_offered:
            raise RefusedError("this run has no classifier that could be made better", 409)
        with self._starting:
            if self._progress.state in ("looking", "fitting"):
                raise RefusedError("a classifier is being made already; wait until it is done", 409)
            self._progress = _Progress("looking", person)
            # No daemon: whatever is being written is written.
            self._thread = Thread(target=self._make, args=(self._progress,))
            self._thread.start()

    def wait(self) -> None:
        """Wait until no classifier is being made."""
        if self._thread is not None:
            self._thread.join()

    def end(self) -> None:
        """Stop the job, and wait until it writes nothing any more."""
        self._is_ended = True
        self.wait()

    def facts(self) -> dict[str, Any]:
        """Return the facts that the page shows of it, JSON-ready."""
        now = self._progress
        return {
            "state": now.state,
            "person": now.person,
            "done": now.done,
            "cells": now.cells,
            "sentence": now.sentence,
            "figures": now.figures,
            "notes": now.notes,
            "number": now.number,
            "made": list(self._made()),
        }

    def _made(self) -> Iterator[dict[str, Any]]:
        """List the finished classifiers, the latest first."""
        for number in sorted(_numbers(self.folder), reverse=True):
            path = self.folder / str(number)
            try:
                figures = json.loads((path / FIGURES_FILE).read_text("utf-8"))
                before, after = (figures[side]["right"] for side in ("before", "after"))
                right = [before["right"], after["right"], after["cells"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            yield {"number": number, "folder": str(path), "right": right}

    def _make(self, progress: _Progress) -> None:
        try:
            self._made_of(progress)
        except _EndedError:
            progress.state = "idle"
        except CellcountError as error:
            progress.sentence, progress.state = str(error), "failed"
        except BaseException as error:
            # Else the page would wait for it forever; the terminal has the traceback.
            progress.sentence, progress.state = f"unexpected error: {error!r}", "failed"
            raise

    def _made_of(self, progress: _Progress) -> None:
        assert self.adapter is not None, "none is started without one"
        unfinished = _new_folder(self.folder)
        try:
            on_cell = self._told_to(progress)
            found = self.adapter(self.stored, self.lock, unfinished, on_cell)
            if not found.sentence:
                progress.number = _named(unfinished, self.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            _remove_empty(self.folder)
        progress.figures, progress.notes = found.figures, found.notes
        progress.sentence = found.sentence
        progress.state = "refused" if found.sentence else "made"

    def _told_to(self, progress: _Progress) -> OnCell:
        def counted(cells: int) -> Callable[[], None]:
            progress.cells = cells
            return tick

        def tick() -> None:
            if self._is_ended:
                raise _EndedError("the page was closed")
            progress.done += 1
            if progress.done >= progress.cells:
                progress.state = "fitting"

        return counted


def _numbers(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isascii() and name.isdigit()]


def _new_folder(folder: Path) -> Path:
    """An empty folder for what is not finished; what a killed page left there is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for orphan in folder.glob(f"{_UNFINISHED}*"):  # the page is the run's one writer
            shutil.rmtree(orphan, ignore_errors=True)
        made = Path(mkdtemp(prefix=_UNFINISHED, dir=folder))
        made.chmod(0o777 & ~_umask_of(folder))
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}; check the folder, its "
            "permissions and the free space"
        ) from None
    return made


def _umask_of(folder: Path) -> int:
    """Permission bits that the parent folder lacks, since colleagues must be able to read both."""
    return ~folder.stat().st_mode & 0o777


def _named(unfinished: Path, folder: Path) -> int:
    """Move a finished classifier to a folder with the next free number."""
    number = max(_numbers(folder), default=0) + 1
    try:
        unfinished.rename(folder / str(number))
    except OSError as error:
        raise OutputError(f"cannot write {folder / str(number)}: {error.strerror}") from None
    return number


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
