"""Writing of every output of a run: the same results give the same bytes, whichever command writes.

A run of all images, a merge of its shards and a review all end here. What a reviewer said goes
before what the classifier said, in counts, differentials and exports; cells.csv and COCO tell both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cellcount.analysis.flag_words import FlagWords
from cellcount.analysis.near_copies import NearCopies
from cellcount.analysis.outcome import Totals
from cellcount.analysis.output_files import OutputFiles
from cellcount.analysis.review_summary import ReviewSummary, with_reviewer_types, with_types
from cellcount.analysis.run_results import RunResults
from cellcount.core.cells import with_reviews
from cellcount.core.records import ImageRef, ImageResult
from cellcount.differential.advice import experimental
from cellcount.outputs.approval_table import write_approvals
from cellcount.outputs.forms import write_together
from cellcount.outputs.pseudonyms import OutputNames
from cellcount.outputs.review_tables import write_history
from cellcount.outputs.run_content import ResultStream, RunContent, RunFacts
from cellcount.store.approvals import approvals_of
from cellcount.store.edits import Edit
from cellcount.store.journal import Journal


class Written(NamedTuple):
    """Tables and pages that were written, the sums over their rows, and the reviews."""

    tables: list[Path]
    totals: Totals
    reviewed: ReviewSummary | None


@dataclass(frozen=True, eq=False, slots=True)
class RunOutputs:
    """Outputs of a run: their paths, and all the facts that they state besides the results.

    Attributes:
        files: where they go and in which form.
        names: what images are called.
        facts: how cells are counted, the types, and what else outputs tell.
    """

    files: OutputFiles
    names: OutputNames
    facts: RunFacts

    def reviewed_by(self, reviewed: ReviewSummary | None) -> RunOutputs:
        """Return these outputs with the types that only reviewers gave."""
        return replace(self, facts=with_reviewer_types(self.facts, reviewed))

    def approved_in(self, journal: Journal) -> RunOutputs:
        """Return these outputs with the approvals of slides that a journal holds."""
        name = self.names.path
        found = {
            (name(specimen), name(slide)): approval
            for (specimen, slide), approval in approvals_of(journal.remarks()).items()
        }
        return replace(self, facts=replace(self.facts, approvals=found)) if found else self

    def drawn(self, journal: Journal) -> RunOutputs:
        """Return these outputs with every type that a reviewer gave, on unfinished images, too."""
        said = [state.review for state in journal.corrections().values()]
        types = frozenset(review.type_id for review in said if review is not None)
        return replace(self, facts=with_types(self.facts, types))

    def results_in(self, journal: Journal) -> RunResults:
        """The results in a journal, as they count."""
        return RunResults(journal, self.facts.counting.profile)

    def results(self, journal: Journal, refs: tuple[ImageRef, ...]) -> ResultStream:
        """Stream the results as outputs state them, but with the classifier's own types."""
        stored, copies = self.results_in(journal), NearCopies.among(journal, refs)
        name, flags = self.names.image, FlagWords.of(journal, refs)

        def told(result: ImageResult) -> ImageResult:
            named = copies.told(self.names.result(result), result.ref.image, name)
            return flags.told(named, result.ref.image)

        return lambda: map(told, stored.of_every(self.names.ordered(refs)))

    def final(self, result: ImageResult) -> ImageResult:
        """Return a result with the types that count: a reviewer's, else the classifier's.

        Detected white cells whose type is that of none are marked as rejected.
        """
        typed = with_reviews(result, [t.id for t in self.facts.types])
        return self.facts.counting.rejecting(typed)

    def content(self, results: ResultStream) -> RunContent:
        """Content from which forms of output are written."""
        return RunContent(results, self.facts.labels, self.files.settings.csv, self.facts)

    def contents(
        self, journal: Journal, results: ResultStream, reviewed: ReviewSummary | None
    ) -> dict[str, RunContent]:
        """Contents of the outputs: one with the final types, one with the classifier's own.

        Args:
            journal: tells what people signed off.
            results: as `results` gives them.
            reviewed: sums up what reviewers said, None where nothing was reviewed.
        """
        outputs = self.reviewed_by(reviewed).approved_in(journal)
        final = outputs.content(lambda: map(outputs.final, results()))
        return {"own": outputs.content(results), "final": final}

    def write(self, journal: Journal, results: ResultStream) -> Written:
        """Write every output that was asked for, but the annotated pictures.

        Args:
            journal: tells the history of reviews.
            results: as `results` gives them.

        Raises:
            OutputError: one cannot be written; an older one is untouched.
        """
        corrections = journal.corrections()
        reviewed = ReviewSummary.of(results(), corrections) if corrections else None
        begun, changed = _times_of(journal)
        contents = {
            sees: replace(content, begun=begun, changed=changed)
            for sees, content in self.contents(journal, results, reviewed).items()
        }
        final = contents["final"]
        for path, forms in self.files.written:
            write_together(forms, path, contents)
        tables = self.files.tables
        if journal.has_reviews:
            tables.append(self._write_reviews(journal))
        if approvals := final.facts.approvals:
            write_approvals(self.files.approvals, approvals, self.files.settings.csv)
            tables.append(self.files.approvals)
        return Written(tables, Totals.of(final.results(), final.labels), reviewed)

    def notes(self, written: Written) -> tuple[str, ...]:
        """Notes for people on what was written, in a sentence each."""
        loss = "" if written.reviewed is None else written.reviewed.loss(self.names.image)
        doubts = [advice.text for advice in experimental(self.facts.counting.rules)]
        return (*doubts, loss) if loss else tuple(doubts)

    def _write_reviews(self, journal: Journal) -> Path:
        """The history of reviews, beside counts.csv."""
        write_history(self.files.history, self._told(journal), self.files.settings.csv)
        return self.files.history

    def _told(self, journal: Journal) -> Iterator[Edit]:
        names = self.names
        for one in journal.edits():
            yield replace(one, image=names.image(one.image), source=names.text(one.source))


def _times_of(journal: Journal) -> tuple[str, str]:
    """Return when a journal's first outputs were written, which it keeps, and when they changed."""
    begun = journal.get_value("begun")
    if not isinstance(begun, str):
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        journal.set_value("begun", begun)
    said = [e.made_at for e in journal.edits()]
    said += [r.made_at for r in journal.remarks() if r.kind in ("approve", "reopen")]
    times = [datetime.fromisoformat(time) for time in (begun, *said)]
    return _written(times[0]), _written(max(times))


def _written(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y%m%d%H%M%S%z")
