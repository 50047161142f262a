"""A method comparison, or the repeatability of counts, as one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount import __version__
from cellcount.comparison.agreement import BlandAltman, Line
from cellcount.comparison.agreement_charts import (
    Band,
    FittedLine,
    bland_altman_figure,
    line_figure,
    svg,
)
from cellcount.comparison.compare import ClassComparison, Comparison
from cellcount.comparison.count_tables import CountTable
from cellcount.comparison.repeatability import Repeatability
from cellcount.comparison.result_tables import overview, repeatability_table
from cellcount.files.html import data_url, write_page
from cellcount.files.text import listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = "comparison.html"
_LISTED = 12

_READING = (
    ("Bias", "mean of predicted - reference, in percentage points, with its 95 % limits (t)"),
    (
        "Limits of agreement",
        "bias ± 1.96 standard deviations of the differences: where 95 of 100 differences lie "
        "(Bland and Altman 1999); shaded: their own 95 % limits",
    ),
    (
        "Passing–Bablok",
        "median of the slopes between all pairs, not moved by outliers (1983); a slope whose "
        "limits leave out 1 is a proportional difference, an intercept whose limits leave out 0 a "
        "constant one",
    ),
    (
        "Deming",
        "least squares with errors in both methods (Linnet 1993), limits by the jackknife; λ is "
        "the variance of the reference's errors over that of the predicted counts' errors",
    ),
    ("ICC(2,1)", "absolute agreement of single counts (Shrout and Fleiss 1979)"),
    (
        "Rümke",
        "the predicted percentage lies within the 95 % binomial limits (Clopper–Pearson) of the "
        "reference's own count; the reference's cells alone are taken as uncertain, so of two "
        "equally good counts of the same size clearly fewer than 95 of 100 pass",
    ),
    (
        "Two-sample",
        "the 95 % limits of the difference, from both numbers of cells (Newcombe 1998, method "
        "10), include 0; of two counts of the same blood about 95 of 100 pass",
    ),
    (
        "Positive, negative",
        "share of the specimens at or above the threshold by the reference (below it) that the "
        "predicted counts put there too; kappa is Cohen's; limits are Wilson's",
    ),
)
_READING_REPEATS = (
    (
        "Within run, between runs, between days",
        "standard deviations of the parts of a nested analysis of variance (CLSI EP05); a "
        "negative variance is 0; limits of the part within run by chi-squared",
    ),
    ("Total", "of a single count on any day; limits by Satterthwaite"),
    (
        "Counting alone",
        "what drawing so many cells from a smear without any other error would give (binomial); "
        "no counter can be better on the same number of cells",
    ),
)


def write_comparison_page(path: Path, comparison: Comparison) -> None:
    """Write the page of a method comparison.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    level = comparison.level
    write_page(
        path,
        _TEMPLATE,
        {
            "version": __version__,
            "title": "Method comparison",
            "lead": f"{comparison.predicted.name} compared with {comparison.reference.name}",
            "about": _about(comparison),
            "notes": comparison.notes,
            "tables": overview(comparison, comparison.classes),
            "sections": [_section(comparison, one) for one in comparison.classes],
            "reading": [("Compared", f"percentages of each {level}"), *_READING],
        },
    )


