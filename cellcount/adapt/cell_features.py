"""Features of labelled cells: the input of a classifier's last layer, for several views of a cell.

Shapes: N cells, V views of each (the first as it is served), F features; features (N, V, F).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.engines.crop_classifier import CropClassifier
from cellcount.errors import ImageError
from cellcount.training.classifier.cell_windows import CropDataset, CropWindow, placed_cells
from cellcount.training.classifier.sampling import Draw
from cellcount.training.classifier.window_augment import CROP_AUGMENTS

#: Windows that are computed in all: about a minute on two cores.
_WINDOWS = 6000
_MOST_VIEWS = 6
_CHUNK = 64

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Features of the cells whose pictures could be read.

    Attributes:
        places: of the cells among those that were given.
        features: (N, V, F).
        problems: pictures that could not be read.
    """

    places: tuple[int, ...]
    features: NDArray[np.float32]
    problems: tuple[Problem, ...]


def views_of(cells: int) -> int:
    """Return how many views of a cell to compute, fewer where there are many cells."""
    return max(1, min(_MOST_VIEWS, _WINDOWS // max(1, cells)))


def seen(
    items: Sequence[LabelledCrop],
    classifier: CropClassifier,
    rbc_px: float | None,
    on_cell: Callable[[], None] = lambda: None,
) -> Seen:
    """Compute the features of labelled cells; random changes depend on a cell's place alone.

    Args:
        items: those of one picture in a row.
        classifier: with a last linear layer.
        rbc_px: red-cell diameter where an item does not say it; None for the card's.
        on_cell: called after each cell.

    Raises:
        AnnotationError: boxes of fields need ``rbc_px``.
        UsageError: the classifier has no last linear layer.
    """
    look, served_as = _look(classifier, rbc_px), classifier.card.preprocessing
    places, crops, problems = list[int](), list[Pixels](), list[Problem]()
    parts = list[NDArray[np.float32]]()
    for place, (item, cell) in enumerate(zip(items, placed_cells(items, look), strict=True)):
        on_cell()
        if isinstance(cell, ImageError):
            problems.append(Problem(item.path, f"cannot be decoded ({cell}); left out"))
            continue
        places.append(place)
        crops.append(cell.crop(served_as.input_px, served_as.interpolation))
        if len(crops) == _CHUNK:
            parts.append(classifier.features(crops))
            crops.clear()
    served = np.concatenate([*parts, classifier.features(crops)])
    changed = _changed([items[p] for p in places], classifier, look)
    return Seen(tuple(places), np.stack([served, *changed], axis=1), tuple(problems))


def _look(classifier: CropClassifier, rbc_px: float | None) -> CropWindow:
    card = classifier.card
    return CropWindow(
        card.preprocessing.input_px,
        card.crop.window_rbc,
        rbc_px or card.crop.rbc_px,
        card.crop.contour,
        card.preprocessing.white_balance,
    )


def _changed(
    items: Sequence[LabelledCrop], classifier: CropClassifier, look: CropWindow
) -> list[NDArray[np.float32]]:
    """Features (N, F) of every further view: turned, mirrored, and of a slightly other light."""
    mild = CROP_AUGMENTS["mild"]
    assert mild is not None
    mild = dataclasses.replace(mild, wide_share=0.0, scale_core=(0.9, 1.12))
    views = views_of(len(items)) - 1
    if not items or not views:
        return []
    windows = CropDataset(items, [0] * len(items), look, seed=0)
    found, places = [], range(len(items))
    for view in range(views):
        windows.start_epoch(view, [Draw(i, 0) for i in range(len(items))], mild)
        parts = [
            classifier.features([_pixels(windows, p) for p in places[start : start + _CHUNK]])
            for start in places[::_CHUNK]
        ]
        found.append(np.concatenate(parts))
    return found


def _pixels(windows: CropDataset, place: int) -> Pixels:
    return np.ascontiguousarray(windows[place][0].permute(1, 2, 0).numpy())
