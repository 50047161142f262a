"""Scores of a detector on labelled images: COCO's, those at the working threshold, and counts.

- COCO's average precision and recall, see `cellcount.evaluation.average_precision`.
- Precision, recall and F1 of the cells at or above each class's threshold, at IoU 0.5.
- Error of the counts at the same thresholds, per image and in total.

What cannot be computed (no cell of a class in the truth, say) is None, never 0.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.evaluation.average_precision import CocoScores, Row, coco_scores
from cellcount.evaluation.matching import Truth, match

__all__ = [
    "ClassScores",
    "CountingErrors",
    "DetectionReport",
    "Truth",
    "count_error",
    "evaluate_detections",
]

MATCH_IOU = 0.5
ALL = "all"


@dataclass(frozen=True, slots=True)
class CountingErrors:
    """Counted cells against true ones, over images.

    Attributes:
        true, counted: totals.
        mae: mean absolute error, cells per image.
        bias: mean of counted minus true, cells per image.
        relative_error: total counted over total true, minus 1.
        r: Pearson's correlation over images.
    """

    true: int
    counted: int
    mae: float | None
    bias: float | None
    relative_error: float | None
    r: float | None


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class, or all together, at the working threshold.

    Attributes:
        name: class, or "all" (cells of all classes; a match is of the same class).
        threshold: least score that counts; None for "all", where each class has its own.
        true_positives, false_positives, false_negatives: by matching at IoU 0.5.
    """

    name: str
    threshold: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    counting: CountingErrors

    @property
    def precision(self) -> float | None:
        """Share of the counted cells that are true cells."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the true cells that are found."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        errors = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + errors)


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """Everything known about a detector on one set of images.

    Attributes:
        images: number of images.
        published: COCO's summary with 100 detections per image and class, as in publications.
        crowded: the same with 1,000.
        classes: per class, in the order of the detector's classes.
        all: all classes together.
    """

    images: int
    published: CocoScores
    crowded: CocoScores
    classes: tuple[ClassScores, ...]
    all: ClassScores

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "images": self.images,
            "match_iou": MATCH_IOU,
            "coco": [self.published.to_dict(), self.crowded.to_dict()],
            "classes": self.rows(),
        }

    def rows(self) -> list[Row]:
        """One row per class and one for all; ap and ap50 with 1,000 detections per image."""
        rows = [
            _row(scores, self.crowded.class_ap[scores.name], self.crowded.class_ap50[scores.name])
            for scores in self.classes
        ]
        return [*rows, _row(self.all, self.crowded.ap, self.crowded.ap50)]

    def coco_rows(self) -> list[Row]:
        """COCO's figures in COCO's order: metric, iou, area, max_detections, value."""
        return [*self.published.rows(), *self.crowded.rows()]


def evaluate_detections(
    truth: Sequence[Truth],
    predictions: Sequence[Detections],
    classes: Sequence[str],
    *,
    thresholds: Mapping[str, float],
) -> DetectionReport:
    """Score predictions against the truth.

    Args:
        truth: one entry per image, images without cells included.
        predictions: all detections of the same images in the same order, low scores included
            (average precision needs them), in pixels of the original image.
        classes: names of the labels.
        thresholds: working threshold of each class; a cell counts from that score on.

    Raises:
        ValueError: lengths, labels, classes or thresholds do not fit together.
    """
    _check(truth, predictions, classes, thresholds)
    published, crowded = coco_scores(truth, predictions, classes)
    # in the scores' own precision: a threshold chosen among scores must keep that very score
    limits = np.array([thresholds[name] for name in classes], np.float32)
    counted = [cells[cells.scores >= limits[cells.labels]] for cells in predictions]
    outcomes = _outcomes(truth, counted, len(classes))
    per_class = tuple(
        _class_scores(name, thresholds[name], outcomes[:, index])
        for index, name in enumerate(classes)
    )
    return DetectionReport(
        images=len(truth),
        published=published,
        crowded=crowded,
        classes=per_class,
        all=_class_scores(ALL, None, outcomes.sum(axis=1)),
    )


def _check(
    truth: Sequence[Truth],
    predictions: Sequence[Detections],
    classes: Sequence[str],
    thresholds: Mapping[str, float],
) -> None:
    if len(truth) != len(predictions):
        raise ValueError(f"{len(truth)} images have truth but {len(predictions)} have predictions")
    if len(set(classes)) != len(classes) or ALL in classes:
        raise ValueError(f"classes must differ and not be named {ALL!r}, got {list(classes)}")
    if missing := [name for name in classes if name not in thresholds]:
        raise ValueError(f"thresholds name {sorted(thresholds)}, missing {missing}")
    for image, cells in zip(truth, predictions, strict=True):
        for kind, labels in (("truth", image.labels), ("predictions", cells.labels)):
            if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
                raise ValueError(
                    f"{image.image}: labels of the {kind} must lie from 0 to {len(classes) - 1}, "
                    f"got {labels.min()} to {labels.max()}"
                )


def _outcomes(
    truth: Sequence[Truth], counted: Sequence[Detections], classes: int
) -> NDArray[np.int64]:
    """True and counted cells and matches ``(images, K, 3)``."""
    outcomes = np.zeros((len(truth), classes, 3), np.int64)
    for index, (image, cells) in enumerate(zip(truth, counted, strict=True)):
        matching = match(image.boxes_xyxy, image.labels, cells, iou_threshold=MATCH_IOU)
        matched = image.labels[matching.matches[:, 0]]
        for column, labels in enumerate((image.labels, cells.labels, matched)):
            outcomes[index, :, column] = np.bincount(labels, minlength=classes)
    return outcomes


def _class_scores(name: str, threshold: float | None, outcomes: NDArray[np.int64]) -> ClassScores:
    true, counted, matched = outcomes.sum(axis=0).tolist()
    return ClassScores(
        name=name,
        threshold=threshold,
        true_positives=matched,
        false_positives=counted - matched,
        false_negatives=true - matched,
        counting=count_error(outcomes[:, 0], outcomes[:, 1]),
    )


def count_error(true: NDArray[np.int64], counted: NDArray[np.int64]) -> CountingErrors:
    """Error of counts per image, both ``(images,)``."""
    difference = counted - true
    total_true, total_counted = int(true.sum()), int(counted.sum())
    varied = len(true) > 1 and np.ptp(true) > 0 and np.ptp(counted) > 0
    return CountingErrors(
        true=total_true,
        counted=total_counted,
        mae=float(np.abs(difference).mean()) if len(true) else None,
        bias=float(difference.mean()) if len(true) else None,
        relative_error=_ratio(total_counted - total_true, total_true),
        r=float(np.corrcoef(true, counted)[0, 1]) if varied else None,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _row(scores: ClassScores, ap: float | None, ap50: float | None) -> Row:
    return {
        "class": scores.name,
        "threshold": scores.threshold,
        "true": scores.counting.true,
        "counted": scores.counting.counted,
        "ap": ap,
        "ap50": ap50,
        "precision": scores.precision,
        "recall": scores.recall,
        "f1": scores.f1,
        "count_mae": scores.counting.mae,
        "count_bias": scores.counting.bias,
        "count_relative_error": scores.counting.relative_error,
        "count_r": scores.counting.r,
    }
