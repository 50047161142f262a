"""Count errors of a detector on a laboratory's fields, for each scale and by cross-validation.

The scale and the thresholds of a fold are chosen on the other folds alone, so that the figures are
those of a detector that had not seen the fields.

Shapes: M images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth
from cellcount.evaluation.thresholds import zero_bias_thresholds

FOLDS = 5
#: Another scale must lower the error by this share, since it is changed for all later slides.
_GAIN = 0.05


@dataclass(frozen=True, eq=False, slots=True)
class SeenFields:
    """A laboratory's fields as a detector sees them.

    Attributes:
        classes: ids in label order.
        truths: M labelled fields.
        found: scale, relative to the detector's own → detections on each field at any score.
        groups: M names; fields of one name are of one slide and are held out together.
    """

    classes: tuple[str, ...]
    truths: Sequence[Truth]
    found: Mapping[float, Sequence[Detections]]
    groups: Sequence[str]

    def labelled(self) -> tuple[str, ...]:
        """Classes of which these fields have cells; the others cannot be judged."""
        present = set[int]().union(*(set(t.labels.tolist()) for t in self.truths))
        return tuple(name for label, name in enumerate(self.classes) if label in present)


@dataclass(frozen=True, slots=True)
class CountError:
    """Count error of one class.

    Attributes:
        true, counted: cells in all fields.
        mean_error: mean absolute difference of a field.
    """

    true: int
    counted: int
    mean_error: float

    @property
    def bias(self) -> float:
        """Counted over true, minus 1."""
        return self.counted / self.true - 1

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        bias, mean = round(self.bias, 4), round(self.mean_error, 4)
        return {"true": self.true, "counted": self.counted, "bias": bias, "mean_error": mean}


@dataclass(frozen=True, eq=False, slots=True)
class CountFigures:
    """Errors before and after an adaptation, each field judged by a choice made without its slide.

    Attributes:
        scale: chosen on all fields, relative to the detector's own.
        thresholds: class id → chosen on all fields; the detector's own where none is labelled.
        before, after: class id → its error.
        counts: (M, labelled classes, 3): true, counted before, counted after.
        folds: (M,) fields of one number were held out together.
    """

    scale: float
    thresholds: dict[str, float]
    before: dict[str, CountError]
    after: dict[str, CountError]
    counts: NDArray[np.int64]
    folds: NDArray[np.int64]

    def is_better(self) -> bool:
        """Return whether the mean error over the classes, relative to their cells, is lower."""
        return _mean(self.after) < _mean(self.before)


def figures_of(seen: SeenFields, own: Mapping[str, float]) -> CountFigures:
    """Choose scale and thresholds, and cross-validate the choice.

    Args:
        seen: labelled fields and what was found on them.
        own: the detector's thresholds.
    """
    names = seen.labelled()
    everything = np.arange(len(seen.truths))
    scale, thresholds = _chosen(seen, own, everything)
    folds = dealt(seen.groups)
    true = np.array([[int((t.labels == c).sum()) for c in _labels(seen)] for t in seen.truths])
    before = _counts(seen, 1.0, own, everything)
    after = np.zeros_like(before)
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        fitted = _chosen(seen, own, np.flatnonzero(folds != fold))
        after[held] = _counts(seen, *fitted, held)
    return CountFigures(
        scale,
        thresholds,
        _errors(names, true, before),
        _errors(names, true, after),
        np.stack([true, before, after], axis=2),
        folds,
    )


def dealt(groups: Sequence[str]) -> NDArray[np.int64]:
    """Fold of each field, (M,): groups in the order of their names, dealt out in turn."""
    order = {name: place % FOLDS for place, name in enumerate(sorted(set(groups)))}
    return np.array([order[name] for name in groups], np.int64)


def _labels(seen: SeenFields) -> list[int]:
    return [seen.classes.index(name) for name in seen.labelled()]


def _chosen(
    seen: SeenFields, own: Mapping[str, float], used: NDArray[np.intp]
) -> tuple[float, dict[str, float]]:
    """Scale and thresholds with the least error on some of the fields."""
    names = seen.labelled()
    truths = [seen.truths[n] for n in used]
    true = np.array([[int((t.labels == c).sum()) for c in _labels(seen)] for t in truths])
    choices = []
    for scale, found in seen.found.items():
        fitted = zero_bias_thresholds(truths, [found[n] for n in used], seen.classes)
        present = {name for name, total in zip(names, true.sum(0), strict=True) if total}
        thresholds = {c: fitted[c] if c in present else own[c] for c in seen.classes}
        error = _mean(_errors(names, true, _counts(seen, scale, thresholds, used)))
        choices.append(
            (error * (1 if scale == 1 else 1 + _GAIN), abs(scale - 1), scale, thresholds)
        )
    *_, scale, thresholds = min(choices, key=lambda choice: choice[:3])
    return scale, thresholds


def _counts(
    seen: SeenFields, scale: float, thresholds: Mapping[str, float], used: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Cells counted on some of the fields, a column per labelled class."""
    floors = np.array([thresholds[name] for name in seen.classes], np.float32)
    rows = []
    for place in used:
        found = seen.found[scale][place]
        kept = found.labels[found.scores >= floors[found.labels]]
        rows.append([int((kept == label).sum()) for label in _labels(seen)])
    return np.array(rows, np.int64).reshape(len(used), len(seen.labelled()))


def _errors(
    names: Sequence[str], true: NDArray[np.int64], counted: NDArray[np.int64]
) -> dict[str, CountError]:
    off = np.abs(counted - true).mean(0)
    totals = zip(names, true.sum(0), counted.sum(0), off, strict=True)
    return {name: CountError(int(t), int(c), float(e)) for name, t, c, e in totals if t}


def _mean(errors: Mapping[str, CountError]) -> float:
    """Mean over the classes of a class's error in relation to its cells, in cells of a field."""
    return float(np.mean([e.mean_error / e.true for e in errors.values()]))
