"""What a run would cost, from a few of its fields that are analysed for the purpose."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

from cellcount.cells import cells_from_detections
from cellcount.images.scale import sample_evenly
from cellcount.outputs.annotate import annotate
from cellcount.pipeline import load, thresholds_of
from cellcount.runners.job import Job

_SAMPLED = 3
_JOURNAL_BYTES_PER_CELL, _CSV_BYTES_PER_CELL, _COCO_BYTES_PER_CELL = 23, 75, 190
_BYTES_PER_IMAGE = 700


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected wall time and disk space of a whole run.

    Attributes:
        seconds: of the model and everything beside it.
        megabytes: of all outputs and the journal.
        sampled: fields that were analysed to know.
    """

    seconds: float
    megabytes: float
    sampled: int


def expect(job: Job) -> Expected | None:
    """Extrapolates from a few evenly spread fields; None where none of them can be read."""
    import numpy as np

    settings, output = job.request.analyze, job.request.output
    refs = job.plan.refs
    chosen = thresholds_of(job.card, settings.min_score)
    thresholds = np.array([chosen[c.id] for c in job.card.classes], np.float32)
    seconds, size, sampled = 0.0, 0, 0
    for index in sample_evenly(len(refs), _SAMPLED):
        started = time.perf_counter()
        loaded = load(refs[index], settings.max_pixels)
        if loaded.picture is None:
            continue
        if not sampled:  # the first call of a model is slower than all others
            job.detector.detect(loaded.picture.pixels, 1.0)
            started = time.perf_counter()
        found = job.detector.detect(loaded.picture.pixels, 1.0)
        seconds += time.perf_counter() - started
        sampled += 1
        picture = loaded.picture
        cells = cells_from_detections(
            found.detections,
            picture.width_px,
            picture.height_px,
            thresholds=thresholds,
            edge_rule=settings.edge_rule,
        )
        per_cell = _JOURNAL_BYTES_PER_CELL
        per_cell += _CSV_BYTES_PER_CELL if output.cells else 0
        per_cell += _COCO_BYTES_PER_CELL if output.coco else 0
        size += _BYTES_PER_IMAGE + per_cell * len(cells)
        if output.annotated and output.annotate == "all":
            drawn = io.BytesIO()
            annotate(picture, cells, job.card.classes, refs[index].image).save(drawn, "PNG")
            size += drawn.tell()
    if not sampled:
        return None
    share = len(refs) / sampled
    return Expected(seconds * share, size * share / 1e6, sampled)
