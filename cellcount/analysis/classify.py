"""One classify job: pictures of single cells, read in threads, typed in batches, one table.

A picture becomes a result with one cell that covers it, so that whatever reads results reads these
too. There is no journal: a table is written whole or not at all.

Shapes: crops uint8 (h, w, 3) RGB of the classifier's input size; probabilities (N, M).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.inputs import plan_of
from cellcount.analysis.load import load_whole, reason_of
from cellcount.analysis.loaded_models import LoadedClassifier
from cellcount.analysis.local import default_workers
from cellcount.analysis.outcome import Outcome, Totals
from cellcount.analysis.progress import Progress
from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult
from cellcount.core.side_by_side import in_order
from cellcount.engines.base import EngineOptions
from cellcount.engines.cell_typer import cell_types
from cellcount.engines.classifier_input import prepare_picture
from cellcount.files.atomic import check_writable
from cellcount.images.find import Plan
from cellcount.images.scale import RBC_DIAMETER_UM
from cellcount.outputs.run_content import Labels
from cellcount.outputs.tables import (
    TABLE_SUFFIXES,
    check_forms_of,
    check_suffix,
    write_picture_types,
)
from cellcount.settings import ClassifyRequest


@dataclass(frozen=True, eq=False, slots=True)
class _Prepared:
    """Picture before it is typed: no crop where it could not be read."""

    result: ImageResult
    crop: NDArray[np.uint8] | None = None


class ClassifyJob:
    """A classify request, made ready to run; nothing is written before ``run``.

    Raises:
        UsageError: inputs and outputs, or classifier and mapping, do not go together; or what the
            form of the table needs is not installed.
        WeightsError: no such classifier.
        CellcountError: there is no picture.
    """

    def __init__(self, request: ClassifyRequest) -> None:
        self.request = request
        check_suffix("--out", request.out, TABLE_SUFFIXES)
        check_forms_of([request.out])
        self.plan: Plan = plan_of(request.inputs, [request.out], um_per_px=request.um_per_px)
        options = EngineOptions(
            request.device, request.precision, request.batch_size, request.plugins
        )
        self.loaded = LoadedClassifier.of(
            request.classifier, request.type_map, options, request.engine
        )

    def run(self, watcher: Progress) -> Outcome:
        """Types every picture and writes the table.

        Raises:
            OutputError: the table cannot be written; an older one is untouched.
        """
        out, refs = self.request.out, self.plan.refs
        check_writable(out)
        totals = Totals.empty(Labels((), self.loaded.types))
        started = time.perf_counter()

        def told() -> Iterator[ImageResult]:
            for result in self._results():
                watcher.advance(result)
                totals.add(result)
                yield result

        watcher.start("Typing", len(refs))
        write_picture_types(out, told(), self.loaded.types, self.request.csv)
        seconds = time.perf_counter() - started
        return Outcome(len(refs), totals, (out,), seconds, analyzed_now=len(refs))

    def _results(self) -> Iterator[ImageResult]:
        """Results in the order of the plan."""
        count = self.request.workers or default_workers()
        classifier = self.loaded.classifier
        at_once = classifier.batch_size * classifier.batches_at_once
        pool = ThreadPoolExecutor(count, thread_name_prefix="cellcount")
        try:
            prepared = in_order(pool, self._prepare, self.plan.refs, count + at_once)
            while batch := list(islice(prepared, at_once)):
                yield from self._typed(batch)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, ref: ImageRef) -> _Prepared:
        """One picture as the classifier's input, in any thread."""
        loaded = load_whole(ref, self.request.max_pixels)
        picture = loaded.picture
        if picture is None:
            return _Prepared(ImageResult(ref, "failed", loaded.reason))
        um_per_px = ref.um_per_px or picture.um_per_px
        rbc_px = self.request.rbc_px
        if rbc_px is None and um_per_px is not None:
            rbc_px = RBC_DIAMETER_UM / um_per_px
        size = (picture.width_px, picture.height_px)
        try:
            crop = prepare_picture(picture.pixels, self.loaded.card, rbc_px)
        except Exception as error:  # noqa: BLE001 -- one picture never ends a batch
            return _Prepared(ImageResult(ref, "failed", reason_of(error, ref), *size, um_per_px))
        return _Prepared(ImageResult(ref, "done", "", *size, um_per_px), crop)

    def _typed(self, batch: list[_Prepared]) -> Iterator[ImageResult]:
        """Type one batch: give each picture that could be read a result with its type."""
        crops = [item.crop for item in batch if item.crop is not None]
        try:
            probs = self.loaded.type_map.apply(self.loaded.classifier.probs(crops))  # (N, M)
        except Exception as error:  # noqa: BLE001 -- a failed batch never ends a run
            for item in batch:
                reason = item.result.reason or reason_of(error, item.result.ref)
                yield replace(item.result, status="failed", reason=reason)
            return
        every = np.ones(len(probs), np.bool_)
        rows = iter(_each(cell_types(probs, every, self.loaded.least_probs)))
        for item in batch:
            result = item.result
            yield result if item.crop is None else replace(result, cells=_cell(result, next(rows)))


def _each(types: CellTypes) -> Iterator[CellTypes]:
    """Split the types of a batch into those of each cell."""
    for i in range(len(types)):
        one = slice(i, i + 1)
        yield CellTypes(
            types.best[one],
            types.prob[one],
            types.second[one],
            types.second_prob[one],
            types.accepted[one],
        )


def _cell(result: ImageResult, types: CellTypes) -> Cells:
    """Make the only cell of a picture: its box is the whole picture."""
    box_xyxy = np.array([[0, 0, result.width_px, result.height_px]], np.float32)
    whole = Detections(box_xyxy, np.ones(1, np.float32), np.zeros(1, np.int64))
    return Cells(whole, np.zeros(1, np.bool_), types)
