"""One analyze job from request to written outputs: plan, journal, run, tables.

The runner is exchangeable; everything that is written is a pure function of the journal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellcount.analysis.checked_request import CheckedRequest
from cellcount.analysis.counting_setup import counting_of, profile_facts
from cellcount.analysis.earlier_run import (
    earlier_images,
    keep_names,
    left_images,
    refuse_other_images,
    told_left,
)
from cellcount.analysis.fingerprint import fingerprint, thresholds_of
from cellcount.analysis.image_run import ImageRun
from cellcount.analysis.loaded_models import Models
from cellcount.analysis.local import default_workers
from cellcount.analysis.outcome import Outcome, RunTally, TooManyFailuresError, library_versions
from cellcount.analysis.progress import Progress
from cellcount.analysis.ray import check_ray
from cellcount.analysis.run_outputs import RunOutputs, Written
from cellcount.analysis.shard_record import ShardFacts
from cellcount.analysis.stopping import image_in_hand_first
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import CellClass
from cellcount.differential.profile import profile_text
from cellcount.files.locks import locked
from cellcount.images.find import Plan
from cellcount.outputs.pictures.annotate import prepare_folder
from cellcount.outputs.run_content import RunFacts
from cellcount.outputs.run_record import RunRecord, write_run_manifest
from cellcount.store.journal import Journal


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
    """A checked analyze request, made ready to run; nothing is written before ``run``.

    Args:
        checked: the request; its checks need no torch, so that a command reports mistakes before
            this module is imported.

    Raises:
        UsageError: models, profile and options do not fit together.
        WeightsError: a weight file is damaged, or does not fit its card.
        CellcountError: the runner is Ray, which is not installed.
    """

    def __init__(self, checked: CheckedRequest) -> None:
        self._clock = _Clock()
        request = self.request = checked.request
        if request.run.runner == "ray":
            check_ray()
        files, names, settings = checked.files, checked.names, request.analyze
        self._renewed, self._known_names = checked.renewed, checked.known_names
        self.plan: Plan = checked.plan
        shard = request.run.shard
        self.refs = tuple(r for r in self.plan.refs if shard is None or shard.holds(r.image))
        self.stain = checked.stain
        self._models = models = Models.of(settings)
        self.detector, self.card = models.detector, models.detector.engine.card
        self.classifier, self.typer = models.classifier, models.typer
        self.weights_sha256 = models.sha256
        self.counting = counting_of(
            request.differential,
            (self.card, self.weights_sha256),
            self.classifier,
            wanted=shard is not None or bool(files.differentials),
        )
        self.outputs = RunOutputs(files, names, self._facts())
        self._clock.lap("prepare")

    @property
    def types(self) -> tuple[CellClass, ...]:
        """The types that cells are given, none where no classifier runs."""
        return () if self.classifier is None else self.classifier.types

    def run(self, progress: Progress) -> Outcome:
        """Analyse the images without a result, then write every output.

        Raises:
            OutputError: an output cannot be written.
            JournalError: an earlier run of this output had other settings, or is still at it.
        """
        output, shard = self.request.output, str(self.request.run.shard or "")
        self.outputs.files.check()
        self.outputs.names.keep(self.plan.refs, self.request.slide_from or "")
        typing = None if self.classifier is None else self.classifier.facts()
        own = fingerprint(self.request.analyze, self.detector, self.weights_sha256, typing)
        path, fresh = self.outputs.files.journal, self.request.run.fresh
        with (
            Journal.open(path, own, fresh=fresh, shard=shard) as journal,
            locked(self.outputs.files.tables),
        ):
            earlier = earlier_images(journal)
            if not fresh:
                refuse_other_images(journal, earlier, self.plan.refs, output.out)
            self._keep_run(journal)
            if output.annotated is not None:
                prepare_folder(output.annotated)
            tally = RunTally(len(self.refs), self.request.run.max_failure_rate)
            interrupted, gave_up = None, False
            try:
                with image_in_hand_first() as stopping:
                    work = ImageRun(
                        self.request,
                        self._models,
                        self.outputs,
                        journal,
                        progress,
                        tally,
                        stopping.check,
                    )
                    try:
                        analyzed = work.analyze(self.refs, self.plan.refs)
                    finally:
                        self._clock.lap("analyze")
                    work.draw_missing(self.refs, analyzed)
            except KeyboardInterrupt as signal:
                interrupted = signal
            except TooManyFailuresError:
                gave_up = True
            self._clock.lap("draw")
            outcome = self._write(journal, tally, gave_up=gave_up, interrupted=interrupted)
            if interrupted is None:
                left = left_images(journal, earlier, self.plan.refs)
                told = told_left([self.outputs.names.image(image) for image in left])
                outcome = replace(outcome, notes=(*outcome.notes, *filter(None, [told])))
            return outcome

    def _write(
        self,
        journal: Journal,
        tally: RunTally,
        *,
        gave_up: bool,
        interrupted: KeyboardInterrupt | None,
    ) -> Outcome:
        files = self.outputs.files
        written = self.outputs.write(journal, self.outputs.results(journal, self.refs))
        self._clock.lap("write")
        outcome = Outcome(
            images=len(self.refs),
            totals=written.totals,
            written=(*written.tables, *files.folders, files.record),
            seconds=self._clock.stages.get("analyze", 0.0),
            analyzed_now=tally.images,
            gave_up=gave_up,
            interrupted=interrupted,
            notes=(*self.outputs.notes(written), *self._renewed.notes),
        )
        write_run_manifest(files.record, self._record(outcome, written, tally))
        return outcome

    def _facts(self) -> RunFacts:
        """Return the facts of this job that outputs need besides its results."""
        settings = self.request.analyze
        return RunFacts(
            counting=self.counting,
            types=self.types,
            images=len(self.refs),
            densest_field=self.card.densest_field,
            notes=self.card.notes,
            versions=library_versions(self.detector.engine.name),
            settings=settings.fingerprint_fields(),
            max_pixels=settings.max_pixels,
        )

    def _keep_run(self, journal: Journal) -> None:
        """Store what a review and a merge need to write the outputs again."""
        request, facts = self.request, self.outputs.facts
        profile = profile_text(request.differential.profile or self.counting.profile.name)
        StoredRun(request.output, facts, self.refs, Path.cwd(), profile).keep(journal)
        keep_names(journal, self.plan, self._known_names)
        if request.run.shard is not None:
            shard = ShardFacts.of(self.plan, request.inputs, facts.versions, self._model_facts())
            shard.keep(journal)

    def _record(self, outcome: Outcome, written: Written, tally: RunTally) -> RunRecord:
        totals, settings = outcome.totals, self.request.run
        models = self._model_facts()
        models["settings"] = self.outputs.names.settings(models["settings"]) | {
            "workers": settings.workers or default_workers(),
            "max_failure_rate": settings.max_failure_rate,
            "shard": None if settings.shard is None else str(settings.shard),
        }
        return RunRecord(
            versions=self.outputs.facts.versions,
            **models,
            profile=profile_facts(self.counting),
            inputs=self.outputs.names.inputs(self.request.inputs),
            passed_over=self.outputs.names.passed_over(self.plan),
            images=outcome.images,
            done=totals.done,
            cells=totals.cells,
            not_done=totals.not_done,
            outstanding=totals.outstanding,
            outputs=written.tables,
            review=None if written.reviewed is None else written.reviewed.facts(),
            timings_s=self._clock.stages,
            analyzed_now=tally.images,
            cells_now=tally.cells,
            started=self._clock.started,
            finished=datetime.now(UTC),
            interrupted=outcome.interrupted is not None,
        )

    def _model_facts(self) -> dict[str, Any]:
        """Return the facts of models and settings for run.json, by its names."""
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
                "annotated_format": request.output.annotated_format,
                "csv_separator": request.output.csv_separator,
                "csv_bom": request.output.csv_bom,
                "csv_decimal": request.output.csv.decimal_sign,
                "pseudonymized": request.output.pseudonymize is not None,
                "slide_from": request.slide_from,
            },
        }
