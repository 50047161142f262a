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
from cellcount.models.classifier_card import ClassifierCard
from cellcount.training.classifier.cell_windows import CropDataset, CropWindow, placed_cells
from cellcount.training.classifier.sampling import Draw
from cellcount.training.classifier.window_augment import CROP_AUGMENTS

#: Windows that the first classifier computes at most, about a minute on two cores; several
#: classifiers share as many.
_WINDOWS = 6000
_MOST_VIEWS = 6
_CHUNK = 64

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Features of the cells whose pictures could be read.

    Attributes:
        places: of the cells among those that were given.
        features: (N, V, F) by each classifier; V of the first does not depend on the others.
        problems: pictures that could not be read.
    """

    places: tuple[int, ...]
    features: tuple[NDArray[np.float32], ...]
    problems: tuple[Problem, ...]


def views_of(cells: int, classifiers: int = 1) -> int:
    """Return the number of views of a cell that each of several classifiers computes, 1 to 6."""
    return max(1, min(_MOST_VIEWS, _WINDOWS // max(1, cells * classifiers)))


def seen(
    items: Sequence[LabelledCrop],
    classifiers: Sequence[CropClassifier],
    rbc_px: float | None,
    on_cell: Callable[[], None] = lambda: None,
) -> Seen:
    """Compute the features of labelled cells; random changes depend on a cell's place alone.

    Args:
        items: those of one picture in a row.
        classifiers: one network under several statistics, with a last linear layer.
        rbc_px: red-cell diameter where an item does not say it; None for the card's.
        on_cell: called after each cell.

    Raises:
        AnnotationError: boxes of fields need ``rbc_px``.
        UsageError: the classifier has no last linear layer.
    """
    card = classifiers[0].card
    look, served_as = look_of(card, rbc_px), card.preprocessing
    places, crops, problems = list[int](), list[Pixels](), list[Problem]()
    parts = list[list[NDArray[np.float32]]]()
    for place, (item, cell) in enumerate(zip(items, placed_cells(items, look), strict=True)):
        on_cell()
        if isinstance(cell, ImageError):
            problems.append(Problem(item.path, f"cannot be decoded ({cell}); left out"))
            continue
        places.append(place)
        crops.append(cell.crop(served_as.input_px, served_as.interpolation))
        if len(crops) == _CHUNK:
            parts.append(_features(classifiers, crops))
            crops.clear()
    served = _joined([*parts, _features(classifiers, crops)])
    changed = _changed([items[p] for p in places], classifiers, look)
    by_classifier = [
        np.stack([own, *(view[i] for view in changed if i < len(view))], axis=1)
        for i, own in enumerate(served)
    ]
    return Seen(tuple(places), tuple(by_classifier), tuple(problems))


def look_of(card: ClassifierCard, rbc_px: float | None) -> CropWindow:
    """Return the part of a picture that a classifier looks at.

    Args:
        card: its card.
        rbc_px: red-cell diameter in pictures that do not say it; None for the card's.
    """
    return CropWindow(
        card.preprocessing.input_px,
        card.crop.window_rbc,
        rbc_px or card.crop.rbc_px,
        card.crop.contour,
        card.preprocessing.white_balance,
    )


def _features(
    classifiers: Sequence[CropClassifier], crops: Sequence[Pixels]
) -> list[NDArray[np.float32]]:
    """Features (n, F) of some crops by each classifier."""
    return [classifier.features(crops) for classifier in classifiers]


def _joined(parts: Sequence[list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
    """Features (N, F) by each classifier of all parts."""
    return [np.concatenate(own) for own in zip(*parts, strict=True)]


def _changed(
    items: Sequence[LabelledCrop], classifiers: Sequence[CropClassifier], look: CropWindow
) -> list[list[NDArray[np.float32]]]:
    """Features (N, F) of every further view: turned, mirrored, and of a slightly other light.

    The first classifier sees as many views as it does alone, so that what is fitted to it does not
    depend on the others, which see fewer where there are many cells.
    """
    mild = CROP_AUGMENTS["mild"]
    assert mild is not None
    mild = dataclasses.replace(mild, wide_share=0.0, scale_core=(0.9, 1.12))
    views, of_all = (views_of(len(items), n) - 1 for n in (1, len(classifiers)))
    if not items or not views:
        return []
    windows = CropDataset(items, [0] * len(items), look, seed=0)
    found, places = [], range(len(items))
    for view in range(views):
        windows.start_epoch(view, [Draw(i, 0) for i in range(len(items))], mild)
        seeing = classifiers if view < of_all else classifiers[:1]
        parts = [
            _features(seeing, [_pixels(windows, p) for p in places[start : start + _CHUNK]])
            for start in places[::_CHUNK]
        ]
        found.append(_joined(parts))
    return found


def _pixels(windows: CropDataset, place: int) -> Pixels:
    return np.ascontiguousarray(windows[place][0].permute(1, 2, 0).numpy())
