"""Scores of a classifier of single cells: strict, tolerant of neighbours, and their limits.

Conventions, which papers rarely state:

- The label given is the most probable type.
- Macro means weigh every type alike that occurs in the truth or among the labels given; a type
  never given has precision 0 there, as scikit-learn has it. Weighted means weigh by support.
- Weighted recall is accuracy by definition: one number under both names.
- Tolerant scores count a neighbour in maturation as right, as if it had been called by its true
  name.
- What cannot be computed (recall of a type without cells, say) is None, never 0.
- Limits are at 95 %: Wilson's for accuracy, and percentiles of 2,000 bootstrap draws, stratified by
  true type since validation sets are drawn by type. Both take cells as independent; cells of one
  patient are not, so the limits are too narrow where patients have several cells each.

Shapes: N cells, K types, D bootstrap draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
    multiclass_precision,
    multiclass_recall,
)

__all__ = [
    "BOOTSTRAP_DRAWS",
    "ECE_BINS",
    "ClassificationReport",
    "Scores",
    "TypeScores",
    "evaluate_classification",
    "expected_calibration_error",
    "wilson_limits",
]


def evaluate_classification(
    true: NDArray[np.integer[Any]],
    probs: NDArray[np.floating[Any]],
    types: Sequence[str],
    *,
    neighbours: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> ClassificationReport:
    """Scores of probabilities against true types.

    Args:
        true: ``(N,)``, class index of each cell.
        probs: ``(N, K)``, rows sum to 1.
        types: K ids.
        neighbours: for each type the indices that count as right too; empty for none.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes or values do not fit.
    """
    _check(true, probs, types, neighbours)
    size = len(types)
    given = probs.argmax(axis=1)
    near = np.eye(size, dtype=np.bool_)
    for index, others in enumerate(neighbours):
        near[index, list(others)] = True
    forgiven = np.where(near[true, given], true, given)
    truth, labels = torch.as_tensor(true).long(), torch.as_tensor(given)
    confusion = _confusion(labels, truth, size)
    right = int(np.trace(confusion))
    tolerant_right = np.where(near, confusion, 0).sum(axis=1)
    per_type = tuple(
        TypeScores(name, int(row.sum()), int(column.sum()), int(row[i]), int(tolerant_right[i]))
        for i, (name, row, column) in enumerate(zip(types, confusion, confusion.T, strict=True))
    )
    accuracy_limits, f1_limits = _bootstrap(confusion, seed)
    return ClassificationReport(
        types=tuple(types),
        cells=len(true),
        strict=_scores(labels, truth, size),
        tolerant=_scores(torch.as_tensor(forgiven), truth, size),
        top_2=_top_2(probs, truth),
        ece=_ece(probs, truth),
        accuracy_wilson=wilson_limits(right, len(true)),
        accuracy_bootstrap=accuracy_limits,
        macro_f1_bootstrap=f1_limits,
        per_type=per_type,
        confusion=confusion,
    )


def wilson_limits(right: int, cells: int) -> Limits | None:
    """Wilson's 95 % limits of a share, None for no cells."""
    if not cells:
        return None
    limits = binomtest(right, cells).proportion_ci(CONFIDENCE, method="wilson")
    return float(limits.low), float(limits.high)


def expected_calibration_error(
    true: NDArray[np.integer[Any]], probs: NDArray[np.floating[Any]]
) -> float | None:
    """Mean gap between confidence and accuracy in ``ECE_BINS`` equal bins; None for no cells."""
    return _ece(probs, torch.as_tensor(true).long())


def _check(
    true: NDArray[np.integer[Any]],
    probs: NDArray[np.floating[Any]],
    types: Sequence[str],
    neighbours: Sequence[Sequence[int]],
) -> None:
    cells, size = len(true), len(types)
    if size < 2:
        raise ValueError(f"types are {list(types)}, expected two or more")
    if true.shape != (cells,) or not np.issubdtype(true.dtype, np.integer):
        raise ValueError(f"true must be whole numbers (N,), got {true.dtype} {true.shape}")
    if probs.shape != (cells, size):
        raise ValueError(f"probs must have shape ({cells}, {size}), got {probs.shape}")
    if cells and not 0 <= true.min() <= true.max() < size:
        raise ValueError(f"true is {true.min()} to {true.max()}, expected 0 to {size - 1}")
    if cells and not np.allclose(probs.sum(axis=1), 1, atol=1e-3):
        raise ValueError("the rows of probs do not sum to 1; logits are no probabilities")
    if neighbours and len(neighbours) != size:
        raise ValueError(f"neighbours has {len(neighbours)} entries, expected {size} or none")


