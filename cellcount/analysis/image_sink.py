"""Sink of analysed images: each is stored, drawn, counted and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cellcount.analysis.drawing import Drawings
from cellcount.analysis.load import Loaded
from cellcount.analysis.local import Work
from cellcount.analysis.outcome import RunTally
from cellcount.analysis.progress import Progress
from cellcount.analysis.ray import Analyzed
from cellcount.analysis.run_results import RunResults
from cellcount.core.records import ImageResult
from cellcount.store.journal import Journal


@dataclass(frozen=True, eq=False, slots=True)
class ImageSink:
    """Takes the results of a run, one image at a time.

    Attributes:
        journal: keeps them.
        results: the same as they count.
        drawings: the annotated pictures, None where none are wanted.
        progress: shows them to a person.
        tally: knows when too much has failed.
        stop: raises where the run is to end after the images in hand.
    """

    journal: Journal
    results: RunResults
    drawings: Drawings | None
    progress: Progress
    tally: RunTally
    stop: Callable[[], None]

    def check(self) -> None:
        """Raise, to end the run, where too many images failed or a signal asks to stop."""
        self.tally.check()
        self.stop()

    def within(self, share: float) -> None:
        """Show how much of a scan is done, and end the run where it is to stop; in any thread."""
        self.stop()
        self.progress.within(share)

    def analyzed(self, loaded: Loaded, result: ImageResult) -> Work:
        """Report an image analysed here; return the work of storing and drawing it."""
        self._report(result)
        return partial(self._store, loaded, result)

    def received(self, analyzed: Analyzed) -> None:
        """Store and report an image analysed elsewhere; it is drawn when all are there."""
        for name, value in analyzed.values.items():
            self.journal.set_value(name, value)
        self.journal.add(analyzed.result, analyzed.file_key)
        if self.drawings is not None:
            self.drawings.remove(analyzed.result)
        self._report(analyzed.result)

    def _report(self, result: ImageResult) -> None:
        counted = self.results.counted(result)
        self.progress.advance(counted)
        self.tally.count(counted)

    def _store(self, loaded: Loaded, result: ImageResult) -> None:
        self.journal.add(result, loaded.file_key)
        if self.drawings is not None:
            stored = next(self.results.of([loaded.ref]))  # with what was reviewed before
            self.drawings.work(loaded, stored)()
