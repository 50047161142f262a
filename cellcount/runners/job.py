"""One analyze job from request to written outputs: plan, journal, run, tables.

The runner is exchangeable; everything that is written is a pure function of the journal.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from cellcount import __version__
from cellcount.cells import count_by_class
from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.engines.field import FieldDetector
from cellcount.errors import (
    EXIT_FAILURE_RATE,
    EXIT_NOTHING_DONE,
    EXIT_OK,
    EXIT_SOME_FAILED,
    UsageError,
)
from cellcount.images.find import Plan, find_images
from cellcount.journal import Journal, journal_path
from cellcount.models.weights import resolve, sha256_of
from cellcount.outputs.annotate import annotated_path, write_annotated
from cellcount.outputs.atomic import check_folder_writable, check_writable
from cellcount.outputs.exports import write_coco
from cellcount.outputs.manifest import (
    NotDone,
    RunRecord,
    run_manifest_path,
    write_run_manifest,
)
from cellcount.outputs.tables import write_cells, write_counts
from cellcount.pipeline import Loaded, Pipeline, SlideScales, fingerprint, thresholds_of
from cellcount.records import ImageRef, ImageResult
from cellcount.runners.local import default_workers, run_local
from cellcount.settings import AnalyzeRequest, OutputSettings

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "tifffile", "imagecodecs")


class Watcher(Protocol):
    """Whoever shows progress to a person."""

    def start(self, total: int, already: int) -> None:
        """``already`` of ``total`` images are in the journal."""
        ...

    def advance(self, result: ImageResult) -> None:
        """One more image is finished."""
        ...


class _TooManyFailuresError(Exception):
    """More images failed than the user allows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to.

    Attributes:
        images: images of the run.
        finished: those in the journal by now, failed ones included.
        done, cells: analysed images and the cells on them.
        counts: class id → cells.
        not_done: failed and excluded images with reasons.
        cautions: done images with a caution.
        outputs: files written.
        seconds: wall time, and how many images it analysed.
        analyzed_now: images analysed by this call.
        gave_up: the failure rate was exceeded.
        interrupted: the interruption to re-raise once everything is safe, or None.
    """

    images: int
    finished: int
    done: int
    cells: int
    counts: Mapping[str, int]
    not_done: tuple[NotDone, ...]
    cautions: tuple[NotDone, ...]
    outputs: tuple[Path, ...]
    seconds: float
    analyzed_now: int
    gave_up: bool = False
    interrupted: KeyboardInterrupt | None = None

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed, 3 nothing done, 4 failure rate exceeded."""
        failed = sum(1 for n in self.not_done if n.status == "failed")
        if self.gave_up:
            return EXIT_FAILURE_RATE
        if failed and not self.done:
            return EXIT_NOTHING_DONE
        return EXIT_SOME_FAILED if failed else EXIT_OK


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
    """An analyze request, made ready to run.

    Raises:
        UsageError, WeightsError, OutputError: before any image is read.
    """

    def __init__(self, request: AnalyzeRequest) -> None:
        self.request = request
        self._clock = _Clock()
        self.plan: Plan = find_images(request.inputs, um_per_px=request.analyze.um_per_px)
        self._check_outputs(request.output)
        settings = request.analyze
        self.weights = resolve(settings.detector)
        options = EngineOptions(
            settings.device, settings.precision, settings.batch_size, settings.plugins
        )
        engine = load_engine(choose_engine(settings.engine), self.weights, options)
        self.detector = FieldDetector(engine, settings.tile_px)
        self.card = engine.card
        self._clock.lap("prepare")

    def _check_outputs(self, output: OutputSettings) -> None:
        inputs = {ref.path.absolute() for ref in self.plan.refs}
        for path in (output.out, output.cells, output.coco):
            if path is None:
                continue
            if path.absolute() in inputs:
                raise UsageError(f"{path} is one of the inputs; name another output")
            check_writable(path)
        if output.annotated is not None:
            check_folder_writable(output.annotated)

    def open_journal(self) -> Journal:
        """The journal beside ``--out``, new or continued."""
        digest = sha256_of(self.weights)
        path = journal_path(self.request.output.out)
        own = fingerprint(self.request.analyze, self.detector, digest)
        return Journal.open(path, own, fresh=self.request.run.fresh)

    def pipeline(self, journal: Journal) -> Pipeline:
        """The pipeline of this job."""
        settings = self.request.analyze
        scales = SlideScales(self.plan.refs, self.detector, journal, settings.max_pixels)
        return Pipeline(self.detector, settings, scales)

    def run(self, watcher: Watcher) -> Outcome:
        """Analyses what is not done yet, then writes every output."""
        with self.open_journal() as journal:
            pending = [ref for ref in self.plan.refs if not journal.is_done(ref)]
            watcher.start(len(self.plan.refs), len(self.plan.refs) - len(pending))
            interrupted, gave_up = None, False
            tally = _Tally(len(self.plan.refs), self.request.run.max_failure_rate)
            try:
                self._analyze(journal, pending, watcher, tally)
                self._draw_missing(journal, pending)
            except KeyboardInterrupt as signal:
                interrupted = signal
            except _TooManyFailuresError:
                gave_up = True
            self._clock.lap("analyze")
            return self._write(journal, tally, gave_up=gave_up, interrupted=interrupted)

    def _analyze(
        self, journal: Journal, pending: list[ImageRef], watcher: Watcher, tally: _Tally
    ) -> None:
        output = self.request.output

        def on_result(loaded: Loaded, result: ImageResult) -> Callable[[], None] | None:
            journal.add(result, loaded.file_key)
            watcher.advance(result)
            tally.count(result)
            return self._drawing(output, loaded, result)

        run_local(
            self.pipeline(journal),
            pending,
            workers=self.request.run.workers,
            on_result=on_result,
        )

    def _drawing(
        self, output: OutputSettings, loaded: Loaded, result: ImageResult
    ) -> Callable[[], None] | None:
        """The work of drawing one image, None where none is wanted."""
        if output.annotated is None or loaded.picture is None or not _is_drawn(output, result):
            return None
        path = annotated_path(output.annotated, result.ref.image)
        return partial(
            write_annotated,
            path,
            loaded.picture,
            result.cells,
            self.card.classes,
            result.ref.image,
        )

    def _draw_missing(self, journal: Journal, pending: list[ImageRef]) -> None:
        """Pictures of images analysed earlier, where they are asked for only now."""
        output = self.request.output
        if output.annotated is None:
            return
        fresh = {ref.image for ref in pending}
        pipeline = self.pipeline(journal)
        for result in journal.results(self.plan.refs):
            path = annotated_path(output.annotated, result.ref.image)
            if result.ref.image in fresh or path.exists() or not _is_drawn(output, result):
                continue
            work = self._drawing(output, pipeline.read(result.ref), result)
            if work is not None:
                work()

    def _write(
        self,
        journal: Journal,
        tally: _Tally,
        *,
        gave_up: bool,
        interrupted: KeyboardInterrupt | None,
    ) -> Outcome:
        output, classes = self.request.output, self.card.classes
        refs = self.plan.refs

        def results() -> Iterator[ImageResult]:
            return journal.results(refs)

        write_counts(output.out, results(), classes, output.csv_separator)
        outputs = [output.out]
        if output.cells is not None:
            write_cells(output.cells, results(), classes, output.csv_separator)
            outputs.append(output.cells)
        if output.coco is not None:
            write_coco(output.coco, results(), classes)
            outputs.append(output.coco)
        self._clock.lap("write")
        outcome = self._summary(
            results(), tally, outputs, gave_up=gave_up, interrupted=interrupted
        )
        manifest = run_manifest_path(output.out)
        write_run_manifest(manifest, self._record(outcome, tally))
        return outcome

    def _summary(
        self,
        results: Iterator[ImageResult],
        tally: _Tally,
        outputs: list[Path],
        *,
        gave_up: bool,
        interrupted: KeyboardInterrupt | None,
    ) -> Outcome:
        classes = self.card.classes
        finished = done = cells = 0
        counts = dict.fromkeys((c.id for c in classes), 0)
        not_done, cautions = [], []
        for result in results:
            finished += 1
            note = NotDone(result.ref.image, result.status, result.reason)
            if result.status != "done":
                not_done.append(note)
                continue
            done += 1
            cells += len(result.cells)
            if result.reason:
                cautions.append(note)
            numbers = count_by_class(result.cells, len(classes))
            for cell_class, number in zip(classes, numbers.tolist(), strict=True):
                counts[cell_class.id] += number
        return Outcome(
            images=len(self.plan.refs),
            finished=finished,
            done=done,
            cells=cells,
            counts=counts,
            not_done=tuple(not_done),
            cautions=tuple(cautions),
            outputs=tuple(outputs),
            seconds=self._clock.stages["analyze"],
            analyzed_now=tally.images,
            gave_up=gave_up,
            interrupted=interrupted,
        )

    def _record(self, outcome: Outcome, tally: _Tally) -> RunRecord:
        engine, settings = self.detector.engine, self.request.analyze
        workers = self.request.run.workers or default_workers()
        return RunRecord(
            versions=library_versions(),
            engine=engine.name,
            device=engine.device,
            precision=engine.precision,
            weights={self.card.name: sha256_of(self.weights)},
            thresholds=thresholds_of(self.card, settings.min_score),
            settings={**settings.fingerprint_fields(), "workers": workers},
            inputs=self.request.inputs,
            passed_over=[
                NotDone(str(p.path), "passed over", p.reason) for p in self.plan.passed_over
            ],
            images=outcome.images,
            done=outcome.done,
            cells=outcome.cells,
            not_done=outcome.not_done,
            outputs=outcome.outputs,
            timings_s=self._clock.stages,
            analyzed_now=tally.images,
            cells_now=tally.cells,
            started=self._clock.started,
            finished=datetime.now(UTC),
            interrupted=outcome.interrupted is not None,
        )


class _Tally:
    """Counts what this call analyses and ends it when too much fails."""

    def __init__(self, total: int, max_failure_rate: float) -> None:
        self.images = self.cells = self.failed = 0
        self._most = max_failure_rate * total

    def count(self, result: ImageResult) -> None:
        self.images += 1
        self.cells += len(result.cells)
        self.failed += result.status == "failed"
        if self.failed > self._most:
            raise _TooManyFailuresError


def _is_drawn(output: OutputSettings, result: ImageResult) -> bool:
    """Failed images have no picture; ``flagged`` are those with a caution."""
    return result.status == "done" and (output.annotate == "all" or bool(result.reason))


def library_versions() -> dict[str, str]:
    """Versions of cellcount, Python and the libraries that decide numbers."""
    versions = {"cellcount": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "unknown"
    return versions
