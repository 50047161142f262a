"""One analyze job from request to written outputs: plan, journal, run, tables.

The runner is exchangeable; everything that is written is a pure function of the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.engines.cell_types import CellTyper
from cellcount.engines.field import FieldDetector
from cellcount.errors import UsageError
from cellcount.images.find import Plan
from cellcount.journal import Journal, journal_path
from cellcount.models.weights import resolve, sha256_of
from cellcount.outputs.annotate import annotated_path, prepare_folder, write_annotated
from cellcount.outputs.atomic import check_folder_writable, check_writable
from cellcount.outputs.exports import write_coco
from cellcount.outputs.manifest import (
    RunRecord,
    run_manifest_path,
    write_run_manifest,
)
from cellcount.outputs.report import ReportSource, write_report
from cellcount.outputs.slides import write_slides
from cellcount.outputs.tables import write_cells, write_counts
from cellcount.pipeline import (
    Loaded,
    Pipeline,
    SlideScales,
    fingerprint,
    load,
    thresholds_of,
)
from cellcount.profiles.quality import judged
from cellcount.records import CellClass, ImageRef, ImageResult
from cellcount.runners.exports import Names, check_forms, write_exports
from cellcount.runners.inputs import plan_of
from cellcount.runners.loaded_classifier import LoadedClassifier
from cellcount.runners.local import Work, default_workers, run_local
from cellcount.runners.outcome import (
    Outcome,
    Tally,
    TooManyFailuresError,
    Totals,
    library_versions,
)
from cellcount.runners.slides import counting_of, fields_of, profile_facts
from cellcount.settings import NO_CLASSIFIER, AnalyzeRequest, OutputSettings


class Watcher(Protocol):
    """Whoever shows progress to a person."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """``activity`` ("Counting") begins; ``already`` of ``total`` images are done."""
        ...

    def advance(self, result: ImageResult) -> None:
        """One more image is finished."""
        ...


@dataclass
class _Clock:
    """Seconds per stage."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    stages: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = round(now - self._last, 3)
        self._last = now


