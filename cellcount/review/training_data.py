"""Training data of a reviewed run: its fields with boxes and types, or its single cells.

Either the cells that people corrected or confirmed, or every cell of the images in which they did
so. A cell that a person took out is no box of a field; one that is none is, as a single cell, an
example of what is no white cell.

Shapes: N cells of one image; boxes float32 (N, 4) xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import NOT_A_CELL, Cells, ImageRef, ImageResult, LabelledImage
from cellcount.datasets.annotated import AnnotatedSet, Problem
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.errors import ImageError, UsageError
from cellcount.outputs.image_labels import called
from cellcount.review.named_cells import (
    CHANGED,
    FURTHER_PAGE,
    NO_WHITE_CELL,
    detector_rbc_px,
    has_changed,
    slide_of,
)

Reviewed = Literal["cells", "images"]
"""The cells that people corrected or confirmed, or all of the images with such cells."""


@dataclass(frozen=True, eq=False, slots=True)
class _ReviewedImage:
    """An image in which a person corrected or confirmed a cell.

    Attributes:
        given: as the models and people left it, with what people took out.
        cells: that count, with the types that count.
        names: type of each, else its class.
        classes: class of each.
    """

    given: ImageResult
    cells: Cells
    names: list[str]
    classes: list[str]

    @property
    def ref(self) -> ImageRef:
        """The image, with a path that holds here."""
        return self.given.ref

    @property
    def named(self) -> set[int]:
        """Numbers of the cells whose type a person gave."""
        return {self.given.cells.number_of(place) for place in self.given.reviewed}

    @property
    def corrected(self) -> set[int]:
        """Numbers of the cells that a person named, drew or moved."""
        edits = self.given.box_edits
        return self.named | {self.given.cells.number_of(place) for place in edits}

    def places(self, numbers: set[int] | None) -> list[int]:
        """Places of the cells that have one of these numbers; of all without numbers."""
        every = range(len(self.cells))
        return [p for p in every if numbers is None or self.cells.number_of(p) in numbers]


def reviewed_fields(stored: StoredResults, which: Reviewed, *, typed: bool) -> AnnotatedSet:
    """The reviewed images of a run with boxes.

    Args:
        stored: the run.
        which: cells that become boxes.
        typed: a box is called by the type of its cell, where it has one; else by its class.

    Raises:
        UsageError: nothing was reviewed, or none of its images can be read.
    """
    problems, images = list[Problem](), list[LabelledImage]()
    for one in _reviewed_images(stored, problems):
        rejected = one.cells.rejected
        places = [
            place
            for place in one.places(one.corrected if which == "cells" else None)
            if rejected is None or not rejected[place]
        ]
        if which == "cells" and not places:
            continue  # an image without boxes would say that there is no cell on it
        names = one.names if typed else one.classes
        images.append(
            LabelledImage(
                one.ref.path,
                one.cells.detections.boxes_xyxy[places].reshape(-1, 4),
                tuple(names[place] for place in places),
                one.given.width_px,
                one.given.height_px,
            )
        )
    _check_any(len(images), problems)
    used = {label for image in images for label in image.labels}
    known = stored.outputs.drawn(stored.journal).facts.labels.names
    classes = tuple(name for name in known if name in used)
    return AnnotatedSet(tuple(images), classes, tuple(problems), "run")


def reviewed_cells(stored: StoredResults, which: Reviewed) -> CropSet:
    """The single cells of a reviewed run, with their slides and the size of red cells there.

    Args:
        stored: the run.
        which: cells whose type a person gave, or all that have a type.

    Raises:
        UsageError: nothing was reviewed, or none of its images can be read.
        WeightsError: the detector is not where it was.
    """
    diameter_px = detector_rbc_px(stored)
    problems, items = list[Problem](), list[LabelledCrop]()
    for one in _reviewed_images(stored, problems):
        items += _cells_of(one, which, diameter_px)
    _check_any(len(items), problems)
    classes = tuple(sorted({item.label for item in items}))
    return CropSet(tuple(items), classes, tuple(problems), "run")


def _cells_of(one: _ReviewedImage, which: Reviewed, diameter_px: float) -> list[LabelledCrop]:
    found = [
        (one.names[place], one.cells.detections.boxes_xyxy[place].tolist())
        for place in one.places(one.named if which == "cells" else None)
        if one.names[place] != one.classes[place]
    ]
    found += [
        (NO_WHITE_CELL, one.given.cells.detections.boxes_xyxy[place].tolist())
        for place, edit in sorted(one.given.box_edits.items())
        if edit.change == NOT_A_CELL
    ]
    factor = one.given.scale_factor
    return [
        LabelledCrop(
            one.ref.path,
            name,
            box_xyxy=(box[0], box[1], box[2], box[3]),
            rbc_px=diameter_px / factor if factor else None,
            slide=slide_of(one.given),
        )
        for name, box in found
    ]


def _reviewed_images(stored: StoredResults, problems: list[Problem]) -> Iterator[_ReviewedImage]:
    """The reviewed images in the order of the tables; those that cannot be used are problems."""
    outputs = stored.outputs.drawn(stored.journal)
    labels = outputs.facts.labels
    for result in stored.results()():
        if result.status != "done" or not (result.reviewed or result.box_edits):
            continue
        reason = _why_unusable(result, stored.run.facts.max_pixels)
        if reason:
            problems.append(Problem(result.ref.path, f"{reason}; left out"))
            continue
        final = outputs.final(result)
        classes = [labels.classes[i].id for i in final.cells.detections.labels.tolist()]
        yield _ReviewedImage(result, final.cells, called(final, labels), classes)


def _why_unusable(result: ImageResult, max_pixels: int) -> str:
    """Return the reason why an image cannot be learned from; "" where it can."""
    if result.ref.page:
        return FURTHER_PAGE
    try:
        return CHANGED if has_changed(result, max_pixels) else ""
    except ImageError as error:
        return f"the image cannot be read ({error})"


def _check_any(count: int, problems: list[Problem]) -> None:
    if count:
        return
    reasons = "; ".join(map(str, problems[:3]))
    raise UsageError(
        "no cell of this run that a person corrected or confirmed can be written"
        f"{f' ({reasons})' if reasons else ''}; review some with cellcount review open"
    )
