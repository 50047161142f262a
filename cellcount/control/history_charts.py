"""The history of a control slide: a Levey-Jennings chart per value, and one HTML page.

Points are runs; lines are the mean of the runs that a later one is compared with and 1, 2 and 3
standard deviations around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount import __version__
from cellcount.comparison.agreement_charts import svg
from cellcount.files.html import data_url, write_page
from cellcount.outputs.charts import plain_text, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#0072b2", "#d55e00", "#6b6b70"
_SHADES = ((3, "#f3d9c9"), (2, "#f7efd2"), (1, "#dcefe6"))
_MOST_TICKS = 12


@dataclass(frozen=True, slots=True)
class Series:
    """One value over the runs.

    Attributes:
        name: in words, with its unit.
        values: of each run, None where it had none.
        mean, sd: of the runs that the next one is compared with; None with too few.
        limit: least value that passes, or None.
    """

    name: str
    values: tuple[float | None, ...]
    mean: float | None = None
    sd: float | None = None
    limit: float | None = None


def levey_jennings_figure(
    series: Sequence[Series], labels: Sequence[str], passed: Sequence[bool], title: str
) -> Figure:
    """A panel per value, one above the other.

    Args:
        series: the values, each of as many runs as there are labels.
        labels: of the runs, such as their day.
        passed: whether each run passed; those that did not are drawn as crosses.
        title: above the chart.
    """
    from matplotlib.figure import Figure

    rows = max(1, len(series))
    figure = Figure(figsize=(9, 1.0 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axes, one in zip(panels, series, strict=False):
        _draw_series(axes, one, passed)
    step = max(1, -(-len(labels) // _MOST_TICKS))
    places = range(0, len(labels), step)
    panels[-1].set_xticks(
        [p + 1 for p in places], [plain_text(labels[p]) for p in places], rotation=30, ha="right"
    )
    panels[-1].set_xlim(0.4, max(len(labels), 1) + 0.6)
    figure.suptitle(plain_text(title), fontsize=11)
    return figure


def _draw_series(axes: Axes, one: Series, passed: Sequence[bool]) -> None:
    if one.mean is not None and one.sd is not None:
        for times, colour in _SHADES:
            low, high = one.mean - times * one.sd, one.mean + times * one.sd
            axes.axhspan(low, high, color=colour, linewidth=0)
            for level, sign in ((low, "-"), (high, "+")):
                axes.annotate(
                    f"{sign}{times} SD", (1.0, level), (4, 0), va="center", fontsize=7,
                    color=_GREY, xycoords=("axes fraction", "data"), textcoords="offset points",
                )  # fmt: skip
        axes.axhline(one.mean, color=_GREY, linewidth=0.9)
    if one.limit is not None:
        axes.axhline(one.limit, color=_RED, linewidth=1, linestyle="--", label="least to pass")
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    known = [(run, v) for run, v in enumerate(one.values, 1) if v is not None]
    axes.plot([run for run, _ in known], [v for _, v in known], color=_BLUE, linewidth=0.8)
    for good, marker, colour in ((True, "o", _BLUE), (False, "X", _RED)):
        chosen = [(run, v) for run, v in known if passed[run - 1] is good]
        axes.scatter(
            [run for run, _ in chosen], [v for _, v in chosen], s=30 if good else 60,
            marker=marker, color=colour, zorder=3,
        )  # fmt: skip
    axes.set_ylabel(plain_text(one.name), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_ylim()
    if high - low < 1:
        axes.set_ylim(low - 1, high + 1)


def write_history_picture(path: Path, figure: Figure) -> None:
    """Write the chart as PNG.

    Raises:
        OutputError: it cannot be written.
    """
    save_png(figure, path)


def write_history_page(path: Path, figure: Figure, told: dict[str, Any]) -> None:
    """Write chart and runs as one HTML page that loads nothing.

    Args:
        path: the page.
        figure: as `levey_jennings_figure` gives it.
        told: ``title``, ``verdict``, ``sound``, ``about``, ``heads`` and ``rows`` of the template.

    Raises:
        OutputError: it cannot be written.
    """
    address = data_url(svg(figure), "image/svg+xml")
    write_page(path, "control.html", {"version": __version__, "chart": address, **told})
