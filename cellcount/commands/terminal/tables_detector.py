"""An evaluation as tables for a person; each fits into 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from cellcount.files.text import number_of

if TYPE_CHECKING:
    from cellcount.evaluation.detection import DetectionReport

_NONE = "–"


def show_report(console: Console, report: DetectionReport, names: Mapping[str, str]) -> None:
    """COCO's figures, then detection and counting per class.

    Args:
        console: where to.
        report: the evaluation.
        names: class id → name to show; "all" for all classes together.
    """
    console.print(_coco(report))
    console.print(_detection(report, names))
    console.print(_counting(report, names))


def show_variants(
    console: Console, reports: Mapping[str, DetectionReport], names: Mapping[str, str]
) -> None:
    """Print the cost of changes of the same images; the first report is of the unchanged ones."""
    first = next(iter(reports.values()))
    shown = [scores.name for scores in first.classes]
    table = _table(
        "Robustness: the same images changed; error of the counts per class",
        ["images", "AP", "AP50", "change", *(names.get(name, name) for name in shown)],
    )
    for variant, report in reports.items():
        ap50, reference = report.crowded.ap50, first.crowded.ap50
        change = None if ap50 is None or reference is None else ap50 - reference
        errors = [scores.counting.relative_error for scores in report.classes]
        table.add_row(
            variant,
            _share(report.crowded.ap),
            _share(ap50),
            _NONE if change is None else f"{round(change, 3) + 0.0:+.3f}",
            *map(_percent, errors),
        )
    console.print(table)


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def _coco(report: DetectionReport) -> Table:
    """One row per figure; AR with 1 and 10 detections is defined for published ones alone."""
    limits = [report.published.max_detections, report.crowded.max_detections]
    title = f"COCO figures, {number_of(report.images, 'image')}, by most detections"
    table = _table(title, ["figure", "IoU", "cells", *(f"{limit:,}" for limit in limits)], left=3)
    values: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in report.coco_rows():
        metric, limit = str(row["metric"]), row["max_detections"]
        assert isinstance(limit, int), "COCO's limits are whole numbers"
        if limit not in limits:
            metric, limit = f"{metric} of {limit} best", limits[0]
        key = (metric, str(row["iou"]), str(row["area"]))
        values.setdefault(key, {})[limit] = _share(row["value"])
    for key, by_limit in values.items():
        table.add_row(*key, *(by_limit.get(limit, "") for limit in limits))
    return table


def _detection(report: DetectionReport, names: Mapping[str, str]) -> Table:
    table = _table(
        "Detection; precision and recall at the working threshold, IoU 0.5",
        ["class", "AP", "AP50", "threshold", "precision", "recall", "F1"],
    )
    for row in report.rows():
        values = [row[k] for k in ("ap", "ap50", "threshold", "precision", "recall", "f1")]
        table.add_row(names.get(str(row["class"]), str(row["class"])), *map(_share, values))
    return table


def _counting(report: DetectionReport, names: Mapping[str, str]) -> Table:
    table = _table(
        "Counting at the working threshold; errors per image",
        ["class", "true", "counted", "error", "MAE", "bias", "r"],
    )
    for scores in (*report.classes, report.all):
        counting = scores.counting
        table.add_row(
            names.get(scores.name, scores.name),
            f"{counting.true:,}",
            f"{counting.counted:,}",
            _percent(counting.relative_error),
            _NONE if counting.mae is None else f"{counting.mae:.2f}",
            _NONE if counting.bias is None else f"{counting.bias:+.2f}",
            _share(counting.r),
        )
    return table


def _share(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else _NONE


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{value:+.1%}"
