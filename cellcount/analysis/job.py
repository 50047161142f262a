"""One analyze job from request to written outputs: plan, journal, run, tables.

The runner is exchangeable; everything that is written is a pure function of the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cellcount.analysis.counting_setup import counting_of, profile_facts
from cellcount.analysis.drawing import Drawings
from cellcount.analysis.exports import Names, check_forms
from cellcount.analysis.fingerprint import fingerprint, thresholds_of
from cellcount.analysis.inputs import plan_of
from cellcount.analysis.load import Loaded, load
from cellcount.analysis.loaded_models import Models
from cellcount.analysis.local import Work, default_workers, run_local
from cellcount.analysis.outcome import Outcome, RunTally, TooManyFailuresError, library_versions
from cellcount.analysis.output_files import check_outputs, files_of, tables_of
from cellcount.analysis.pending import pending_of
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.progress import Progress
from cellcount.analysis.ray import Analyzed, WorkerSpec, check_ray, run_ray
from cellcount.analysis.run_outputs import Telling, Written
from cellcount.analysis.run_results import RunResults
from cellcount.analysis.shard_record import ShardFacts
from cellcount.analysis.slide_scales import SlideScales
from cellcount.analysis.stopping import image_in_hand_first
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import CellClass, ImageRef, ImageResult
from cellcount.differential.profile import profile_text
from cellcount.files.locks import claimed
from cellcount.images.find import Plan
from cellcount.images.stain_reference import load_stain_reference
from cellcount.outputs.pictures.annotate import prepare_folder
from cellcount.outputs.report.report import ReportSource
from cellcount.outputs.run_record import RunRecord, run_manifest_path, write_run_manifest
from cellcount.settings import AnalyzeRequest
from cellcount.store.journal import Journal, journal_path


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
        if request.run.runner == "ray":
            check_ray()
        output, settings = request.output, request.analyze
        check_forms(tables_of(output))
        self.names = Names(output, files_of(output))
        self.plan: Plan = plan_of(
            request.inputs,
            files_of(output),
            um_per_px=settings.um_per_px,
            annotated=output.annotated,
            slide_from=request.slide_from,
        )
        shard = request.run.shard
        self.refs = tuple(r for r in self.plan.refs if shard is None or shard.holds(r.image))
        self.stain = load_stain_reference(settings.stain_reference)  # wrong ones are told now
        self._loaded = models = Models.of(settings)
        self.detector, self.card = models.detector, models.detector.engine.card
        self.classifier, self.typer = models.classifier, models.typer
        self.weights_sha256 = models.sha256
        self.counting = counting_of(
            request.differential,
            (self.card, self.weights_sha256),
            self.classifier,
            wanted=shard is not None or output.slides is not None or output.report is not None,
        )
        self._clock.lap("prepare")

    @property
    def types(self) -> tuple[CellClass, ...]:
        """The types that cells are given, none where no classifier runs."""
        return () if self.classifier is None else self.classifier.types

    def run(self, watcher: Progress) -> Outcome:
        """Analyses what is not done yet, then writes every output.

        Raises:
            OutputError: an output cannot be written.
            JournalError: an earlier run of this output had other settings, or is still at it.
        """
        output, shard = self.request.output, str(self.request.run.shard or "")
        check_outputs(output)
        self.names.keep(self.plan.refs, self.request.slide_from or "")
        typing = None if self.classifier is None else self.classifier.facts()
        own = fingerprint(self.request.analyze, self.detector, self.weights_sha256, typing)
        path, fresh = journal_path(output.out), self.request.run.fresh
        with (
            Journal.open(path, own, fresh=fresh, shard=shard) as journal,
            claimed(tables_of(output)),
        ):
            self._keep_run(journal)
            if output.annotated is not None:
                prepare_folder(output.annotated)
            tally = RunTally(len(self.refs), self.request.run.max_failure_rate)
            interrupted, gave_up = None, False
            try:
                with image_in_hand_first() as stopping:
                    pending = self._analyze(journal, watcher, tally, stopping.check)
                    self._draw_missing(journal, pending, watcher, stopping.check)
            except KeyboardInterrupt as signal:
                interrupted = signal
            except TooManyFailuresError:
                gave_up = True
            self._clock.lap("draw")
            return self._write(journal, tally, gave_up=gave_up, interrupted=interrupted)

    def _analyze(
        self, journal: Journal, watcher: Progress, tally: RunTally, stop: Callable[[], None]
    ) -> list[ImageRef]:
        """Analyses the images without a result that stands; returns those that are drawn, too."""
        settings, total = self.request.analyze, len(self.refs)
        scales = SlideScales(self.plan.refs, self.detector, journal, settings.max_pixels)

        def within(share: float) -> None:
            stop()
            watcher.within(share)

        pipeline = Pipeline(self.detector, settings, scales, self.typer, within)
        pending = pending_of(self.refs, journal, scales, watcher.note)
        drawings, results = self._drawings(journal, watcher.note), self._results(journal)

        def tell(result: ImageResult) -> None:
            told = results.counted(result)
            watcher.advance(told)
            tally.count(told)

        def use(loaded: Loaded) -> Work:
            result = pipeline.analyze(loaded)

            def keep() -> None:
                journal.add(result, loaded.file_key)
                if drawings is not None:
                    stored = next(results.of([loaded.ref]))  # with what was reviewed before
                    drawings.work(loaded, stored)()

            tell(result)
            return keep

        def take(analyzed: Analyzed) -> None:
            for name, value in analyzed.values.items():
                journal.set_value(name, value)
            journal.add(analyzed.result, analyzed.file_key)
            if drawings is not None:
                drawings.remove(analyzed.result)  # drawn anew when all are there
            tell(analyzed.result)

        def check() -> None:
            tally.check()
            stop()

        watcher.start("Counting", total, total - len(pending))
        read, run = partial(load, max_pixels=settings.max_pixels), self.request.run
        try:
            if run.runner == "ray":
                order = WorkerSpec(settings, self.plan.refs, scales.known(), self._loaded.hashes)
                run_ray(pending, order, take, run, check)
                return []
            run_local(pending, read, use, workers=run.workers, check=check)
        finally:
            self._clock.lap("analyze")
        return pending

    def _results(self, journal: Journal) -> RunResults:
        return RunResults(journal, self.counting.profile)

    def _drawings(self, journal: Journal, note: Callable[[str], None]) -> Drawings | None:
        """The annotated pictures, None where none are wanted."""
        if self.request.output.annotated is None:
            return None
        telling = self._telling()
        reviewed = self._results(journal).reviews(self.refs)
        return Drawings(telling.reviewed_by(reviewed), note)

    def _draw_missing(
        self,
        journal: Journal,
        analyzed: list[ImageRef],
        watcher: Progress,
        stop: Callable[[], None],
    ) -> None:
        """Pictures of images analysed earlier, where they are asked for only now."""
        drawings = self._drawings(journal, watcher.note)
        if drawings is None:
            return
        fresh = {ref.image for ref in analyzed}
        earlier = [ref for ref in self.refs if ref.image not in fresh]
        missing = []
        for result in self._results(journal).of(earlier):
            if result.status == "excluded":
                drawings.remove(result)  # drawn by another profile's thresholds
            elif drawings.is_drawn(result) and not drawings.exists(result):
                missing.append(result.ref)
        if not missing:
            return
        read = partial(load, max_pixels=self.request.analyze.max_pixels)
        # In the order of the plan, as ``missing`` is.
        results = self._results(journal).of(missing)

        def use(loaded: Loaded) -> Work:
            result = next(results)
            watcher.advance(result)
            return drawings.work(loaded, result)

        watcher.start("Drawing", len(missing))
        run_local(missing, read, use, workers=self.request.run.workers, check=stop)

    def _write(
        self,
        journal: Journal,
        tally: RunTally,
        *,
        gave_up: bool,
        interrupted: KeyboardInterrupt | None,
    ) -> Outcome:
        telling = self._telling()
        written = telling.write(journal, telling.results(journal, self.refs))
        tables, totals, output = written.tables, written.totals, telling.output
        self._clock.lap("write")
        record_path = run_manifest_path(output.out)
        outcome = Outcome(
            images=len(self.refs),
            totals=totals,
            written=(*tables, *output.folders, record_path),
            seconds=self._clock.stages.get("analyze", 0.0),
            analyzed_now=tally.images,
            gave_up=gave_up,
            interrupted=interrupted,
        )
        write_run_manifest(record_path, self._record(outcome, written, tally))
        return outcome

    def _telling(self) -> Telling:
        """What outputs tell of this job besides its results."""
        settings = self.request.analyze
        source = ReportSource(
            counting=self.counting,
            types=self.types,
            images=len(self.refs),
            densest_field=self.card.densest_field,
            notes=self.card.notes,
            versions=library_versions(),
            settings=settings.fingerprint_fields(),
            max_pixels=settings.max_pixels,
        )
        return Telling(self.request.output, self.names, source)

    def _keep_run(self, journal: Journal) -> None:
        """Enters what a review and a merge need to write the outputs again."""
        telling, request = self._telling(), self.request
        profile = profile_text(request.differential.profile or self.counting.profile.name)
        StoredRun(telling.output, telling.source, self.refs, Path.cwd(), profile).keep(journal)
        if request.run.shard is not None:
            facts = ShardFacts.of(self.plan, request.inputs, library_versions(), self._models())
            facts.keep(journal)

    def _record(self, outcome: Outcome, written: Written, tally: RunTally) -> RunRecord:
        totals, settings = outcome.totals, self.request.run
        models = self._models()
        models["settings"] = self.names.settings(models["settings"]) | {
            "workers": settings.workers or default_workers(),
            "max_failure_rate": settings.max_failure_rate,
            "shard": None if settings.shard is None else str(settings.shard),
        }
        return RunRecord(
            versions=library_versions(),
            **models,
            profile=profile_facts(self.counting),
            inputs=self.names.inputs(self.request.inputs),
            passed_over=self.names.passed_over(self.plan),
            images=outcome.images,
            done=totals.done,
            cells=totals.cells,
            not_done=totals.not_done,
            outputs=written.tables,
            review=None if written.reviewed is None else written.reviewed.facts(),
            timings_s=self._clock.stages,
            analyzed_now=tally.images,
            cells_now=tally.cells,
            started=self._clock.started,
            finished=datetime.now(UTC),
            interrupted=outcome.interrupted is not None,
        )

    def _models(self) -> dict[str, Any]:
        """What run.json tells of models and settings, by its names."""
        engine, request = self.detector.engine, self.request
        return {
            "engine": engine.name,
            "device": engine.device,
            "precision": engine.precision,
            "weights": {self.card.name: self.weights_sha256},
            "thresholds": thresholds_of(self.card, request.analyze.min_score),
            "classifier": None if self.classifier is None else self.classifier.facts(),
            "settings": {
                **request.analyze.fingerprint_fields(),
                "batch_size": engine.batch_size,
                "refine_steps": self.card.refinement.steps,
                "stain_dyes": None if self.stain is None else self.stain.facts(),
                "annotate": request.output.annotate,
                "csv_separator": request.output.csv_separator,
                "csv_bom": request.output.csv_bom,
                "pseudonymized": request.output.pseudonymize is not None,
                "slide_from": request.slide_from,
            },
        }
