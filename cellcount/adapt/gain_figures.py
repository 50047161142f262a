"""Figures of an adaptation, which a laboratory files when it validates the classifier anew.

Every cell is judged by a layer that was refitted without its slide.

Shapes: N cells, K types; scores (N, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest

from cellcount.adapt.choose import Chosen
from cellcount.adapt.laboratory_cells import LaboratoryCells
from cellcount.adapt.last_layer import Examples, log_losses
from cellcount.evaluation.classification import Limits, wilson_limits


@dataclass(frozen=True, slots=True)
class RightShare:
    """Number of cells typed rightly, and of all.

    Attributes:
        right, cells: the numbers.
    """

    right: int
    cells: int

    @property
    def value(self) -> float | None:
        """The share, None of no cells."""
        return self.right / self.cells if self.cells else None

    @property
    def limits(self) -> Limits | None:
        """Wilson's 95 % limits."""
        return wilson_limits(self.right, self.cells)

    def facts(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        limits = self.limits
        return {
            "right": self.right,
            "cells": self.cells,
            "share": None if self.value is None else round(self.value, 4),
            "limits": None if limits is None else [round(v, 4) for v in limits],
        }


@dataclass(frozen=True, slots=True)
class Side:
    """The cells before or after.

    Attributes:
        right: typed rightly, of all.
        accepted: sure enough to be counted, of all.
        accepted_right: typed rightly, of the accepted ones.
        by_label: label → typed rightly, of its cells.
        loss: mean of minus the log of the probability of the true type.
    """

    right: RightShare
    accepted: RightShare
    accepted_right: RightShare
    by_label: dict[str, RightShare]
    loss: float

    def facts(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        return {
            "right": self.right.facts(),
            "accepted": self.accepted.facts(),
            "accepted_right": self.accepted_right.facts(),
            "by_label": {label: share.facts() for label, share in self.by_label.items()},
            "loss": round(self.loss, 4),
        }


@dataclass(frozen=True, slots=True)
class StatisticsFigures:
    """Figures of statistics of normalisation that were re-estimated from unlabelled cells.

    Attributes:
        data: name of the unlabelled cells' folder or file.
        cells: unlabelled cells that were used.
        share: of the laboratory's statistics, 0 where the packaged ones stay as they are.
        losses: share → least mean loss of a way with it, on slides left out; None where the
            packaged layer fits the labelled cells worse with it than without.
    """

    data: str
    cells: int
    share: float
    losses: dict[float, float | None]

    @classmethod
    def of(cls, found: Chosen, data: str, cells: int) -> StatisticsFigures:
        """Take the figures from a choice."""
        return cls(data, cells, found.method.share, found.by_share)

    def facts(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        losses = {
            f"{share:g}": None if loss is None else round(loss, 4)
            for share, loss in self.losses.items()
        }
        return {"data": self.data, "cells": self.cells, "share": self.share, "losses": losses}


@dataclass(frozen=True, eq=False, slots=True)
class Figures:
    """An adaptation in numbers.

    Attributes:
        way: how the cells are used.
        losses: mean loss of every way that was tried, on slides left out.
        before, after: the classifier as it is, and adapted.
        righted, broken: cells that are right only after, and only before.
        slides: that are named; 0 where none is, and every picture was taken for one.
        statistics: what re-estimated statistics do, None where there were no unlabelled cells.
    """

    way: str
    losses: dict[str, float]
    before: Side
    after: Side
    righted: int
    broken: int
    slides: int
    statistics: StatisticsFigures | None = None

    @property
    def p_value(self) -> float:
        """P-value of McNemar's exact test: the chance of so many more righted than broken cells."""
        changed = self.righted + self.broken
        return float(binomtest(self.righted, changed, 0.5).pvalue) if changed else 1.0

    def facts(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        return {
            "way": self.way,
            "losses": {way: round(loss, 4) for way, loss in self.losses.items()},
            "before": self.before.facts(),
            "after": self.after.facts(),
            "righted": self.righted,
            "broken": self.broken,
            "p_value": round(self.p_value, 6),
            "slides": self.slides,
            **({"statistics": self.statistics.facts()} if self.statistics else {}),
        }


def figures_of(
    found: Chosen, examples: Examples, cells: LaboratoryCells, least_probs: Sequence[float]
) -> Figures:
    """Compute the figures of an adaptation from the scores of its cross-validation.

    Args:
        found: with the scores of every cell.
        examples: the cells, in that order.
        cells: likewise, with their labels.
        least_probs: least probability of a cell that is accepted as each type.
    """
    before, after = found.right(examples)
    labels = [item.label for item in cells.items]

    def side(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Side:
        return _side(scores, right, examples, labels, least_probs)

    return Figures(
        way=found.method.words,
        losses=found.losses,
        before=side(found.before, before),
        after=side(found.after, after),
        righted=int((after & ~before).sum()),
        broken=int((before & ~after).sum()),
        slides=cells.slides,
    )


def _side(
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    examples: Examples,
    labels: Sequence[str],
    least_probs: Sequence[float],
) -> Side:
    probs = softmax(scores, axis=1)
    accepted = probs.max(1) >= np.asarray(least_probs)[probs.argmax(1)]
    of_label = np.array(labels)
    by_label = {
        label: RightShare(int(right[of_label == label].sum()), int((of_label == label).sum()))
        for label in sorted(set(labels))
    }
    return Side(
        right=RightShare(int(right.sum()), len(right)),
        accepted=RightShare(int(accepted.sum()), len(right)),
        accepted_right=RightShare(int((accepted & right).sum()), int(accepted.sum())),
        by_label=by_label,
        loss=float(log_losses(scores, examples.allowed).mean()),
    )
