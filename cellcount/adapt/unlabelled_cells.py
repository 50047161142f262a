"""Unlabelled cells of a laboratory: all that a run counted, or pictures of single cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.adapt.cell_features import look_of
from cellcount.analysis.stored_results import is_run, stored_results
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.datasets.crops import crop_format, read_crops
from cellcount.datasets.sources import walk_files
from cellcount.errors import ImageError, UsageError
from cellcount.images.file_types import has_image_name
from cellcount.models.classifier_card import ClassifierCard
from cellcount.review.named_cells import counted_cells
from cellcount.training.classifier.cell_windows import placed_cells

FEWEST_UNLABELLED = 50
"""Cells from which statistics are re-estimated, at least."""
MOST_UNLABELLED = 512
"""Cells from which statistics are re-estimated, at most: their mean lies within a twentieth of the
cells' standard deviation of that of all."""
_SEED = 16


@dataclass(frozen=True, eq=False, slots=True)
class UnlabelledCells:
    """Unlabelled cells as a classifier sees them.

    Attributes:
        crops: uint8 (h, w, 3) each, in a fixed random order.
        found: number of cells that there are, of which some are used.
        problems: pictures that could not be read.
    """

    crops: tuple[NDArray[np.uint8], ...]
    found: int
    problems: tuple[Problem, ...]


def unlabelled_cells(source: Path, card: ClassifierCard, rbc_px: float | None) -> UnlabelledCells:
    """Cut unlabelled cells as a classifier sees them, drawn at random from those of all slides.

    Args:
        source: results of a run, all of whose cells are taken; a data set, whose labels are not
            looked at; or a folder of pictures of single cells.
        card: of the classifier.
        rbc_px: red-cell diameter in pictures that do not say it; None for the card's.

    Raises:
        UsageError: there are too few.
        AnnotationError: the data set cannot be read.
    """
    items, problems = _items(source, card)
    drawn = np.random.default_rng(_SEED).permutation(len(items))[:MOST_UNLABELLED]
    chosen = [items[i] for i in sorted(drawn.tolist())]
    look, served_as = look_of(card, rbc_px), card.preprocessing
    crops, lost = list[NDArray[np.uint8]](), list[Problem]()
    for item, cell in zip(chosen, placed_cells(chosen, look), strict=True):
        if isinstance(cell, ImageError):
            lost.append(Problem(item.path, f"cannot be decoded ({cell}); left out"))
        else:
            crops.append(cell.crop(served_as.input_px, served_as.interpolation))
    if len(crops) < FEWEST_UNLABELLED:
        raise UsageError(
            f"{source} has {len(crops)} unlabelled cells that can be used, expected "
            f"{FEWEST_UNLABELLED} or more; name results of cellcount analyze with more cells, or a "
            "folder of more pictures of single cells, or leave out --unlabelled"
        )
    order = np.random.default_rng(_SEED).permutation(len(crops))
    return UnlabelledCells(tuple(crops[i] for i in order), len(items), (*problems, *lost))


def _items(source: Path, card: ClassifierCard) -> tuple[Sequence[LabelledCrop], Sequence[Problem]]:
    if is_run(source):
        with stored_results(source) as stored:
            found = counted_cells(stored, card.detector_classes)
        return found.items, found.problems
    if crop_format(source) != "folders":
        crops = read_crops(source)
        return crops.items, crops.problems
    pictures = [p for p in walk_files(source) if "__MACOSX" not in p.parts and has_image_name(p)]
    return [LabelledCrop(path, "") for path in pictures], ()
