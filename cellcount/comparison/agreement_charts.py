"""Pictures of a method comparison: differences (Bland–Altman) and the line (Passing–Bablok).

Shapes: N slides or specimens; x from the reference, y from the method under test, float (N,), in
percent.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellcount.outputs.charts import plain_text, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = NDArray[np.float64]

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#6b6b70"
_SIZE = (5.6, 4.4)


@dataclass(frozen=True, slots=True)
class Band:
    """A horizontal line with its 95 % limits, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class FittedLine:
    """``y = intercept + slope x``, with the limits of the slope."""

    slope: float
    intercept: float
    limits: tuple[float, float] | None = None


def bland_altman_figure(x: Values, y: Values, *, title: str, bands: Sequence[Band] = ()) -> Figure:
    """Differences against means, with bias and limits of agreement.

    Args:
        x, y: the methods.
        title: above the chart.
        bands: bias, lower and upper limit of agreement; none with too few points for them.
    """
    figure, axes = _axes(title)
    middle, difference = (x + y) / 2, y - x
    for band, colour, name in zip(bands, (_ORANGE, _BLUE, _BLUE), _NAMES, strict=False):
        axes.axhline(band.value, color=colour, linewidth=1.4, linestyle="-" if name else "--")
        if band.low is not None and band.high is not None:
            axes.axhspan(band.low, band.high, color=colour, alpha=0.12, linewidth=0)
        axes.annotate(
            f"{name or 'limit'} {band.value:+.1f}",
            (1.0, band.value),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
        )
    axes.axhline(0, color=_GREY, linewidth=0.8)
    _points(axes, middle, difference)
    axes.set(xlabel="mean of both methods (%)", ylabel="predicted - reference (points)")
    _widen(axes, np.array([0.0, *difference]), middle)
    return figure


_NAMES = ("bias", "", "")


def line_figure(
    x: Values, y: Values, *, title: str, line: FittedLine | None, method: str
) -> Figure:
    """Both methods against each other, with the fitted line, its limits and the line y = x.

    Args:
        x, y: the methods.
        title: above the chart.
        line: the fitted one; None where there is none.
        method: its name for the legend.
    """
    figure, axes = _axes(title)
    first, last = _range(np.concatenate([x, y]))
    ends = np.array([first, last])
    axes.plot(ends, ends, color=_GREY, linewidth=1, linestyle=":", label="y = x")
    if line is not None:
        grid = np.linspace(first, last, 60)
        if line.limits is not None:
            low, high = _fan(grid, x, y, line.limits)
            axes.fill_between(grid, low, high, color=_ORANGE, alpha=0.14, linewidth=0)
        label = f"{method}: y = {line.intercept:.2f} {_signed(line.slope)} x"
        axes.plot(ends, line.intercept + line.slope * ends, color=_ORANGE, label=label)
    _points(axes, x, y)
    axes.set(xlabel="reference (%)", ylabel="predicted (%)", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def _range(values: Values) -> tuple[float, float]:
    """Return the range of both axes: from 0 where that leaves the points enough room."""
    low, high = float(values.min(initial=100.0)), float(values.max(initial=1.0))
    room = 0.08 * max(high - low, 1.0)
    first = 0.0 if low < 0.5 * high else low - room
    return first, high + room


def _fan(grid: Values, x: Values, y: Values, limits: tuple[float, float]) -> tuple[Values, Values]:
    """Return the band between the lines of both limits of the slope, each with its intercept."""
    lines = np.stack([slope * grid + np.median(y - slope * x) for slope in limits])
    return lines.min(axis=0), lines.max(axis=0)


def draw_png(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file.

    Raises:
        OutputError: it cannot be written.
    """
    save_png(figure, path)


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes every time, its text as outlines."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "cellcount"}):
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _axes(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(plain_text(title), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _points(axes: Axes, x: Values, y: Values) -> None:
    """Draw slides as rings, so that slides at the same place stay visible."""
    axes.scatter(x, y, s=26, facecolors=f"{_GREEN}55", edgecolors=_GREEN, linewidths=1, zorder=3)


def _widen(axes: Axes, heights: Values, widths: Values) -> None:
    """Widen the axes where all points lie on one line, since the chart would have no scale."""
    if np.ptp(heights) < 1:
        axes.set_ylim(min(axes.get_ylim()[0], -1), max(axes.get_ylim()[1], 1))
    if len(widths) and np.ptp(widths) < 1e-9:
        axes.set_xlim(float(widths[0]) - 1, float(widths[0]) + 1)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'} {abs(value):.2f}"
