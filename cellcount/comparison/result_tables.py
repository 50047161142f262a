"""A method comparison as tables of texts, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cellcount.comparison.agreement import Agreement, BlandAltman, Line
from cellcount.comparison.compare import ClassComparison, Comparison, Passed
from cellcount.comparison.repeatability import Repeatability
from cellcount.comparison.result_rows import coefficient
from cellcount.differential.limits import Limits
from cellcount.files.text import number_of

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class TableCell:
    """A figure and, below it, its limits."""

    text: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table as it is shown; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]


def overview(comparison: Comparison, classes: Sequence[ClassComparison]) -> list[TextTable]:
    """Bias, lines and rules of some classes, those that reach a threshold also at thresholds."""
    tables = [
        _bias(classes, comparison.level),
        _lines(classes, comparison.options.error_ratio),
        _rules(classes),
    ]
    thresholds = _thresholds(classes)
    return [*tables, thresholds] if thresholds.rows else tables


def repeatability_table(found: Iterable[Repeatability]) -> TextTable:
    """Tabulate the components of the spread of repeated counts."""
    rows = []
    for one in found:
        parts, total = one.components, one.components.total
        share = coefficient(None if total is None else total.sd, parts.mean)
        rows.append(
            (
                TableCell(one.name, one.unit),
                TableCell(
                    f"{parts.counts}",
                    f"{number_of(parts.runs, 'run')}, {number_of(parts.days, 'day')}",
                ),
                TableCell(_number(parts.mean, 1)),
                TableCell(_number(parts.within_run), _limits(parts.within_limits)),
                TableCell(_number(parts.between_run)),
                TableCell(_number(parts.between_day)),
                TableCell(
                    _number(None if total is None else total.sd),
                    _limits(None if total is None else total.limits),
                ),
                TableCell(_number(share, 1)),
                TableCell(_number(one.counting_sd)),
            )
        )
    return TextTable(
        "Standard deviations of repeated counts, in percentage points, with 95 % limits",
        (
            *("class", "counts", "mean %", "within run", "between runs", "between days"),
            *("total", "CV %", "counting alone"),
        ),
        tuple(rows),
    )


def _bias(classes: Sequence[ClassComparison], level: str) -> TextTable:
    rows = []
    for one in classes:
        ba = one.bland_altman
        means = [_number(float(v.mean()), 1) if len(v) else NOTHING
                 for v in (one.reference, one.predicted)]  # fmt: skip
        rows.append(
            (
                TableCell(one.name),
                TableCell(f"{len(one.units)}"),
                *map(TableCell, means),
                _bias_cell(ba),
                TableCell(NOTHING if ba is None else f"{ba.low:+.1f} to {ba.high:+.1f}"),
                TableCell(_number(one.rmse, 1)),
                TableCell(_number(one.pearson_r, 3)),
                TableCell(_number(one.icc, 3)),
            )
        )
    return TextTable(
        "Bias and limits of agreement (Bland–Altman) in percentage points, predicted - reference",
        (
            *("class", f"{level}s", "reference %", "predicted %", "bias"),
            *("limits of agreement", "RMSE", "r", "ICC (2,1)"),
        ),
        tuple(rows),
    )


def _bias_cell(found: BlandAltman | None) -> TableCell:
    if found is None:
        return TableCell(NOTHING)
    text = f"{round(found.bias, 1) + 0.0:+.1f}"  # never -0.0
    return TableCell(text, _limits(found.bias_limits, 1, sign=True))


def _lines(classes: Sequence[ClassComparison], error_ratio: float) -> TextTable:
    rows = [
        (TableCell(one.name), *_line_cells(one.passing_bablok), *_line_cells(one.deming))
        for one in classes
    ]
    return TextTable(
        f"Lines: predicted = intercept + slope × reference, with 95 % limits; Deming with "
        f"λ = {error_ratio:g}",
        ("class", "Passing–Bablok slope", "intercept", "Deming slope", "intercept"),
        tuple(rows),
    )


def _line_cells(line: Line | None) -> tuple[TableCell, TableCell]:
    if line is None:
        return TableCell(NOTHING), TableCell(NOTHING)
    return (
        TableCell(f"{line.slope:.3f}", _limits(line.slope_limits, 3)),
        TableCell(f"{line.intercept:+.2f}", _limits(line.intercept_limits, 2, sign=True)),
    )


def _rules(classes: Sequence[ClassComparison]) -> TextTable:
    return TextTable(
        "Within the counting error: Rümke's rule, and the interval that knows both numbers of "
        "cells",
        ("class", "Rümke", "pass rate", "two-sample", "pass rate"),
        tuple(
            (TableCell(one.name), *_passed_cells(one.rumke), *_passed_cells(one.two_sample))
            for one in classes
        ),
    )


def _passed_cells(passed: Passed) -> tuple[TableCell, TableCell]:
    if passed.rate is None:
        return TableCell(NOTHING), TableCell(NOTHING)
    rate = TableCell(f"{passed.rate:.0%}", _percents(passed.limits))
    return TableCell(f"{passed.passed} of {passed.judged}"), rate


def _thresholds(classes: Sequence[ClassComparison]) -> TextTable:
    rows = [
        (TableCell(one.name), TableCell(f"{threshold:g} %"), *_agreement_cells(found))
        for one in classes
        for threshold, found in one.agreement.items()
        if found.only_x + found.only_y or (found.both and found.neither)
    ]
    return TextTable(
        "Thresholds that part the specimens: who reaches them, agreement with 95 % limits",
        (
            *("class", "from", "both", "reference only", "predicted only"),
            *("overall", "positive", "negative", "kappa"),
        ),
        tuple(rows),
    )


def _agreement_cells(found: Agreement) -> tuple[TableCell, ...]:
    return (
        *(TableCell(f"{n}") for n in (found.both, found.only_x, found.only_y)),
        *(_share(share) for share in (found.overall, found.positive, found.negative)),
        TableCell(_number(found.kappa)),
    )


def _share(share: tuple[float, Limits] | None) -> TableCell:
    return (
        TableCell(NOTHING) if share is None else TableCell(f"{share[0]:.0%}", _percents(share[1]))
    )


def _number(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _limits(limits: Limits | None, digits: int = 2, *, sign: bool = False) -> str:
    if limits is None or limits.high is None:
        return ""
    plus = "+" if sign else ""
    return f"{limits.low:{plus}.{digits}f} to {limits.high:{plus}.{digits}f}"


def _percents(limits: Limits | None) -> str:
    if limits is None or limits.high is None:
        return ""
    return f"{100 * limits.low:.0f}–{100 * limits.high:.0f} %"
