"""White cells of another laboratory: the share that is found, and the share of these typed right.

    python benchmarks/end_to_end.py FIELDS [--classifier NAME|DIR] [--detector NAME|DIR] [--iou 0.5]

FIELDS are pictures with typed boxes in any format that cellcount reads; they need not be
exhaustive. The command ``analyze`` itself counts and types them. A labelled cell is found where a
counted white cell overlaps it enough, each counted cell serving one label. Types are right where
they say the same in lower case; an unclassified cell is not right. Limits are Wilson's, 95 %.

Shapes: boxes (N, 4), corners in pixels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.evaluation.classification import wilson_limits

CORNERS = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"]
Boxes = NDArray[np.float32]


def analyzed(fields: Path, folder: Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """White cells that ``analyze`` counts on the pictures, one per row."""
    cells = folder / "cells.csv"
    command = [
        sys.executable, "-m", "cellcount", "analyze", str(fields), "--out", str(folder / "c.csv"),
        "--cells", str(cells), "--classifier", arguments.classifier,
        "--detector", arguments.detector,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    table = pd.read_csv(cells, keep_default_na=False)
    return table[table["type"] != ""]


def matched(labelled: Boxes, counted: Boxes, least_iou: float) -> dict[int, int]:
    """Label → counted cell, as many pairs as possible above the least overlap."""
    if not len(labelled) or not len(counted):
        return {}
    overlap = pairwise_iou(labelled, counted)
    rows, columns = linear_sum_assignment(-np.where(overlap >= least_iou, 1 + overlap, 0))
    return {
        int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= least_iou
    }


def compare(
    images: list[LabelledImage], cells: pd.DataFrame, least_iou: float
) -> list[tuple[str, str]]:
    """Label and counted type of every labelled cell, "" where it was not found."""
    pairs = []
    for image in images:
        own = cells[[Path(name).name == image.path.name for name in cells["image"]]]
        found = matched(image.boxes_xyxy, own[CORNERS].to_numpy(np.float32), least_iou)
        types = own["type"].tolist()
        pairs += [
            (label, types[found[i]] if i in found else "") for i, label in enumerate(image.labels)
        ]
    return pairs


def show(pairs: list[tuple[str, str]], counted: int) -> None:
    """The two shares with limits, and what each type was taken for."""
    found = [pair for pair in pairs if pair[1]]
    right = sum(label.lower() == kind for label, kind in found)
    console = Console()
    for what, hits, of in (("found", len(found), len(pairs)), ("typed right", right, len(found))):
        low, high = wilson_limits(hits, of) or (0.0, 1.0)
        share = f"{hits / max(of, 1):.3f} ({low:.3f}–{high:.3f})"
        console.print(f"{what}: {hits} of {of} = {share}")
    console.print(f"white cells counted in all: {counted}; labels may be missing")
    table = Table("labelled", "cells", "taken for")
    for label in sorted({label for label, _ in pairs}):
        kinds = Counter(kind or "(not found)" for other, kind in pairs if other == label)
        table.add_row(label, str(kinds.total()), ", ".join(f"{n} {k}" for k, n in kinds.items()))
    console.print(table)


def main() -> None:
    """Parses the command line and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fields", type=Path)
    parser.add_argument("--classifier", default="blood-types")
    parser.add_argument("--detector", default="blood")
    parser.add_argument("--iou", type=float, default=0.5)
    arguments = parser.parse_args()
    images = list(read_annotations(arguments.fields).images)
    with tempfile.TemporaryDirectory() as folder:
        cells = analyzed(arguments.fields, Path(folder), arguments)
    show(compare(images, cells, arguments.iou), len(cells))


if __name__ == "__main__":
    main()