class Job:
    """An analyze request, made ready to run; nothing is written before ``run``.

    Raises:
        UsageError: inputs and outputs do not go together.
        WeightsError: no such model.
        CellcountError: there is no image.
    """

    def __init__(self, request: AnalyzeRequest) -> None:
        self.request = request
        self._clock = _Clock()
        output, settings = request.output, request.analyze
        check_forms(path for path in _tables_of(output) if path is not None)
        self.names = Names(output, _files_of(output))
        self.plan: Plan = plan_of(
            request.inputs,
            _files_of(output),
            um_per_px=settings.um_per_px,
            annotated=output.annotated,
            slide_from=request.slide_from,
        )
        self.weights = resolve(settings.detector)
        options = EngineOptions(
            settings.device,
            settings.precision,
            settings.batch_size,
            settings.plugins,
            settings.refine_steps,
        )
        engine = load_engine(choose_engine(settings.engine), self.weights, options)
        self.detector = FieldDetector(engine, settings.tile_px)
        self.card = engine.card
        self._weights_sha256 = sha256_of(self.weights)
        self.classifier: LoadedClassifier | None = None
        self.typer: CellTyper | None = None
        if settings.classifier != NO_CLASSIFIER:
            # --batch-size is a number of tiles; cells have the classifier's own default.
            loaded = LoadedClassifier.of(
                settings.classifier, settings.type_map, replace(options, batch_size=0)
            )
            self.classifier = loaded
            self.typer = CellTyper(loaded.classifier, self.card, loaded.type_map)
        self.counting = counting_of(
            request.differential,
            (self.card, self._weights_sha256),
            self.classifier,
            wanted=output.slides is not None or output.report is not None,
        )
        self._clock.lap("prepare")

    @property
    def types(self) -> tuple[CellClass, ...]:
        """The types that cells are given, none where no classifier runs."""
        return () if self.classifier is None else self.classifier.types

    def run(self, watcher: Watcher) -> Outcome:
        """Analyses what is not done yet, then writes every output.

        Raises:
            OutputError: an output cannot be written.
            JournalError: an earlier run of this output had other settings, or is still at it.
        """
        output, refs = self.request.output, self.plan.refs
        for path in _files_of(output):
            check_writable(path)
        for folder in output.folders:
            check_folder_writable(folder)
        self.names.keep(self.plan)
        typing = None if self.classifier is None else self.classifier.facts()
        own = fingerprint(self.request.analyze, self.detector, self._weights_sha256, typing)
        path = journal_path(output.out)
        with Journal.open(path, own, fresh=self.request.run.fresh) as journal:
            if output.annotated is not None:
                prepare_folder(output.annotated)
            pending = [ref for ref in refs if not journal.is_done(ref)]
            tally = Tally(len(refs), self.request.run.max_failure_rate)
            interrupted, gave_up = None, False
            try:
                self._analyze(journal, pending, watcher, tally)
                self._draw_missing(journal, pending, watcher)
            except KeyboardInterrupt as signal:
                interrupted = signal
            except TooManyFailuresError:
                gave_up = True
            self._clock.lap("draw")
            return self._write(journal, tally, gave_up=gave_up, interrupted=interrupted)

    def _analyze(
        self, journal: Journal, pending: list[ImageRef], watcher: Watcher, tally: Tally
    ) -> None:
        settings, total = self.request.analyze, len(self.plan.refs)
        scales = SlideScales(self.plan.refs, self.detector, journal, settings.max_pixels)
        pipeline = Pipeline(self.detector, settings, scales, self.typer)

        def use(loaded: Loaded) -> Work | None:
            result = pipeline.analyze(loaded)
            journal.add(result, loaded.file_key)
            result = self._judged(result)
            watcher.advance(result)
            tally.count(result)
            return self._drawing(loaded, result)

        watcher.start("Counting", total, total - len(pending))
        read = partial(load, max_pixels=settings.max_pixels)
        try:
            run_local(pending, read, use, workers=self.request.run.workers)
        finally:
            self._clock.lap("analyze")

    def _drawing(self, loaded: Loaded, result: ImageResult) -> Work | None:
        """The work of drawing one image, None where none is wanted."""
        output = self.request.output
        if output.annotated is None:
            return None
        path = annotated_path(output.annotated, self.names.image(result.ref.image))
        if loaded.picture is None or not _is_drawn(output, result):
            # Drawn from an earlier result, perhaps: no picture may contradict the tables.
            return partial(path.unlink, missing_ok=True)
        return partial(
            write_annotated,
            path,
            loaded.picture,
            result.cells,
            self.card.classes,
            self._title(result),
            self.types,
        )

    def _judged(self, result: ImageResult) -> ImageResult:
        """The result by the profile's thresholds of quality, which the journal does not know."""
        return judged(result, self.counting.profile.quality)

    def _title(self, result: ImageResult) -> str:
        """What a picture is called; one of a forced profile says so, as every output does."""
        name, forced = self.names.image(result.ref.image), self.counting.rules.forced
        return f"{name}, {self.counting.label}" if forced else name

    def _draw_missing(self, journal: Journal, analyzed: list[ImageRef], watcher: Watcher) -> None:
        """Pictures of images analysed earlier, where they are asked for only now."""
        output = self.request.output
        if output.annotated is None:
            return
        fresh = {ref.image for ref in analyzed}
        earlier = [ref for ref in self.plan.refs if ref.image not in fresh]
        missing = []
        for result in map(self._judged, journal.results(earlier)):
            path = annotated_path(output.annotated, self.names.image(result.ref.image))
            if result.status == "excluded":
                path.unlink(missing_ok=True)  # drawn by another profile's thresholds
            elif _is_drawn(output, result) and not path.exists():
                missing.append(result.ref)
        if not missing:
            return
        read = partial(load, max_pixels=self.request.analyze.max_pixels)
        # In the order of the plan, as ``missing`` is.
        results = map(self._judged, journal.results(missing))

        def use(loaded: Loaded) -> Work | None:
            result = next(results)
            watcher.advance(result)
            return self._drawing(loaded, result)

        watcher.start("Drawing", len(missing))
        run_local(missing, read, use, workers=self.request.run.workers)

    def _write(
        self,
        journal: Journal,
        tally: Tally,
        *,
        gave_up: bool,
        interrupted: KeyboardInterrupt | None,
    ) -> Outcome:
        output, classes, types = self.request.output, self.card.classes, self.types
        profile, separator = self.counting.label, output.csv_separator

        def results() -> Iterator[ImageResult]:
            stored = journal.results(self.names.ordered(self.plan.refs))
            return map(self.names.result, map(self._judged, stored))

        tables = [output.out]
        write_counts(output.out, results(), classes, separator, types, profile, bom=output.csv_bom)
        if output.cells is not None:
            write_cells(
                output.cells, results(), classes, separator, types, profile, bom=output.csv_bom
            )
            tables.append(output.cells)
        if output.slides is not None:
            fields = fields_of(results(), self.counting)
            write_slides(output.slides, fields, self.counting, separator, bom=output.csv_bom)
            tables.append(output.slides)
        if output.coco is not None:
            write_coco(output.coco, results(), classes, types, profile)
            tables.append(output.coco)
        write_exports(output, results, classes, types)
        if output.report is not None:
            write_report(output.report, results, self._source())
            tables.append(output.report)
        totals = Totals.of(results(), classes, types)
        self._clock.lap("write")
        record_path = run_manifest_path(output.out)
        outcome = Outcome(
            images=len(self.plan.refs),
            totals=totals,
            written=(*tables, *output.folders, record_path),
            seconds=self._clock.stages.get("analyze", 0.0),
            analyzed_now=tally.images,
            gave_up=gave_up,
            interrupted=interrupted,
        )
        write_run_manifest(record_path, self._record(outcome, tables, tally))
        return outcome

    def _source(self) -> ReportSource:
        """What the report tells of this job besides its results."""
        settings = self.request.analyze
        return ReportSource(
            counting=self.counting,
            types=self.types,
            images=len(self.plan.refs),
            densest_field=self.card.densest_field,
            notes=self.card.notes,
            versions=library_versions(),
            settings=settings.fingerprint_fields(),
            max_pixels=settings.max_pixels,
        )

    def _record(self, outcome: Outcome, tables: list[Path], tally: Tally) -> RunRecord:
        engine, request = self.detector.engine, self.request
        totals = outcome.totals
        behaviour = {
            "workers": request.run.workers or default_workers(),
            "max_failure_rate": request.run.max_failure_rate,
            "annotate": request.output.annotate,
            "csv_separator": request.output.csv_separator,
            "csv_bom": request.output.csv_bom,
            "pseudonymized": request.output.pseudonymize is not None,
            "slide_from": request.slide_from,
        }
        return RunRecord(
            versions=library_versions(),
            engine=engine.name,
            device=engine.device,
            precision=engine.precision,
            weights={self.card.name: self._weights_sha256},
            thresholds=thresholds_of(self.card, request.analyze.min_score),
            classifier=None if self.classifier is None else self.classifier.facts(),
            profile=profile_facts(self.counting),
            settings={
                **request.analyze.fingerprint_fields(),
                "batch_size": engine.batch_size,
                "refine_steps": self.card.refinement.steps,
                **behaviour,
            },
            inputs=self.names.inputs(request.inputs),
            passed_over=self.names.passed_over(self.plan),
            images=outcome.images,
            done=totals.done,
            cells=totals.cells,
            not_done=totals.not_done,
            outputs=tables,
            timings_s=self._clock.stages,
            analyzed_now=tally.images,
            cells_now=tally.cells,
            started=self._clock.started,
            finished=datetime.now(UTC),
            interrupted=outcome.interrupted is not None,
        )


def _tables_of(output: OutputSettings) -> tuple[Path | None, ...]:
    """The files that were asked for, where they were."""
    return output.out, output.cells, output.slides, output.coco, output.report


def _files_of(output: OutputSettings) -> list[Path]:
    """Every single file that a run writes; two of one name are a ``UsageError``."""
    record, journal = run_manifest_path(output.out), journal_path(output.out)
    files = [path for path in _tables_of(output) if path is not None]
    for path in files:
        if path.absolute() in (record.absolute(), journal.absolute()):
            raise UsageError(
                f"{path} is where this run keeps its own notes beside --out; name another file"
            )
    return [*files, record, journal, journal.with_name(journal.name + ".lock")]


def _is_drawn(output: OutputSettings, result: ImageResult) -> bool:
    """Failed images have no picture; ``flagged`` are done images with a caution."""
    return result.status == "done" and (output.annotate == "all" or bool(result.reason))
