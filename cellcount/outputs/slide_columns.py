"""The columns of slides.csv."""

from __future__ import annotations

from cellcount.differential.figures import ASSESSMENTS, KINDS
from cellcount.differential.rollup import LEVELS
from cellcount.outputs.columns import Column

SLIDES_COLUMNS = (
    Column(
        "level",
        "text",
        "",
        "`slide`, `specimen` (named in the manifest) or `run`, which pools people: counts only",
        choices=LEVELS,
    ),
    Column("specimen", "text", "", "specimen: one patient, one draw"),
    Column("slide", "text", "", "slide; empty for specimens and the run"),
    Column(
        "profile", "text", "", "profile with its version, `(forced)` where models do not fit it"
    ),
    Column(
        "kind",
        "text",
        "",
        "`class` (row of the profile), `pool` (rows that the classifier does not tell apart), "
        "`group`, `lineage`, `outside` (never in a percentage), `object` (of the detector), "
        "`measure`, `advice` or `about` (how it was counted)",
        choices=(*KINDS, "advice", "about"),
    ),
    Column("row", "text", "", "which row, group, measure and so on"),
    Column("name", "text", "", "the same in words"),
    Column(
        "assessment",
        "text",
        "",
        "`assessed`; `pooled`: counted only together with others; `not assessed`: the classifier "
        "cannot name it; `withheld`: it would mislead; `not counted`: no field could be analysed",
        choices=(*ASSESSMENTS, ""),
    ),
    Column("n", "int", "", "cells counted; empty, never 0, where they cannot be known"),
    Column("denominator", "int", "", "what `percent` or `value` is stated of"),
    Column(
        "of", "text", "", "what the denominator counts; `assessed cells` where rows are missing"
    ),
    Column("percent", "float", "%", "n of the denominator", ".4f"),
    Column("value", "float", "", "number that is no percentage, in the unit that follows", ".4f"),
    Column("unit", "text", "", "of `percent` or `value`, and of its limits"),
    Column("ci_low", "float", "", "lower limit of `percent` or `value`", ".4f"),
    Column("ci_high", "float", "", "upper limit; empty where there is none", ".4f"),
    Column("method", "text", "", "how the limits were made"),
    Column("confidence", "float", "", "of all limits of this row", ".4g"),
    Column("bootstrap_low", "float", "%", "lower limit when fields are drawn again", ".4f"),
    Column("bootstrap_high", "float", "%", "upper limit when fields are drawn again", ".4f"),
    Column("adjusted_percent", "float", "%", "corrected for the classifier's confusions", ".4f"),
    Column("adjusted_low", "float", "%", "its lower limit; knows the validation's size", ".4f"),
    Column("adjusted_high", "float", "%", "its upper limit", ".4f"),
    Column("absolute_10e9_per_l", "float", "10⁹/L", "share of the white cell count", ".4f"),
    Column("absolute_low", "float", "10⁹/L", "its lower limit", ".4f"),
    Column("absolute_high", "float", "10⁹/L", "its upper limit", ".4f"),
    Column("note", "text", "", "what to know about it; the text of advice"),
)
"""slides.csv, a row per slide or specimen and figure."""
