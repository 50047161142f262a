"""Analysing and drawing those images of a run that are not done yet, wherever it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cellcount.analysis.drawing import Drawings
from cellcount.analysis.image_sink import ImageSink
from cellcount.analysis.load import Loaded, load
from cellcount.analysis.loaded_models import Models
from cellcount.analysis.local import Work, images_at_once, run_local
from cellcount.analysis.near_copies import NearCopies
from cellcount.analysis.outcome import RunTally
from cellcount.analysis.pending import pending_of
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.progress import Progress
from cellcount.analysis.ray import WorkerSpec, run_ray
from cellcount.analysis.run_outputs import RunOutputs
from cellcount.analysis.slide_scales import SlideScales
from cellcount.core.records import ImageRef, ImageResult
from cellcount.settings import AnalyzeRequest
from cellcount.store.journal import Journal


@dataclass(frozen=True, eq=False, slots=True)
class ImageRun:
    """The work on the images of a run.

    Attributes:
        request: settings of the command.
        models: that analyse the images.
        outputs: rules by which results count, and the pictures that are wanted.
        journal: that stores the results.
        progress: that shows them to a person.
        tally: that ends the run when too many images have failed.
        stop: raises where the run is to end after the images in hand.
    """

    request: AnalyzeRequest
    models: Models
    outputs: RunOutputs
    journal: Journal
    progress: Progress
    tally: RunTally
    stop: Callable[[], None]

    def analyze(self, refs: Sequence[ImageRef], every: Sequence[ImageRef]) -> list[ImageRef]:
        """Analyse the images without a result that stands; return those that are drawn, too.

        Args:
            refs: the images of the run.
            every: those of other shards too: the scale of a slide is measured on some of them.
        """
        settings, run, models = self.request.analyze, self.request.run, self.models
        scales = SlideScales(every, models.detector, self.journal, settings.max_pixels)
        pending = pending_of(refs, self.journal, scales, self.progress.note)
        sink = ImageSink(
            self.journal,
            self.outputs.results_in(self.journal),
            self._drawings(),
            self.progress,
            self.tally,
            self.stop,
        )
        self.progress.start("Counting", len(refs), len(refs) - len(pending))
        if run.runner == "ray":
            spec = WorkerSpec(settings, tuple(every), scales.known(), models.hashes)
            run_ray(pending, spec, sink.received, run, sink.check)
            return []
        pipeline = Pipeline(models.detector, settings, scales, models.typer, sink.within)

        one_by_one = scans_one_by_one(pipeline.analyze, self.stop)

        def analyze(loaded: Loaded) -> tuple[Loaded, ImageResult]:
            return loaded, one_by_one(loaded)

        def use(analyzed: tuple[Loaded, ImageResult]) -> Work:
            return sink.analyzed(*analyzed)

        read = partial(load, max_pixels=settings.max_pixels)
        at_once = images_at_once(models.detector, models.classifier)
        run_local(
            pending, read, analyze, use, workers=run.workers, at_once=at_once, check=sink.check
        )
        return pending

    def draw_missing(self, refs: Sequence[ImageRef], analyzed: Sequence[ImageRef]) -> None:
        """Draw the images of which pictures are missing, or whose caution is known only now.

        Args:
            refs: the images of the run.
            analyzed: those that were drawn in this call.
        """
        drawings = self._drawings()
        if drawings is None:
            return
        fresh, stored = {ref.image for ref in analyzed}, self.outputs.results_in(self.journal)
        copies = NearCopies.among(self.journal, refs)
        earlier = [r for r in refs if r.image not in fresh or r.image in copies.others]
        missing = drawings.missing(map(copies.told, stored.of(earlier)))
        if not missing:
            return
        # In the order of the plan, as ``missing`` is.
        results = map(copies.told, stored.of(missing))

        def with_result(loaded: Loaded) -> tuple[Loaded, ImageResult]:
            return loaded, next(results)

        def use(loaded_and_result: tuple[Loaded, ImageResult]) -> Work:
            self.progress.advance(loaded_and_result[1])
            return drawings.work(*loaded_and_result)

        self.progress.start("Drawing", len(missing))
        read = partial(load, max_pixels=self.request.analyze.max_pixels)
        run_local(
            missing, read, with_result, use, workers=self.request.run.workers, check=self.stop
        )

    def _drawings(self) -> Drawings | None:
        """The annotated pictures, None where none are wanted."""
        if self.request.output.annotated is None:
            return None
        return Drawings(self.outputs.drawn(self.journal), self.progress.note)


def scans_one_by_one(
    analyze: Callable[[Loaded], ImageResult], stop: Callable[[], None]
) -> Callable[[Loaded], ImageResult]:
    """Let threads analyse fields side by side, but one scan at a time.

    A scan takes all threads by itself, and there is memory for one.

    Args:
        analyze: one image.
        stop: raises where the run is to end; called before every scan, which may have waited for
            another while a signal came.
    """
    one_scan = threading.Lock()

    def in_turn(loaded: Loaded) -> ImageResult:
        if loaded.source is None or loaded.source.picture is not None:
            return analyze(loaded)
        with one_scan:
            stop()
            return analyze(loaded)

    return in_turn
