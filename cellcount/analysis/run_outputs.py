"""Writing every output of a run: the same bytes from the same results, whoever asks for them.

A run of all images, a merge of its shards and a review all end here. What a reviewer said goes
before what the classifier said, in counts, differentials and exports; cells.csv and COCO tell both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cellcount.analysis.counting_setup import fields_of
from cellcount.analysis.exports import Names, Results, write_exports
from cellcount.analysis.outcome import Totals
from cellcount.analysis.review_summary import Reviewed, reviewed_source
from cellcount.analysis.run_results import RunResults
from cellcount.core.cells import with_reviews
from cellcount.core.records import ImageRef, ImageResult
from cellcount.outputs.coco_export import write_coco
from cellcount.outputs.report.report import ReportSource, write_report
from cellcount.outputs.review_tables import history_path, write_history
from cellcount.outputs.slides import write_slides
from cellcount.outputs.tables import write_cells, write_counts
from cellcount.settings import OutputSettings
from cellcount.store.journal import Journal


class Written(NamedTuple):
    """What was written: the tables and pages, the sums over their rows, and the reviews."""

    tables: list[Path]
    totals: Totals
    reviewed: Reviewed | None


@dataclass(frozen=True, eq=False, slots=True)
class Telling:
    """What is written, and all that outputs tell besides the results.

    Attributes:
        output: where they go and in which form.
        names: what images are called.
        source: how cells are counted, the types, and what the report tells.
    """

    output: OutputSettings
    names: Names
    source: ReportSource

    def reviewed_by(self, reviewed: Reviewed | None) -> Telling:
        """With the types that only reviewers gave."""
        return replace(self, source=reviewed_source(self.source, reviewed))

    def results(self, journal: Journal, refs: tuple[ImageRef, ...]) -> Results:
        """The results as outputs tell them, but with the classifier's own types."""

        def stream() -> Iterator[ImageResult]:
            stored = RunResults(journal, self.source.counting.profile)
            return map(self.names.result, stored.of(self.names.ordered(refs)))

        return stream

    def final(self, results: Results) -> Results:
        """The results with the types that count: a reviewer's, else the classifier's."""
        ids = [t.id for t in self.source.types]
        return lambda: (with_reviews(result, ids) for result in results())

    def write(self, journal: Journal, results: Results) -> Written:
        """Write every output that was asked for, but the annotated pictures.

        Args:
            journal: tells the history of reviews.
            results: as `results` gives them.

        Raises:
            OutputError: one cannot be written; an older one is untouched.
        """
        reviewed = Reviewed.of(results()) if journal.has_reviews else None
        telling = self.reviewed_by(reviewed)
        final = telling.final(results)
        tables = telling._write_tables(results, final)
        if journal.has_reviews:
            tables.append(telling._write_reviews(journal))
        counting, types = telling.source.counting, telling.source.types
        return Written(tables, Totals.of(final(), counting.classes, types), reviewed)

    def _write_tables(self, results: Results, final: Results) -> list[Path]:
        output, counting, types = self.output, self.source.counting, self.source.types
        classes, profile = counting.classes, counting.label
        separator, bom = output.csv_separator, output.csv_bom
        tables = [output.out]
        write_counts(output.out, final(), classes, separator, types, profile, bom=bom)
        if output.cells is not None:
            write_cells(output.cells, results(), classes, separator, types, profile, bom=bom)
            tables.append(output.cells)
        if output.slides is not None:
            fields = fields_of(final(), counting)
            write_slides(output.slides, fields, counting, separator, bom=bom)
            tables.append(output.slides)
        if output.coco is not None:
            write_coco(output.coco, results(), classes, types, profile)
            tables.append(output.coco)
        write_exports(output, final, classes, types, profile)
        if output.report is not None:
            write_report(output.report, final, self.source)
            tables.append(output.report)
        return tables

    def _write_reviews(self, journal: Journal) -> Path:
        """The history of reviews, beside counts.csv."""
        path = history_path(self.output.out)
        names = self.names
        told = (
            replace(one, image=names.image(one.image), source=names.text(one.source))
            for one in journal.reviews()
        )
        write_history(path, told, self.output.csv_separator, bom=self.output.csv_bom)
        return path
