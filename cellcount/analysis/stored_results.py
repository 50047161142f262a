"""The results of a finished run, found beside its counts.csv and told as its outputs tell them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cellcount.analysis.exports import Names, Results
from cellcount.analysis.run_outputs import Telling
from cellcount.analysis.run_results import RunResults
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import ImageRef, ImageResult
from cellcount.errors import UsageError
from cellcount.store.journal import Journal, journal_path

_JOURNAL, _MANIFEST = ".journal.sqlite", ".run.json"


@dataclass(frozen=True, eq=False, slots=True)
class StoredResults:
    """A finished run.

    Attributes:
        journal: its results and reviews.
        run: what it wrote.
        telling: how it is told.
    """

    journal: Journal
    run: StoredRun
    telling: Telling

    def results(self) -> Results:
        """As outputs tell them, with reviews beside the classifier's own types."""
        named = self.telling.results(self.journal, self.run.refs)
        return lambda: map(self._found, named())

    def unnamed(self, refs: list[ImageRef]) -> Iterator[ImageResult]:
        """Results of some images under their own names."""
        stored = RunResults(self.journal, self.run.source.counting.profile)
        return map(self._found, stored.of(refs))

    def _found(self, result: ImageResult) -> ImageResult:
        return replace(result, ref=self.run.found(result.ref))

    def by_name(self) -> dict[str, ImageRef]:
        """What outputs call an image → the image."""
        return {self.telling.names.image(ref.image): ref for ref in self.run.refs}


@contextmanager
def stored_results(path: Path) -> Iterator[StoredResults]:
    """The run that a counts.csv, run.json, journal or folder of results belongs to.

    Raises:
        UsageError: it belongs to none, or the key of its codes is gone.
        JournalError: the journal is in use, damaged, or of another version.
    """
    with Journal.reopen(journal_of(path)) as journal:
        run = StoredRun.read(journal)
        key = run.output.pseudonymize
        if key is not None and not key.is_file():
            raise UsageError(
                f"the outputs have codes for names, whose key file {key} is gone; put it back"
            )
        yield StoredResults(journal, run, Telling(run.output, Names(run.output, ()), run.source))


def journal_of(path: Path) -> Path:
    """The journal of some results.

    Raises:
        UsageError: there is none.
    """
    if path.is_dir():
        found = sorted(p for p in path.glob(f"*{_JOURNAL}") if p.is_file())
        if len(found) == 1:
            return found[0]
        names = ", ".join(p.name.removesuffix(_JOURNAL) + ".csv" for p in found)
        several = f"{len(found)} runs lie in {path}: name one of {names}"
        raise UsageError(several if found else f"{path} holds no results of cellcount analyze")
    journal = path if path.name.endswith(_JOURNAL) else journal_path(path)
    if path.name.endswith(_MANIFEST):
        journal = path.with_name(path.name.removesuffix(_MANIFEST) + _JOURNAL)
    if not journal.is_file():
        raise UsageError(
            f"{path} has no journal {journal.name} beside it, which holds the results; name the "
            "counts.csv that cellcount analyze --out wrote"
        )
    return journal
