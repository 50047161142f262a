"""Outcome of a job: the numbers of its summary, its exit code and its run record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount import __version__
from cellcount.core.cells import count_by_class, count_by_type
from cellcount.core.records import UNCLASSIFIED, ImageResult
from cellcount.errors import (
    EXIT_FAILURE_RATE,
    EXIT_NOTHING_DONE,
    EXIT_OK,
    EXIT_SOME_FAILED,
)
from cellcount.outputs.run_content import Labels
from cellcount.outputs.run_record import NotDone

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "tifffile", "imagecodecs")
_OF_ENGINES = {"openvino"}  # libraries of the engines of the same name


class TooManyFailuresError(Exception):
    """More images failed than the user allows."""


class RunTally:
    """Counts the images of this call, and ends the run when too many have failed.

    Args:
        total: images of the run.
        max_failure_rate: share of them that may fail.
    """

    def __init__(self, total: int, max_failure_rate: float) -> None:
        self.images = self.cells = self.failed = 0
        self._most = max_failure_rate * total

    def count(self, result: ImageResult) -> None:
        """Counts one result."""
        self.images += 1
        self.cells += len(result.cells)
        self.failed += result.status == "failed"

    def check(self) -> None:
        """Raises ``TooManyFailuresError`` where more have failed than may."""
        if self.failed > self._most:
            raise TooManyFailuresError


@dataclass
class Totals:
    """Sums over the results of a run.

    Attributes:
        finished: images with a result, failed ones included.
        done, cells: analysed images and the cells on them.
        counts: class id → cells.
        types: type id → cells, ``unclassified`` last; empty where no classifier ran.
        rejected: detected white cells that are in neither, for their type is that of none.
        not_done: failed and excluded images with reasons.
        outstanding: specimen and slide → its images without a result yet.
        cautions: done images with a caution.
    """

    finished: int = 0
    done: int = 0
    cells: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    not_done: list[NotDone] = field(default_factory=list)
    cautions: list[NotDone] = field(default_factory=list)
    outstanding: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def empty(cls, labels: Labels) -> Totals:
        """Make sums of 0, for the classes and types of a run."""
        ids = [*(t.id for t in labels.types), UNCLASSIFIED] if labels.types else []
        return cls(counts={c.id: 0 for c in labels.classes}, types=dict.fromkeys(ids, 0))

    @classmethod
    def of(cls, results: Iterable[ImageResult], labels: Labels) -> Totals:
        """The sums over a stream of results."""
        totals = cls.empty(labels)
        for result in results:
            totals.add(result)
        return totals

    def add(self, result: ImageResult) -> None:
        """Add one result to the sums."""
        if result.status == "outstanding":
            self.outstanding[result.ref.specimen, result.ref.slide] += 1
            return
        self.finished += 1
        note = NotDone(result.ref.image, result.status, result.reason)
        if result.status != "done":
            self.not_done.append(note)
            return
        self.done += 1
        self.cells += result.cells.counted
        self.rejected += len(result.cells) - result.cells.counted
        if result.reason:
            self.cautions.append(note)
        if self.counts:
            _add(self.counts, count_by_class(result.cells, len(self.counts)))
        if self.types:
            _add(self.types, count_by_type(result.cells.types, len(self.types) - 1))


def _add(sums: dict[str, int], counts: NDArray[np.int64]) -> None:
    for name, count in zip(sums, counts.tolist(), strict=True):
        sums[name] += count


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        images: images of the run.
        totals: sums over all that are finished by now, in this call or an earlier one.
        written: files and folders written.
        seconds: time of the analysis, in which it analysed...
        analyzed_now: ... so many images.
        gave_up: the failure rate was exceeded.
        interrupted: the interruption to re-raise once everything is safe, or None.
        notes: what a person must know besides, in a sentence each.
    """

    images: int
    totals: Totals
    written: tuple[Path, ...]
    seconds: float
    analyzed_now: int
    gave_up: bool = False
    interrupted: KeyboardInterrupt | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Images that could not be analysed."""
        return sum(note.status == "failed" for note in self.totals.not_done)

    @property
    def left(self) -> int:
        """Images without a result yet."""
        return self.images - self.totals.finished

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed, 3 nothing done, 4 failure rate exceeded."""
        if self.gave_up:
            return EXIT_FAILURE_RATE
        if self.failed and not self.totals.done:
            return EXIT_NOTHING_DONE
        return EXIT_SOME_FAILED if self.failed else EXIT_OK


def library_versions(engine: str = "") -> dict[str, str]:
    """Versions of cellcount, Python and the libraries that decide numbers.

    Args:
        engine: that ran the models; a library of its own is among them.
    """
    versions = {"cellcount": __version__, "python": platform.python_version()}
    for library in (*_LIBRARIES, *(_OF_ENGINES & {engine})):
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "unknown"
    return versions
