"""Cells of a run as single cells: those whose type a person gave or confirmed, and all.

What a person said is no cell is an example of what is no white cell.

Shapes: boxes xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import NOT_A_CELL, UNCLASSIFIED, ImageResult
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.errors import ImageError
from cellcount.images.read import probe_size
from cellcount.images.whole_slide import open_whole_slide

NO_WHITE_CELL = "not_a_white_cell"
"""Label of a single cell that a person said is none."""
FURTHER_PAGE = "a further page of a file"
CHANGED = "the image has changed since it was analysed"


@dataclass(frozen=True, slots=True)
class NamedCells:
    """Single cells of a run.

    Attributes:
        items: the cells, those of one picture in a row.
        problems: images that are left out.
        codes: picture → its code, where outputs have codes in place of names.
    """

    items: tuple[LabelledCrop, ...]
    problems: tuple[Problem, ...]
    codes: Mapping[Path, str] = field(default_factory=dict)


def told_problems(problems: Iterable[Problem], codes: Mapping[Path, str]) -> list[str]:
    """Problems in a sentence each, with codes in place of names where outputs have them."""
    return [f"{codes.get(p.path, str(p.path))}: {p.what}" for p in problems]


def named_cells(stored: StoredResults) -> NamedCells:
    """Every cell of a run whose type a person gave or confirmed, and those that are none."""
    return _cells(stored, partial(_named, diameter_px=detector_rbc_px(stored)))


def counted_cells(stored: StoredResults, class_ids: Collection[str]) -> NamedCells:
    """Every cell of a run that counts as one of these classes of its detector; labels are ""."""
    places = [i for i, c in enumerate(stored.run.facts.counting.classes) if c.id in class_ids]
    return _cells(stored, partial(_counted, places, diameter_px=detector_rbc_px(stored)))


def _cells(
    stored: StoredResults, cells_of: Callable[[ImageResult], Iterator[LabelledCrop]]
) -> NamedCells:
    """Cells of every image that is as it was analysed; the others are told."""
    items, problems, codes = list[LabelledCrop](), list[Problem](), dict[Path, str]()
    has_codes = stored.run.output.pseudonymize is not None
    for result in stored.results()():
        cells = tuple(cells_of(result))
        if not cells:
            continue
        if has_codes and (not result.ref.page or result.ref.path not in codes):
            codes[result.ref.path] = result.ref.image
        reason = FURTHER_PAGE if result.ref.page else _changed(result, stored.run.facts.max_pixels)
        if reason:
            problems.append(Problem(result.ref.path, f"{reason}; left out"))
        else:
            items += cells
    return NamedCells(tuple(items), tuple(problems), codes)


def model_of_run(stored: StoredResults, option: str) -> str:
    """A model as the run named it, so that it is found from any current folder.

    Args:
        stored: the run.
        option: ``detector`` or ``classifier``.
    """
    from cellcount.models.weights import packaged_weights  # loads torch: the page does without

    name = str(stored.run.facts.settings.get(option, ""))
    return name if name in packaged_weights() else str(stored.run.folder / name)


def detector_rbc_px(stored: StoredResults) -> float:
    """Diameter of red cells as the run's detector sees them, in pixels.

    Raises:
        WeightsError: the detector is not where it was.
    """
    from cellcount.models.weights import read_card, resolve

    return read_card(resolve(model_of_run(stored, "detector"))).rbc_diameter_px


def named_counts(stored: StoredResults) -> Counter[str]:
    """Label → number of cells of a run, as `named_cells` gives them."""
    counts = Counter[str]()
    for result in stored.results()():
        if not result.ref.page:
            counts.update(_labels(result).values())
    return counts


def has_changed(result: ImageResult, max_pixels: int) -> bool:
    """Return whether an image has another size than when it was analysed.

    Raises:
        ImageError: it cannot be read.
    """
    slide = open_whole_slide(result.ref, max_pixels=max_pixels)
    size = slide.size_px if slide else probe_size(result.ref, max_pixels=max_pixels)
    return size != (result.width_px, result.height_px)


def _changed(result: ImageResult, max_pixels: int) -> str:
    try:
        return CHANGED if has_changed(result, max_pixels) else ""
    except ImageError:
        return ""  # told by whoever cuts its cells


def slide_of(result: ImageResult) -> str:
    """The slide of an image by one name, "" for none."""
    return "/".join(part for part in (result.ref.specimen, result.ref.slide) if part)


def _labels(result: ImageResult) -> dict[int, str]:
    """Place of a cell → its label; what a person took out as no cell is no white cell."""
    if result.status != "done" or not result.scale_factor:
        return {}
    said = {place: review.type_id for place, review in result.reviewed.items()}
    edits = result.box_edits.items()
    said |= {place: NO_WHITE_CELL for place, edit in edits if edit.change == NOT_A_CELL}
    return {place: said[place] for place in sorted(said) if said[place] != UNCLASSIFIED}


def _counted(
    classes: Sequence[int], result: ImageResult, diameter_px: float
) -> Iterator[LabelledCrop]:
    """Cells that count as one of these classes of the detector, by their place."""
    if result.status != "done" or not result.scale_factor:
        return
    counts = np.isin(result.cells.detections.labels, classes)
    if result.cells.rejected is not None:
        counts &= ~result.cells.rejected
    removed = {place for place, edit in result.box_edits.items() if edit.removes}
    labels = {int(place): "" for place in np.flatnonzero(counts) if int(place) not in removed}
    yield from _crops(result, labels, diameter_px)


def _named(result: ImageResult, diameter_px: float) -> Iterator[LabelledCrop]:
    """Cells with a person's type, by their place."""
    yield from _crops(result, _labels(result), diameter_px)


def _crops(
    result: ImageResult, labels: Mapping[int, str], diameter_px: float
) -> Iterator[LabelledCrop]:
    """Cells at some places of an image, as labelled crops."""
    if not labels:
        return
    assert result.scale_factor, "cells of an image without a scale have no label"
    boxes_xyxy = result.cells.detections.boxes_xyxy.tolist()
    slide = slide_of(result)
    for place, label in labels.items():
        x_min, y_min, x_max, y_max = boxes_xyxy[place]
        yield LabelledCrop(
            result.ref.path,
            label,
            box_xyxy=(x_min, y_min, x_max, y_max),
            rbc_px=diameter_px / result.scale_factor,
            slide=slide,
        )
