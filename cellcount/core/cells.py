"""From raw detections to the counted cells of one image.

Shapes: N cells, K classes; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cellcount.core.boxes import clip, touches_border
from cellcount.core.records import UNCLASSIFIED, Cells, CellTypes, Detections, ImageResult
from cellcount.settings import EdgeRule

EDGE_TOLERANCE_PX = 1.0
"""A box this near to the image's border, in original pixels, is taken to be cut by it."""

COORDINATE_DECIMALS = 2
"""Coordinates are rounded once, here, so that journal, tables and exports agree."""


def cells_from_detections(
    detections: Detections,
    width_px: int,
    height_px: int,
    *,
    thresholds: NDArray[np.float32],
    edge_rule: EdgeRule,
) -> Cells:
    """Choose, clip, flag and rank the cells of one image.

    A detection counts from its class's threshold on. Boxes are clipped to the image and rounded
    to 0.01 px; what is empty then, or not a number, is dropped. ``two-sides`` leaves out cells
    that touch the right or lower edge, as in a counting chamber. The order is total: y_min,
    x_min, x_max, y_max, label, then falling score.

    Args:
        detections: N boxes in pixels of the original image.
        width_px: width of the image.
        height_px: height of the image.
        thresholds: float32 ``(K,)``, least score of each class.
        edge_rule: ``all`` or ``two-sides``.

    Raises:
        ValueError: a label has no threshold.
    """
    labels = detections.labels
    if len(labels) and (labels.min() < 0 or labels.max() >= len(thresholds)):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but there are thresholds for "
            f"{len(thresholds)} classes"
        )
    boxes_xyxy = _rounded(clip(detections.boxes_xyxy, width_px, height_px))  # (N, 4)
    x_min, y_min, x_max, y_max = boxes_xyxy.T
    keep = (detections.scores >= thresholds[labels]) & (x_max > x_min) & (y_max > y_min)
    edge = edge_of(boxes_xyxy, width_px, height_px)
    if edge_rule == "two-sides":
        keep &= x_max < width_px - EDGE_TOLERANCE_PX
        keep &= y_max < height_px - EDGE_TOLERANCE_PX
    order = np.lexsort((-detections.scores, labels, y_max, x_max, x_min, y_min))
    order = order[keep[order]]
    counted = Detections(boxes_xyxy, detections.scores, labels)[order]
    return Cells(counted, edge[order])


def edge_of(boxes_xyxy: NDArray[np.float32], width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Return whether the image's edge cuts each of N cells, bool ``(N,)``."""
    return touches_border(boxes_xyxy, width_px, height_px, EDGE_TOLERANCE_PX)


def count_by_class(cells: Cells, num_classes: int) -> NDArray[np.int64]:
    """Number of cells of each class, int64 ``(K,)``; a label outside 0…K-1 is an error.

    Rejected cells are in none of them.
    """
    labels = cells.detections.labels
    counts = np.bincount(labels, minlength=num_classes).astype(np.int64)
    if len(counts) != num_classes:
        raise ValueError(f"a label is {len(counts) - 1}, expected less than {num_classes}")
    if cells.rejected is not None:
        counts -= np.bincount(labels[cells.rejected], minlength=num_classes)
    return counts


def count_by_type(types: CellTypes | None, num_types: int) -> NDArray[np.int64]:
    """Number of cells of each type and, last, of unclassified ones, int64 ``(num_types + 1,)``.

    Untyped cells are in none of them.
    """
    if types is None:
        return np.zeros(num_types + 1, np.int64)
    typed = types.best >= 0
    counts = np.bincount(types.best[typed & types.accepted], minlength=num_types)
    if len(counts) != num_types:
        raise ValueError(f"a type is {len(counts) - 1}, expected less than {num_types}")
    return np.append(counts, (typed & ~types.accepted).sum()).astype(np.int64)


def with_reviews(result: ImageResult, type_ids: Sequence[str]) -> ImageResult:
    """Return the result with the labels of reviewers in place of those of the models.

    A reviewed type has no probability, which is NaN, and no second one. A cell that a reviewer
    left open is unclassified, with its likeliest type. Cells that a person removed are not there;
    the others keep their numbers.

    Args:
        result: with its reviews; one that is not done stays as it is.
        type_ids: the types that may be given, the classifier's first and in its order.

    Raises:
        ValueError: a reviewed type is none of them.
    """
    if result.status != "done":
        return result
    result = without_removed(result)
    if not result.reviewed:
        return result
    cells = result.cells
    said = CellTypes.untyped(len(cells)) if cells.types is None else cells.types
    best, prob, accepted = said.best.copy(), said.prob.copy(), said.accepted.copy()
    second, second_prob = said.second.copy(), said.second_prob.copy()
    for cell, review in result.reviewed.items():
        accepted[cell] = review.type_id != UNCLASSIFIED
        if accepted[cell]:
            best[cell], prob[cell] = list(type_ids).index(review.type_id), np.nan
            second[cell], second_prob[cell] = -1, 0
    types = CellTypes(best, prob, second, second_prob, accepted)
    return replace(result, cells=replace(cells, types=types))


def with_rejected(
    result: ImageResult, white_labels: Sequence[int], no_white_types: Sequence[int]
) -> ImageResult:
    """Mark the detected white cells whose type, as it counts, is that of no white cell.

    A cell of which the classifier was not sure enough is not rejected.

    Args:
        result: with the types that count.
        white_labels: the detector's classes of white cells.
        no_white_types: types that are none: platelets, artefacts, false finds.
    """
    types, labels = result.cells.types, result.cells.detections.labels
    if types is None or not no_white_types:
        return result
    rejected = types.accepted & np.isin(types.best, no_white_types) & np.isin(labels, white_labels)
    return replace(result, cells=replace(result.cells, rejected=rejected))


def without_removed(result: ImageResult) -> ImageResult:
    """Leave out cells that a person took out; the others keep their numbers."""
    removed = {place for place, edit in result.box_edits.items() if edit.removes}
    if not removed:
        return result
    cells = result.cells
    kept = np.array([place for place in range(len(cells)) if place not in removed], np.intp)
    types = None if cells.types is None else cells.types[kept]
    numbers = kept + 1 if cells.numbers is None else cells.numbers[kept]
    now = {place: now for now, place in enumerate(kept.tolist())}
    return replace(
        result,
        cells=Cells(cells.detections[kept], cells.edge[kept], types, numbers.astype(np.int64)),
        reviewed={now[place]: said for place, said in result.reviewed.items() if place in now},
        box_edits={now[place]: edit for place, edit in result.box_edits.items() if place in now},
    )


def _rounded(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded = np.round(boxes_xyxy.astype(np.float64), COORDINATE_DECIMALS)
    return (rounded + 0.0).astype(np.float32)  # + 0.0: no "-0.00" in a table
