"""What a run would cost, from a few of its fields that are analysed for the purpose."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cellcount.analysis.job import Job
from cellcount.analysis.pipeline import Loaded, Pipeline, SlideScales, load_any
from cellcount.core.records import ImageResult, Picture
from cellcount.errors import CellcountError
from cellcount.images.scale import sample_evenly
from cellcount.images.survey import survey
from cellcount.outputs.pictures.annotate import annotate
from cellcount.store.journal import Json

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


@dataclass
class Memory:
    """Keeps what a run would keep in its journal."""

    values: dict[str, Json] = field(default_factory=dict)

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        return self.values.get(name)

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Keeps a value; there are no results to forget."""
        self.values[name] = value


def expect(job: Job) -> Expected | None:
    """Extrapolates from a few evenly spread fields; None where none of them can be read."""
    settings, refs = job.request.analyze, job.refs
    scales = SlideScales(job.plan.refs, job.detector, Memory(), settings.max_pixels)
    pipeline = Pipeline(job.detector, settings, scales, job.typer)
    image_s, image_bytes, slide_s = list[float](), list[float](), list[float]()
    for index in sample_evenly(len(refs), _SAMPLED):
        started = time.perf_counter()
        loaded, share = _part(load_any(refs[index], settings.max_pixels))
        read_s = time.perf_counter() - started
        if loaded.picture is None:
            continue
        if not image_s:  # the first call of a model is slower than all others
            job.detector.detect(loaded.picture.pixels, 1.0)
        started = time.perf_counter()
        pipeline.factor(loaded)
        scaled = time.perf_counter()
        result = pipeline.analyze(loaded)
        slide_s.append(scaled - started)
        image_s.append((read_s + time.perf_counter() - scaled) / share)
        image_bytes.append(_bytes_of(job, loaded, result) / share)
    if not image_s:
        return None
    sampled = len(image_s)
    slides = len({ref.slide for ref in refs})
    seconds = len(refs) * sum(image_s) / sampled + slides * max(slide_s)
    return Expected(seconds, len(refs) * sum(image_bytes) / sampled / 1e6, sampled)


def _part(loaded: Loaded) -> tuple[Loaded, float]:
    """What is analysed of an image, and its share: all, or the middle sample field of a scan."""
    scan = loaded.scan
    if scan is None:
        return loaded, 1.0
    try:
        fields = survey(scan).fields
    except CellcountError:
        return loaded, 1.0  # without a picture: passed over
    picture = Picture(fields[len(fields) // 2], scan.um_per_px)
    share = picture.width_px * picture.height_px / (scan.width_px * scan.height_px)
    return replace(loaded, picture=picture, scan=None), share


def _bytes_of(job: Job, loaded: Loaded, result: ImageResult) -> int:
    """About what one image adds to the disk."""
    output, cells = job.request.output, result.cells
    per_cell = _JOURNAL_BYTES_PER_CELL
    per_cell += _CSV_BYTES_PER_CELL if output.cells else 0
    per_cell += _COCO_BYTES_PER_CELL if output.coco else 0
    size = _BYTES_PER_IMAGE + per_cell * len(cells)
    if output.annotated and output.annotate == "all" and loaded.picture is not None:
        drawn = io.BytesIO()
        title = result.ref.image
        annotate(loaded.picture, cells, job.card.classes, title, job.types).save(drawn, "PNG")
        size += drawn.tell()
    return size
