"""A method comparison as flat rows for CSV and as JSON; None where nothing could be computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellcount.comparison.agreement import Agreement, Line
from cellcount.comparison.compare import ClassComparison, Comparison, Passed
from cellcount.comparison.repeatability import Repeatability
from cellcount.differential.limits import Limits

Row = dict[str, Any]


def class_rows(comparison: Comparison) -> list[Row]:
    """A row per class with every figure but those at thresholds; percentages in percent."""
    return [_class_row(one) for one in comparison.classes]


def agreement_rows(comparison: Comparison) -> list[Row]:
    """Return a row per class and threshold: units that reach it by each method, and agreement."""
    return [
        {"class": one.id, "threshold_percent": threshold, **_agreement_row(found)}
        for one in comparison.classes
        for threshold, found in one.agreement.items()
    ]


def pair_rows(comparison: Comparison) -> list[Row]:
    """Return a row per class and slide with the percentages of both methods."""
    return [
        {
            comparison.level: unit,
            "class": one.id,
            "reference_percent": float(x),
            "predicted_percent": float(y),
            "difference": float(y - x),
        }
        for one in comparison.classes
        for unit, x, y in zip(one.units, one.reference, one.predicted, strict=True)
    ]


def repeatability_rows(found: Iterable[Repeatability]) -> list[Row]:
    """A row per specimen and class; standard deviations in percentage points."""
    rows = []
    for one in found:
        parts, total = one.components, one.components.total
        rows.append(
            {
                "specimen": one.unit,
                "class": one.id,
                "counts": parts.counts,
                "runs": parts.runs,
                "days": parts.days,
                "mean_percent": parts.mean,
                "within_run_sd": parts.within_run,
                **_limits("within_run_sd", parts.within_limits),
                "between_run_sd": parts.between_run,
                "between_day_sd": parts.between_day,
                "total_sd": None if total is None else total.sd,
                **_limits("total_sd", None if total is None else total.limits),
                "total_cv_percent": coefficient(None if total is None else total.sd, parts.mean),
                "counting_sd": one.counting_sd,
                "notes": "; ".join(parts.notes),
            }
        )
    return rows


def coefficient(sd: float | None, mean: float) -> float | None:
    """Coefficient of variation in percent; None of a mean of 0."""
    return None if sd is None or mean == 0 else 100 * sd / mean


def to_document(comparison: Comparison) -> dict[str, Any]:
    """Everything, JSON-ready, each class with its pairs and its agreement at thresholds."""
    options = comparison.options
    classes = []
    for row, one in zip(class_rows(comparison), comparison.classes, strict=True):
        row["pairs"] = [
            {"name": u, "reference": float(x), "predicted": float(y)}
            for u, x, y in zip(one.units, one.reference, one.predicted, strict=True)
        ]
        row["agreement"] = {f"{t:g}": _agreement_row(a) for t, a in one.agreement.items()}
        row["missing"], row["notes"] = list(one.missing), list(one.notes)
        classes.append(row)
    return {
        "predicted": comparison.predicted.name,
        "reference": comparison.reference.name,
        "level": comparison.level,
        "confidence": 0.95,
        "deming_error_ratio": options.error_ratio,
        "units": list(comparison.units),
        "only_predicted": list(comparison.only_predicted),
        "only_reference": list(comparison.only_reference),
        "classes_only_predicted": list(comparison.classes_only_predicted),
        "classes_only_reference": list(comparison.classes_only_reference),
        "notes": list(comparison.notes),
        "classes": classes,
    }


def repeatability_document(found: Sequence[Repeatability]) -> list[dict[str, Any]]:
    """Variance components, JSON-ready."""
    return [dataclasses.asdict(one) for one in found]


def _class_row(one: ClassComparison) -> Row:
    ba = one.bland_altman
    return {
        "class": one.id,
        "name": one.name,
        "reference_class": one.reference_id,
        "n": len(one.units),
        "mean_reference": float(one.reference.mean()) if len(one.units) else None,
        "mean_predicted": float(one.predicted.mean()) if len(one.units) else None,
        "bias": None if ba is None else ba.bias,
        **_limits("bias", None if ba is None else ba.bias_limits),
        "sd_of_differences": None if ba is None else ba.sd,
        "agreement_low": None if ba is None else ba.low,
        **_limits("agreement_low", None if ba is None else ba.low_limits),
        "agreement_high": None if ba is None else ba.high,
        **_limits("agreement_high", None if ba is None else ba.high_limits),
        **_line("deming", one.deming),
        **_line("passing_bablok", one.passing_bablok),
        "pearson_r": one.pearson_r,
        "rmse": one.rmse,
        "icc_2_1": one.icc,
        **_passed("rumke", one.rumke),
        **_passed("two_sample", one.two_sample),
        "notes": "; ".join(one.notes),
    }


def _limits(name: str, limits: Limits | None) -> Row:
    return {
        f"{name}_ci_low": None if limits is None else limits.low,
        f"{name}_ci_high": None if limits is None else limits.high,
    }


def _line(name: str, line: Line | None) -> Row:
    slope, intercept = f"{name}_slope", f"{name}_intercept"
    return {
        slope: None if line is None else line.slope,
        **_limits(slope, None if line is None else line.slope_limits),
        intercept: None if line is None else line.intercept,
        **_limits(intercept, None if line is None else line.intercept_limits),
    }


def _passed(name: str, passed: Passed) -> Row:
    return {
        f"{name}_passed": passed.passed,
        f"{name}_judged": passed.judged,
        f"{name}_rate": passed.rate,
        **_limits(f"{name}_rate", passed.limits),
    }


def _agreement_row(found: Agreement) -> Row:
    row: Row = {
        "both": found.both,
        "only_reference": found.only_x,
        "only_predicted": found.only_y,
        "neither": found.neither,
        "kappa": found.kappa,
    }
    shares: Mapping[str, tuple[float, Limits] | None] = {
        "overall": found.overall,
        "positive": found.positive,
        "negative": found.negative,
    }
    for name, share in shares.items():
        row[name] = None if share is None else share[0]
        row |= _limits(name, None if share is None else share[1])
    return row