def _confusion(labels: torch.Tensor, truth: torch.Tensor, size: int) -> NDArray[np.int64]:
    counted = multiclass_confusion_matrix(labels, truth, size, validate_args=False)
    return np.asarray(counted.numpy(), np.int64)


def _scores(labels: torch.Tensor, truth: torch.Tensor, size: int) -> Scores:
    if not len(truth):
        return Scores(*[None] * len(dataclasses.fields(Scores)))

    def value(metric: Any, average: str) -> float:  # noqa: ANN401 -- a function of torchmetrics
        return float(metric(labels, truth, size, average=average, validate_args=False))

    seen = torch.unique(truth)
    recalls = multiclass_recall(labels, truth, size, average="none", validate_args=False)
    # Both correlate two variables: if one of them never varies there is nothing to correlate.
    varies = len(seen) > 1 and len(torch.unique(labels)) > 1
    agree = len(seen) > 1 or len(torch.unique(torch.cat([labels, truth]))) > 1
    mcc = multiclass_matthews_corrcoef(labels, truth, size, validate_args=False)
    kappa = multiclass_cohen_kappa(labels, truth, size, validate_args=False)
    return Scores(
        accuracy=value(multiclass_accuracy, "micro"),
        balanced_accuracy=float(recalls[seen].mean()),
        macro_precision=value(multiclass_precision, "macro"),
        macro_recall=value(multiclass_recall, "macro"),
        macro_f1=value(multiclass_f1_score, "macro"),
        weighted_precision=value(multiclass_precision, "weighted"),
        weighted_f1=value(multiclass_f1_score, "weighted"),
        mcc=float(mcc) if varies else None,
        kappa=float(kappa) if agree else None,
    )


def _top_2(probs: NDArray[np.floating[Any]], truth: torch.Tensor) -> float | None:
    if not len(truth):
        return None
    given = torch.as_tensor(probs)
    return float(
        multiclass_accuracy(given, truth, probs.shape[1], "micro", top_k=2, validate_args=False)
    )


def _ece(probs: NDArray[np.floating[Any]], truth: torch.Tensor) -> float | None:
    if not len(truth):
        return None
    given = torch.as_tensor(probs)
    return float(
        multiclass_calibration_error(given, truth, probs.shape[1], ECE_BINS, validate_args=False)
    )


def _bootstrap(confusion: NDArray[np.int64], seed: int) -> tuple[Limits | None, Limits | None]:
    """95 % limits of accuracy and macro F1.

    Drawing cells of one true type with replacement is drawing its row of the confusion matrix from
    a multinomial distribution, so no cell need be looked at again.
    """
    support = confusion.sum(axis=1)
    if not support.sum():
        return None, None
    generator = np.random.default_rng(seed)
    drawn = np.stack(
        [
            generator.multinomial(n, row / n, BOOTSTRAP_DRAWS)
            if n
            else np.zeros((BOOTSTRAP_DRAWS, len(row)), np.int64)
            for n, row in zip(support, confusion, strict=True)
        ],
        axis=1,
    )  # (D, K, K)
    right = np.diagonal(drawn, axis1=1, axis2=2)  # (D, K)
    either = drawn.sum(axis=2) + drawn.sum(axis=1)  # (D, K), support + given
    f1 = np.divide(2 * right, either, out=np.zeros(right.shape), where=either > 0)
    macro_f1 = f1.sum(axis=1) / (either > 0).sum(axis=1)
    return _limits(right.sum(axis=1) / support.sum()), _limits(macro_f1)


def _limits(draws: NDArray[np.float64]) -> Limits:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


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
        """Recall weighted by the cells of each type, which equals the accuracy."""
        return self.accuracy


@dataclass(frozen=True, slots=True)
class TypeScores:
    """Scores of one type.

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
        """Share of the cells called this type that are of it."""
        return self.right / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """Share of the cells of this type that were called so."""
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
