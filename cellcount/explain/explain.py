"""Attention of a model for one cell of an image, found as ``analyze`` finds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.checked_request import CheckedRequest
from cellcount.analysis.job import Job
from cellcount.analysis.load import load_whole
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.slide_scales import ScalesInMemory, SlideScales
from cellcount.errors import ImageError, UsageError
from cellcount.explain.attention_maps import attention_at, refinement_of
from cellcount.explain.picture import AttentionTrace
from cellcount.settings import AnalyzeRequest


@dataclass(frozen=True, eq=False, slots=True)
class Explained:
    """A cell, and the attention steps by which the model came to its box.

    Attributes:
        pixels: the whole image, (H, W, 3).
        trace: of the cell.
        title: the cell in words.
    """

    pixels: NDArray[np.uint8]
    trace: AttentionTrace
    title: str


def explain(request: AnalyzeRequest, cell: int) -> Explained:
    """Trace the model's attention for the ``cell``-th cell, counted from 1 as cells.csv does.

    Raises:
        UsageError: not one image, no such cell, or a model without a second look.
        ImageError: the image cannot be read or analysed.
        CellcountError: the cell was not looked at again.
    """
    job = Job(CheckedRequest.of(request))
    refinement_of(job.detector)
    refs = job.plan.refs
    if len(refs) != 1:
        raise UsageError(
            f"{', '.join(request.inputs)} holds {len(refs)} images, expected one; name a single "
            "file"
        )
    settings = request.analyze
    loaded = load_whole(refs[0], settings.max_pixels)
    scales = SlideScales(refs, job.detector, ScalesInMemory(), settings.max_pixels)
    result = Pipeline(job.detector, settings, scales).analyze(loaded)
    if loaded.picture is None or result.status != "done":
        raise ImageError(f"{refs[0].image}: {result.reason}")
    detections = result.cells.detections
    if not 1 <= cell <= len(detections):
        numbered = f"numbered 1 to {len(detections)}" if len(detections) else "so none to explain"
        raise UsageError(
            f"--cell is {cell}, but {refs[0].image} has {len(detections)} cells, {numbered} as in "
            "the column cell of cells.csv"
        )
    box = detections.boxes_xyxy[cell - 1]
    trace = attention_at(job.detector, loaded.picture.pixels, result.scale_factor or 1.0, box)
    name = job.card.classes[int(detections.labels[cell - 1])].name
    score = float(detections.scores[cell - 1])
    title = f"cell {cell} of {refs[0].image}: {name}, score {score:.2f}"
    return Explained(loaded.picture.pixels, trace, title)
