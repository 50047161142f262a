"""The quality panel of the report: how good the fields of a run are, a line per measure.

Shapes: F fields of which a measure is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellcount.outputs.columns import QUALITY_COLUMNS, Column

_BINS, _WIDTH_PX, _HEIGHT_PX = 25, 150.0, 24.0
_EXCLUDE = "exclude_"


def quality_panel(
    measures: Mapping[str, Sequence[float]], thresholds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Lowest, median and highest of each measure, its histogram, and what the profile asks.

    Args:
        measures: column of counts.csv → its values, F of them.
        thresholds: of the profile: ``focus_min``, ``exclude_focus_min`` and so on.
    """
    rows = []
    for column in QUALITY_COLUMNS:
        values = np.asarray(measures.get(column.name, ()), np.float64)  # (F,)
        if not len(values):
            continue
        low, middle, high = np.quantile(values, (0, 0.5, 1)).tolist()
        rows.append(
            {
                "name": column.name,
                "meaning": column.meaning,
                "fields": len(values),
                "numbers": [format(number, column.form) for number in (low, middle, high)],
                "bars": _histogram(values, low, high),
                "asked": _asked(column, thresholds),
            }
        )
    return rows


def _histogram(values: np.ndarray[Any, Any], low: float, high: float) -> list[list[float]]:
    """Left side, top, width and height of each bar, in pixels of the drawing."""
    counts, _ = np.histogram(values, _BINS, range=(low, high) if high > low else (low, low + 1))
    width = _WIDTH_PX / _BINS
    heights = _HEIGHT_PX * counts / counts.max()
    return [
        [round(i * width, 1), round(_HEIGHT_PX - h, 1), round(width - 1, 1), round(h, 1)]
        for i, h in enumerate(heights.tolist())
        if h
    ]


def _asked(column: Column, thresholds: Mapping[str, float]) -> str:
    """The profile's thresholds of one measure, in words."""
    said = []
    for prefix, does in (("", "caution"), (_EXCLUDE, "excluded")):
        for side, where in (("min", "below"), ("max", "above")):
            number = thresholds.get(f"{prefix}{column.name}_{side}")
            if number is not None:
                said.append(f"{does} {where} {number:g}")
    return ", ".join(said)
