"""Expected time and space of a run, from a few of its fields that are analysed for the purpose."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from math import prod

from cellcount.analysis.job import Job
from cellcount.analysis.load import Loaded, load
from cellcount.analysis.local import images_at_once
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.slide_scales import ScalesInMemory, SlideScales
from cellcount.core.records import ImageResult, Picture
from cellcount.errors import CellcountError
from cellcount.images.scale import sample_evenly
from cellcount.images.source import Field
from cellcount.outputs.pictures.annotate import annotate, encode

_SAMPLED = 3
_JOURNAL_BYTES_PER_CELL = 23
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
    settings, refs = job.request.analyze, job.refs
    scales = SlideScales(job.plan.refs, job.detector, ScalesInMemory(), settings.max_pixels)
    pipeline = Pipeline(job.detector, settings, scales, job.typer)
    image_s, image_bytes, slide_s = list[float](), list[float](), list[float]()
    analysis_s = processor_s = 0.0
    for index in sample_evenly(len(refs), _SAMPLED):
        started = time.perf_counter()
        loaded, share = _part(load(refs[index], settings.max_pixels))
        read_s = time.perf_counter() - started
        if loaded.picture is None:
            continue
        if not image_s:  # the first call of a model is slower than all others
            job.detector.detect(loaded.picture.pixels, 1.0)
        started = time.perf_counter()
        scales.of(loaded)
        scaled, processor_before_s = time.perf_counter(), time.process_time()
        result = pipeline.analyze(loaded)
        analysis_s += time.perf_counter() - scaled
        processor_s += time.process_time() - processor_before_s
        slide_s.append(scaled - started)
        image_s.append((read_s + time.perf_counter() - scaled) / share)
        image_bytes.append(_bytes_of(job, loaded, result) / share)
    if not image_s:
        return None
    sampled = len(image_s)
    slides = len({ref.slide for ref in refs})
    one_by_one_s = len(refs) * sum(image_s) / sampled + slides * max(slide_s)
    at_once = images_at_once(job.detector, job.classifier)
    seconds = one_by_one_s / gain_side_by_side(at_once, processor_s / analysis_s)
    return Expected(seconds, len(refs) * sum(image_bytes) / sampled / 1e6, sampled)


def gain_side_by_side(at_once: int, busy: float) -> float:
    """Factor by which images are faster side by side than one after the other.

    Args:
        at_once: images that are analysed side by side.
        busy: processors that one image keeps busy: several, where it has several tiles.
    """
    return max(1.0, at_once / max(1.0, busy))


def _part(loaded: Loaded) -> tuple[Loaded, float]:
    """Choose the part of an image to analyse, its middle sample field, and its share of it."""
    if loaded.source is None:
        return loaded, 1.0
    try:
        fields = loaded.source.sample_fields()
    except CellcountError:
        return replace(loaded, source=None), 1.0  # passed over
    part = Field(Picture(fields[len(fields) // 2], loaded.source.um_per_px))
    return replace(loaded, source=part), prod(part.size_px) / prod(loaded.source.size_px)


def _bytes_of(job: Job, loaded: Loaded, result: ImageResult) -> int:
    """Estimate the disk space that the outputs of one image take."""
    output, cells = job.request.output, result.cells
    forms = job.outputs.files.forms
    per_cell = _JOURNAL_BYTES_PER_CELL + sum(form.bytes_per_cell for form, _ in forms)
    size = _BYTES_PER_IMAGE + per_cell * len(cells)
    if output.annotated and output.annotate == "all" and loaded.picture is not None:
        drawn = io.BytesIO()
        title = result.ref.image
        page = annotate(loaded.picture, cells, job.outputs.facts.labels, title)
        encode(drawn, page, output.annotated_format)
        size += drawn.tell()
    return size