def write_repeatability_page(path: Path, table: CountTable, found: Sequence[Repeatability]) -> None:
    """Write the page of repeated counts.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    notes = dict.fromkeys(note for one in found for note in one.components.notes)
    write_page(
        path,
        _TEMPLATE,
        {
            "version": __version__,
            "title": "Repeatability",
            "lead": f"Repeated counts in {table.path.name}",
            "about": [
                ("Table", table.path.name),
                ("Specimens", listed(list(dict.fromkeys(one.unit for one in found)), _LISTED)),
            ],
            "notes": [*table.notes, *notes],
            "tables": [repeatability_table(found)],
            "sections": [],
            "reading": _READING_REPEATS,
        },
    )


def pictures(one: ClassComparison) -> dict[str, tuple[Figure, str]]:
    """Figures of a class with their content in words, by name; none for a class without counts."""
    if not len(one.units):
        return {}
    title = one.name[:1].upper() + one.name[1:]
    return {
        "bland_altman": (
            bland_altman_figure(
                one.reference,
                one.predicted,
                title=f"{title}: differences",
                bands=_bands(one.bland_altman),
            ),
            _bland_altman_words(one),
        ),
        "passing_bablok": (
            line_figure(
                one.reference,
                one.predicted,
                title=f"{title}: both methods",
                line=_fitted(one.passing_bablok),
                method="Passing–Bablok",
            ),
            _line_words(one),
        ),
    }


def file_stem(name: str, taken: Iterable[str] = ()) -> str:
    """A class's name as part of a file name, unlike those that are taken."""
    stem = "_".join(re.findall(r"\w+", name.lower()))[:60] or "class"
    used, number, unique = set(taken), 1, stem
    while unique in used:
        number += 1
        unique = f"{stem}_{number}"
    return unique


def _about(comparison: Comparison) -> list[tuple[str, str]]:
    level, options = comparison.level, comparison.options
    rows = [
        ("Under test (predicted)", comparison.predicted.name),
        ("Reference", comparison.reference.name),
        (f"{level.title()}s in both", f"{len(comparison.units)}"),
        ("Deming's λ", f"{options.error_ratio:g}"),
    ]
    rest = (
        (f"{level.title()}s only in the table under test", comparison.only_predicted),
        (f"{level.title()}s only in the reference", comparison.only_reference),
        ("Classes only in the table under test", comparison.classes_only_predicted),
        ("Classes only in the reference", comparison.classes_only_reference),
    )
    return rows + [(name, listed(list(names), _LISTED)) for name, names in rest if names]


def _section(comparison: Comparison, one: ClassComparison) -> dict[str, Any]:
    missing = f"not assessed by both methods: {listed(one.missing, _LISTED)}" if one.missing else ""
    number = comparison.classes.index(one)
    return {
        "title": one.name,
        "anchor": f"class-{number}-{file_stem(one.id)}",
        "notes": [*one.notes, *([missing] if missing else [])],
        "pictures": [
            {
                "address": data_url(svg(figure), "image/svg+xml"),
                "words": words,
                "caption": _CAPTIONS[name],
            }
            for name, (figure, words) in pictures(one).items()
        ],
        "tables": [],
    }


_CAPTIONS = {
    "bland_altman": "Differences against means: bias, limits of agreement and, shaded, their 95 % "
    "limits.",
    "passing_bablok": "Both methods: Passing–Bablok line, shaded what the limits of its slope "
    "enclose, and y = x.",
}


def _bands(found: BlandAltman | None) -> list[Band]:
    if found is None:
        return []
    return [
        Band(found.bias, found.bias_limits.low, found.bias_limits.high),
        Band(found.low, found.low_limits.low, found.low_limits.high),
        Band(found.high, found.high_limits.low, found.high_limits.high),
    ]


def _fitted(line: Line | None) -> FittedLine | None:
    if line is None:
        return None
    slope = line.slope_limits
    limits = None if slope is None or slope.high is None else (slope.low, slope.high)
    return FittedLine(line.slope, line.intercept, limits)


def _bland_altman_words(one: ClassComparison) -> str:
    about = f"Bland–Altman chart of {one.name}, {len(one.units)} points"
    found = one.bland_altman
    if found is None:
        return f"{about}; too few for limits"
    return f"{about}; bias {found.bias:+.1f}, limits {found.low:+.1f} to {found.high:+.1f} points"


def _line_words(one: ClassComparison) -> str:
    about = f"Predicted against reference percentages of {one.name}, {len(one.units)} points"
    line = one.passing_bablok
    if line is None:
        return f"{about}; no line"
    return f"{about}; slope {line.slope:.3f}, intercept {line.intercept:+.2f}"
