"""The log of a training: metrics.csv, one row per epoch, and its curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellcount.images.marks import PICTURE_TEXT

#: Columns of metrics.csv that are drawn as scores, and what a person calls them.
_SCORES = {
    "ap": "COCO AP, validation",
    "ap50": "AP50, validation",
    "accuracy_train": "accuracy, training",
    "accuracy": "accuracy, held-out cells",
    "accuracy_augmented": "accuracy, held-out cells augmented",
}

_LOSSES = {"cross_entropy": "cross-entropy, training", "held_out": "cross-entropy, held-out cells"}


def write_metrics(path: Path, rows: Sequence[Mapping[str, str | float | int | None]]) -> None:
    """Writes all rows anew (atomically), so that a resumed run leaves one clean table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if v is None else v for k, v in row.items()})
    part.replace(path)


def draw_curves(
    path: Path, rows: Sequence[Mapping[str, float | int | None]], note_on_losses: str = ""
) -> None:
    """Losses and scores over epochs as a PNG.

    Args:
        path: of the picture.
        rows: one per epoch.
        note_on_losses: what a reader of their curves must know, "" for nothing.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for key in dict.fromkeys(k for row in rows for k in row if k.startswith("loss")):
        points = [(r["epoch"], r[key]) for r in rows if r.get(key) is not None]
        name = key.removeprefix("loss_")
        label = _LOSSES.get(name, name.replace("_", " "))
        losses.plot(*zip(*points, strict=True), ".-", label=label, linewidth=1.4, markersize=4)
    for key, label in _SCORES.items():
        points = [(r["epoch"], r[key]) for r in rows if r.get(key) is not None]
        if points:
            scores.plot(*zip(*points, strict=True), "o-", label=label, markersize=3)
    losses.set(xlabel="epoch", ylabel="loss", title="Loss")
    if note_on_losses:
        losses.set_title(f"Loss\n{note_on_losses}", fontsize=8)
    scores.set(xlabel="epoch", title="Scores", ylim=(0, 1))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.set_xlim(0.5, max(int(row["epoch"] or 1) for row in rows) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(fontsize=8)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=120, format="png", metadata=PICTURE_TEXT)
    part.replace(path)
