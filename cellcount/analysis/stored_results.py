"""The results of a finished run, found beside its counts.csv and told as its outputs tell them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cellcount.analysis.output_files import OutputFiles
from cellcount.analysis.review_summary import ReviewSummary
from cellcount.analysis.run_outputs import RunOutputs
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import ImageRef, ImageResult
from cellcount.errors import ImageError, UsageError
from cellcount.images.source import Source, open_source
from cellcount.outputs.pseudonyms import OutputNames
from cellcount.outputs.run_content import ResultStream, RunContent
from cellcount.outputs.run_record import RUN_RECORD_SUFFIX
from cellcount.store.journal import JOURNAL_SUFFIX, Journal, journal_path


@dataclass(frozen=True, eq=False, slots=True)
class StoredResults:
    """A finished run.

    Attributes:
        journal: its results and reviews.
        run: what it wrote.
        outputs: where it is told, and how.
    """

    journal: Journal
    run: StoredRun
    outputs: RunOutputs

    def results(self) -> ResultStream:
        """Return the results as outputs have them, reviews beside the classifier's types."""
        named = self.outputs.results(self.journal, self.run.refs)
        return lambda: map(self._found, named())

    def unnamed(self, refs: list[ImageRef]) -> Iterator[ImageResult]:
        """Results of some images under their real names, not their codes."""
        return map(self._found, self.outputs.results_in(self.journal).of(refs))

    def reviews(self) -> ReviewSummary | None:
        """Sum up what reviewers said; None where nothing was reviewed."""
        return self.outputs.results_in(self.journal).reviews(self.run.refs)

    def _found(self, result: ImageResult) -> ImageResult:
        return replace(result, ref=self.run.found(result.ref))

    def contents(self) -> dict[str, RunContent]:
        """Contents of its outputs as they count now, by which types of cells a form sees."""
        return self.outputs.contents(self.journal, self.results(), self.reviews())

    def source(self, result: ImageResult) -> Source:
        """Open an image as it was analysed.

        Raises:
            ImageError: it cannot be read any more, or has another size now.
        """
        source = open_source(result.ref, max_pixels=self.run.facts.max_pixels)
        width, height = source.size_px
        if (width, height) != (result.width_px, result.height_px):
            raise ImageError(
                f"{result.ref.path} has {width} x {height} px, but {result.width_px} x "
                f"{result.height_px} px when it was analysed; put the image of then back, or "
                "analyse it again"
            )
        return source

    def by_name(self) -> dict[str, ImageRef]:
        """Return a dictionary from the name of an image in outputs to the image."""
        return {self.outputs.names.image(ref.image): ref for ref in self.run.refs}


@contextmanager
def stored_results(path: Path, *, work: str = "") -> Iterator[StoredResults]:
    """The run that a counts.csv, run.json, journal or folder of results belongs to.

    Args:
        path: one of these.
        work: what others are told meanwhile that the journal is in use for.

    Raises:
        UsageError: it belongs to none, or the key of its codes is gone.
        JournalError: the journal is in use, damaged, or of another version.
    """
    with Journal.reopen(journal_of(path), work=work) as journal:
        run = StoredRun.read(journal)
        key = run.output.pseudonymize
        if key is not None and not key.is_file():
            raise UsageError(
                f"the outputs have codes for names, whose key file {key} is gone; put it back"
            )
        outputs = RunOutputs(OutputFiles(run.output, run.packages), OutputNames(key), run.facts)
        yield StoredResults(journal, run, outputs)


def is_run(source: Path) -> bool:
    """Return whether a path belongs to results of ``cellcount analyze``."""
    if source.is_dir():
        return any(source.glob(f"*{JOURNAL_SUFFIX}"))
    ends = (JOURNAL_SUFFIX, RUN_RECORD_SUFFIX)
    return source.name.endswith(ends) or journal_path(source).is_file()


def journal_of(path: Path) -> Path:
    """The journal of some results.

    Raises:
        UsageError: there is none.
    """
    if path.is_dir():
        found = sorted(p for p in path.glob(f"*{JOURNAL_SUFFIX}") if p.is_file())
        if len(found) == 1:
            return found[0]
        names = ", ".join(p.name.removesuffix(JOURNAL_SUFFIX) + ".csv" for p in found)
        several = f"{len(found)} runs lie in {path}: name one of {names}"
        raise UsageError(several if found else f"{path} holds no results of cellcount analyze")
    journal = path if path.name.endswith(JOURNAL_SUFFIX) else journal_path(path)
    if path.name.endswith(RUN_RECORD_SUFFIX):
        journal = path.with_name(path.name.removesuffix(RUN_RECORD_SUFFIX) + JOURNAL_SUFFIX)
    if not journal.is_file():
        raise UsageError(
            f"{path} has no journal {journal.name} beside it, which holds the results; name the "
            "counts.csv that cellcount analyze --out wrote"
        )
    return journal
