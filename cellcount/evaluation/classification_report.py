"""What is known about a classifier on one set of cells, and its tables.

The conventions stand in ``cellcount.evaluation.classification``, which computes the numbers.

Shapes: K types.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15
BOOTSTRAP_DRAWS = 2000
CONFIDENCE = 0.95

Limits = tuple[float, float]
Row = dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores over all types; None where undefined.

    Attributes:
        accuracy: share of cells whose label is right; also the weighted recall.
        balanced_accuracy: mean recall of the types that have cells.
        macro_precision, macro_recall, macro_f1: means over types.
        weighted_precision, weighted_f1: means weighted by support.
        mcc: Matthews' correlation coefficient for many classes.
        kappa: Cohen's.
    """

    accuracy: float | None
    balanced_accuracy: float | None
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: float | None
    weighted_precision: float | None
    weighted_f1: float | None
    mcc: float | None
    kappa: float | None

    @property
    def weighted_recall(self) -> float | None:
        """The same number as accuracy."""
        return self.accuracy


@dataclass(frozen=True, slots=True)
class TypeScores:
    """One type.

    Attributes:
        name: id of the type.
        support: cells that are of the type.
        given: cells that were called by it.
        right: cells that are and were.
        tolerant_right: cells of the type that were called by its name or a neighbour's.
    """

    name: str
    support: int
    given: int
    right: int
    tolerant_right: int

    @property
    def precision(self) -> float | None:
        """Share of the cells called so that are."""
        return self.right / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """Share of the cells that are so that were called so."""
        return self.right / self.support if self.support else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        either = self.support + self.given
        return 2 * self.right / either if either else None

    @property
    def tolerant_recall(self) -> float | None:
        """Recall with neighbours in maturation counted as right."""
        return self.tolerant_right / self.support if self.support else None


@dataclass(frozen=True, eq=False, slots=True)
class ClassificationReport:
    """Everything known about a classifier on one set of cells.

    Attributes:
        types: ids in the order of the classes.
        cells: number of cells.
        strict, tolerant: scores without and with neighbours counted as right.
        top_2: share of cells whose type is among the two most probable.
        ece: expected calibration error of the most probable type, in ``ECE_BINS`` equal bins.
        accuracy_wilson, accuracy_bootstrap, macro_f1_bootstrap: 95 % limits of the strict scores.
        per_type: one entry per type.
        confusion: int64 ``(K, K)``, row true type, column label given.
    """

    types: tuple[str, ...]
    cells: int
    strict: Scores
    tolerant: Scores
    top_2: float | None
    ece: float | None
    accuracy_wilson: Limits | None
    accuracy_bootstrap: Limits | None
    macro_f1_bootstrap: Limits | None
    per_type: tuple[TypeScores, ...]
    confusion: NDArray[np.int64]

    def summary_rows(self) -> list[Row]:
        """Metric, strict and tolerant value, limits and how they were had; in a fixed order."""
        rows: list[Row] = []
        for name in ("accuracy", "weighted_recall", *_FURTHER):
            limits = {
                "accuracy": (self.accuracy_wilson, "Wilson"),
                "macro_f1": (self.macro_f1_bootstrap, "bootstrap"),
            }.get(name, (None, ""))
            strict, tolerant = getattr(self.strict, name), getattr(self.tolerant, name)
            rows.append(_row(name, strict, tolerant, *limits))
        rows.insert(1, _row("accuracy", self.strict.accuracy, None, self.accuracy_bootstrap,
                            "bootstrap"))  # fmt: skip
        rows.append(_row("top_2", self.top_2, None, None, ""))
        rows.append(_row("ece", self.ece, None, None, ""))
        return rows

    def type_rows(self) -> list[Row]:
        """One row per type."""
        return [
            {
                "type": t.name,
                "support": t.support,
                "given": t.given,
                "right": t.right,
                "precision": t.precision,
                "recall": t.recall,
                "f1": t.f1,
                "tolerant_recall": t.tolerant_recall,
            }
            for t in self.per_type
        ]

    def confusion_rows(self) -> list[Row]:
        """One row per true type, one column per label given."""
        return [
            {"true": name, **dict(zip(self.types, counts, strict=True))}
            for name, counts in zip(self.types, self.confusion.tolist(), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values, its conventions among them."""
        return {
            "cells": self.cells,
            "types": list(self.types),
            "strict": _with_weighted_recall(self.strict),
            "tolerant": _with_weighted_recall(self.tolerant),
            "top_2": self.top_2,
            "ece": self.ece,
            "ece_bins": ECE_BINS,
            "confidence": CONFIDENCE,
            "accuracy_wilson": self.accuracy_wilson,
            "accuracy_bootstrap": self.accuracy_bootstrap,
            "macro_f1_bootstrap": self.macro_f1_bootstrap,
            "bootstrap": f"{BOOTSTRAP_DRAWS} draws, stratified by true type, percentiles",
            "per_type": self.type_rows(),
            "confusion": self.confusion.tolist(),
        }


_FURTHER = (
    "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_precision",
    "weighted_f1", "mcc", "kappa",
)  # fmt: skip


def _row(
    metric: str, strict: float | None, tolerant: float | None, limits: Limits | None, method: str
) -> Row:
    low, high = limits if limits is not None else (None, None)
    return {
        "metric": metric,
        "strict": strict,
        "tolerant": tolerant,
        "ci_low": low,
        "ci_high": high,
        "method": method if limits is not None else "",
    }


def _with_weighted_recall(scores: Scores) -> dict[str, float | None]:
    return {**dataclasses.asdict(scores), "weighted_recall": scores.weighted_recall}
