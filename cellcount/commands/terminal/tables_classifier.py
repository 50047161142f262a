"""The evaluation of a classifier as tables for a person; each fits into 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from cellcount.files.text import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellcount.evaluation.classification import ClassificationReport
    from cellcount.evaluation.classifier_run import ClassifierScores

_NONE = "–"
_WIDEST_MATRIX = 14

_NAMES = {
    "accuracy": "accuracy = weighted recall",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_f1": "weighted F1",
    "mcc": "MCC (Matthews)",
    "kappa": "Cohen's kappa",
    "top_2": "right among the best two",
    "ece": "ECE, calibrated",
}


def show_scores(
    console: Console, scores: ClassifierScores, labels: Sequence[str], least: str
) -> None:
    """Print all scores, those of each type, and the confusions.

    Args:
        console: where to.
        scores: of the unchanged cells.
        labels: short name of each type, as the report orders them.
        least: least probability of an accepted cell, in words.
    """
    console.print(_summary(scores))
    console.print(_review(scores, least))
    console.print()
    console.print(_types(scores.report))
    if len(labels) <= _WIDEST_MATRIX:
        console.print(_confusion(scores.report.confusion, labels))
    else:
        console.print("The confusion matrix is too wide for here; --out FOLDER writes it.")


def show_robustness(console: Console, scores: Mapping[str, ClassifierScores]) -> None:
    """Print the cost of changes of the same cells; the first entry is of the unchanged ones."""
    table = _table(
        "Robustness: the same pictures changed; a resize is not told to the classifier",
        ["pictures", "accuracy", "95 % limits", "change", "macro F1", "MCC", "ECE", "accepted"],
    )
    first = next(iter(scores.values())).report.strict.accuracy
    for name, one in scores.items():
        strict = one.report.strict
        change = None if first is None or strict.accuracy is None else strict.accuracy - first
        table.add_row(
            name,
            _share(strict.accuracy),
            _limits(one.report.accuracy_wilson),
            _NONE if change is None else f"{round(change, 3) + 0.0:+.3f}",
            *map(_share, (strict.macro_f1, strict.mcc, one.report.ece)),
            _NONE if one.accepted_share is None else f"{one.accepted_share:.1%}",
        )
    console.print(table)
    changed = [s.report.strict.accuracy for s in list(scores.values())[1:]]
    values = [v for v in changed if v is not None]
    if values:
        worst = min(list(scores)[1:], key=lambda n: scores[n].report.strict.accuracy or 0.0)
        console.print(
            f"accuracy over the {len(values)} changes: mean {np.mean(values):.3f}, "
            f"worst {min(values):.3f} ({worst})"
        )


def summary_csv_rows(scores: Mapping[str, ClassifierScores]) -> list[dict[str, Any]]:
    """Make one row per variant and metric, with limits."""
    rows: list[dict[str, Any]] = []
    for name, one in scores.items():
        rows += [{"pictures": name, **row} for row in one.report.summary_rows()]
        blank = {"tolerant": None, "ci_low": None, "ci_high": None, "method": ""}
        further = {
            "ece_before_calibration": one.ece_before,
            "accepted_share": one.accepted_share,
            "accepted_accuracy": one.accepted_accuracy,
        }
        rows += [{"pictures": name, "metric": m, "strict": v, **blank} for m, v in further.items()]
    return rows


def _summary(scores: ClassifierScores) -> Table:
    report = scores.report
    table = _table(
        f"Scores, {number_of(report.cells, 'cell')}; tolerant: neighbours in maturation count too",
        ["score", "strict", "tolerant", "95 % limits", "of"],
    )
    for row in report.summary_rows():
        metric = str(row["metric"])
        if metric == "weighted_recall":  # the same number as accuracy, named there
            continue
        limits = (row["ci_low"], row["ci_high"])
        if metric == "ece":
            table.add_row("ECE, not calibrated", _share(scores.ece_before))
        again = metric == "accuracy" and row["method"] == "bootstrap"
        table.add_row(
            "" if again else _NAMES[metric],
            "" if again else _share(row["strict"]),
            "" if row["tolerant"] is None else _share(row["tolerant"]),
            "" if limits[0] is None else _limits(limits),
            str(row["method"]),
        )
    return table


def _review(scores: ClassifierScores, least: str) -> str:
    """Return the share of cells typed rather than sent to review, and of these typed rightly."""
    share, right = scores.accepted_share, scores.accepted_accuracy
    if share is None:
        return "no cells"
    text = (
        f"accepted at a probability of {least} or more: {scores.accepted:,} of "
        f"{number_of(scores.report.cells, 'cell')} ({share:.1%})"
    )
    if right is None:
        return text
    return f"{text}, of these right {right:.1%} ({_limits(scores.accepted_limits)})"


def _types(report: ClassificationReport) -> Table:
    table = _table(
        "Types", ["type", "cells", "called so", "precision", "recall", "F1", "tolerant recall"]
    )
    for one in report.per_type:
        shares = (one.precision, one.recall, one.f1, one.tolerant_recall)
        table.add_row(one.name, f"{one.support:,}", f"{one.given:,}", *map(_share, shares))
    return table


def _confusion(confusion: NDArray[np.int64], labels: Sequence[str]) -> Table:
    table = _table("Confusion: true types in rows", ["", *labels])
    for row, (name, counts) in enumerate(zip(labels, confusion.tolist(), strict=True)):
        cells = [
            f"[bold]{count:,}[/bold]" if column == row else (f"{count:,}" if count else "·")
            for column, count in enumerate(counts)
        ]
        table.add_row(name, *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def _share(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else _NONE


def _limits(limits: object) -> str:
    if not isinstance(limits, tuple) or None in limits:
        return _NONE
    return f"{limits[0]:.3f}–{limits[1]:.3f}"
