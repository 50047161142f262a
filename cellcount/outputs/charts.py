"""Charts of single-cell data and classifiers as PNG: cells per type, and confusions.

Shapes: K types; a confusion matrix has the true type in its rows and the label given in its
columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellcount.files.atomic import atomic_write
from cellcount.images.marks import PICTURE_TEXT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 130
# Okabe and Ito's blue, orange, bluish green, reddish purple and grey: told apart in any eye.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#999999")
_SPLITS = {"train": 0, "val": 1, "test": 2}
_DARK = 0.55  # share from which white figures are easier to read than black ones


def draw_counts(
    path: Path, counts: Mapping[str, Mapping[str, int]], *, unit: str, title: str = ""
) -> None:
    """Writes ``counts_figure`` as a PNG file."""
    save_png(counts_figure(counts, unit=unit, title=title), path)


def draw_confusion(
    path: Path, types: Sequence[str], confusion: NDArray[np.int64], title: str = ""
) -> None:
    """Writes ``confusion_figure`` as a PNG file."""
    save_png(confusion_figure(types, confusion, title), path)


def counts_figure(counts: Mapping[str, Mapping[str, int]], *, unit: str, title: str = "") -> Figure:
    """Bars of the number of cells per class, in one colour per split.

    Args:
        counts: class → split → number; a class may lack a split.
        unit: what is counted, for example ``cells``.
        title: above the chart.
    """
    from matplotlib.figure import Figure

    classes = [plain_text(name) for name in counts]
    named = {split for by_split in counts.values() for split in by_split}
    splits = sorted(named, key=lambda split: (_SPLITS.get(split, len(_SPLITS)), split))
    figure = Figure(figsize=(8, 1.4 + 0.34 * max(len(classes), 3)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(classes))
    rows = np.arange(len(classes))
    for number, split in enumerate(splits):
        values = np.array([by_split.get(split, 0) for by_split in counts.values()], float)
        colour = _COLOURS[number % len(_COLOURS)]
        label = plain_text(split) or "no split"
        axes.barh(rows, values, left=left, color=colour, label=label, height=0.72)
        left += values
    axes.set_yticks(rows, classes)
    for row, total in enumerate(left):
        axes.annotate(
            f"{total:,.0f}", (float(total), row), (4, 0), textcoords="offset points", va="center"
        )
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set(xlabel=unit, title=plain_text(title))
    axes.spines[["top", "right"]].set_visible(False)
    if len(splits) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def confusion_figure(types: Sequence[str], confusion: NDArray[np.int64], title: str = "") -> Figure:
    """The confusion matrix, coloured by the share of each true type, with the cells in figures.

    Args:
        types: K names in the order of rows and columns.
        confusion: ``(K, K)``, row true type, column label given.
        title: above the chart.
    """
    from matplotlib.figure import Figure

    size, names = len(types), [plain_text(name) for name in types]
    if confusion.shape != (size, size):
        raise ValueError(f"confusion must have shape ({size}, {size}), got {confusion.shape}")
    support = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    longest = max(map(len, names), default=0)
    inches = 2.2 + 0.075 * longest + max(0.58 * size, 2.0)
    figure = Figure(figsize=(inches + 0.6, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            if confusion[row, column]:
                colour = "white" if shares[row, column] > _DARK else "black"
                axes.text(
                    column,
                    row,
                    f"{confusion[row, column]:,}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=_figure_size(int(confusion.max())),
                )
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(size), [f"{name} ({n:,})" for name, n in zip(names, support[:, 0], strict=True)]
    )
    axes.set(xlabel="label given", ylabel="true type (cells)", title=plain_text(title))
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true type")
    return figure


def plain_text(text: str) -> str:
    """Escape dollar signs, which would start a formula in a chart."""
    return text.replace("$", r"\$")


def _figure_size(largest: int) -> float:
    """Font size at which the largest number still fits into its square."""
    digits = int(math.log10(max(largest, 1))) + 1
    return 10.0 if digits <= 4 else 8.0


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file."""
    with atomic_write(path) as file:
        figure.savefig(file, dpi=_DPI, format="png", bbox_inches="tight", metadata=PICTURE_TEXT)
