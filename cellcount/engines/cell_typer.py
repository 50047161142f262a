"""Typing of the counted cells of a field.

Shapes: N cells, M reported types; pixels uint8 (H, W, 3) RGB of the whole original field.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Cells, CellTypes
from cellcount.engines.base import CellClassifier
from cellcount.engines.classifier_input import central_crop
from cellcount.engines.type_map import TypeMap
from cellcount.errors import UsageError
from cellcount.images.source import Source
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.images.windows import BALANCE_SIDES, surroundings, window
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import DetectorCard

_MARGIN_PX = 16  # what resampling may look at beyond a cell's surroundings


class CellTyper:
    """Types the cells that a detector has found.

    Args:
        classifier: the loaded classifier.
        detector_card: of the detector that finds the cells.
        type_map: to the reported types; None for the classifier's own.

    Attributes:
        types: the reported types; ``CellTypes.best`` is a place among them.

    Raises:
        UsageError: the classifier looks at whole pictures, or at no class of the detector.
    """

    def __init__(
        self,
        classifier: CellClassifier,
        detector_card: DetectorCard,
        type_map: TypeMap | None = None,
    ) -> None:
        card = classifier.card
        if card.crop.window_rbc == 0:
            raise UsageError(
                f"the classifier {card.name!r} looks at whole pictures of single cells, so it "
                "cannot type the cells of a field; type such pictures with cellcount classify, or "
                "train one with a window of red-cell diameters"
            )
        typed = [c.id in card.detector_classes for c in detector_card.classes]
        if not any(typed):
            raise UsageError(
                f"the classifier {card.name!r} types {', '.join(card.detector_classes)}, but the "
                f"detector {detector_card.name!r} finds "
                f"{', '.join(c.id for c in detector_card.classes)}; choose another of the two, "
                "or --classifier none"
            )
        self._classifier = classifier
        self._map = type_map or TypeMap.unchanged(card)
        self._least_probs = self._map.least_probs(card)
        self._is_typed = np.array(typed)
        self._rbc_px = detector_card.rbc_diameter_px
        self.types = self._map.types

    def type_cells(self, source: Source, cells: Cells, factor: float) -> CellTypes:
        """The type of each cell; those of other detector classes stay untyped.

        Args:
            source: the whole image as it was read.
            cells: what was counted on it.
            factor: original pixels times this were the detector's pixels.

        Raises:
            ImageError: what lies around the cells cannot be read.
        """
        is_typed = self._is_typed[cells.detections.labels]
        typed = np.flatnonzero(is_typed)
        probs = np.zeros((len(cells), len(self.types)), np.float32)
        reach = ceil(BALANCE_SIDES * self._side(factor)) + _MARGIN_PX
        for part in source.around(cells.detections.boxes_xyxy[typed], reach):
            probs[typed[part.which]] = self._probs(part.pixels, part.boxes_xyxy, factor)
        return cell_types(probs, is_typed, self._least_probs)

    def _side(self, factor: float) -> float:
        """Side of a cell's window in original pixels."""
        return self._classifier.card.crop.window_rbc * self._rbc_px / factor

    def _probs(
        self, pixels: NDArray[np.uint8], boxes_xyxy: NDArray[np.floating[Any]], factor: float
    ) -> NDArray[np.float32]:
        """Probabilities of the reported types (N, M) for boxes (N, 4) of the pixels."""
        crops = field_crops(pixels, boxes_xyxy, self._classifier.card, self._side(factor))
        return self._map.apply(self._classifier.probs(crops))


def field_crops(
    pixels: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.floating[Any]],
    card: ClassifierCard,
    side_px: float,
) -> list[NDArray[np.uint8]]:
    """The classifier's input for each box of a field, cut from the field's own pixels.

    The white balance is that of each cell's surroundings: light that falls off or changes colour
    across a field is taken out, as it is in pictures of single cells.

    Args:
        pixels: the whole field as it was read.
        boxes_xyxy: of the cells, (N, 4) in pixels of the field.
        card: says how a cell becomes an input.
        side_px: side of the window in pixels of the field.
    """
    before = card.preprocessing
    crops = []
    for x, y in ((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2).tolist():
        near, place = surroundings(pixels, (x, y), side_px)
        if before.white_balance:
            around, _ = surroundings(pixels, (x, y), side_px, sides=BALANCE_SIDES)
            near = apply_gains(near, white_balance_gains(around))
        if card.crop.contour:
            whole = window(near, place, side_px, (ceil(side_px), ceil(side_px)))
            crops.append(central_crop(whole, card, side_px))
        else:
            crops.append(window(near, place, side_px, before.input_px, before.interpolation))
    return crops


def cell_types(
    probs: NDArray[np.float32], is_typed: NDArray[np.bool_], least_probs: NDArray[np.float32]
) -> CellTypes:
    """The best two types of each cell and whether the best is certain enough to be reported.

    Args:
        probs: of each reported type, (N, M).
        is_typed: (N,), False for cells that the classifier does not look at.
        least_probs: least probability (M,) at which each type is accepted.
    """
    rows = np.arange(len(probs))
    order = np.argsort(-probs, axis=1, kind="stable")  # (N, M); equals in the order of the types
    best = order[:, 0]
    second = order[:, 1] if probs.shape[1] > 1 else np.full(len(probs), -1)
    prob = probs[rows, best]
    second_prob = np.where(second >= 0, probs[rows, second], np.float32(0))
    return CellTypes(
        best=np.where(is_typed, best, -1).astype(np.int64),
        prob=np.where(is_typed, prob, 0).astype(np.float32),
        second=np.where(is_typed, second, -1).astype(np.int64),
        second_prob=np.where(is_typed, second_prob, 0).astype(np.float32),
        accepted=is_typed & (prob >= least_probs[best]),
    )
