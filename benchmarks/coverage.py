"""Do the 95 % limits of a differential hold the truth in 95 of 100 slides?

    python benchmarks/coverage.py [--slides 400] [--fields 20] [--white-per-field 5]

Slides are laid out by cellcount's own renderer, which draws every white cell's kind with a stated
probability; so the share of each kind in an endless smear is known, and each slide is a sample of
it. Kinds are taken from the renderer's truth (what a classifier errs is another matter), counted by
field, rolled up to slides and given limits by the same code that ``--slides`` runs. Printed: how
often the limits hold the true share, for Wilson's and for the bootstrap over fields, each with its
own 95 % limits. Wilson's are expected at 95 %, the bootstrap near it, below where cells are rare.

Shapes: counts per field (K + 1,), K kinds and the unclassified.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cellcount.core.records import CellClass, ImageRef
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import load_profile
from cellcount.differential.rollup import FieldCounts, roll_up, unit_differential
from cellcount.evaluation.classification import wilson_limits
from cellcount.rendering.layout import WHITE_KINDS, Plane
from cellcount.rendering.spec import FieldSpec

ROWS = {
    "neutrophil": ("segmented_neutrophils", "band_forms"),
    "lymphocyte": ("lymphocytes",),
    "monocyte": ("monocytes",),
    "eosinophil": ("eosinophils",),
    "basophil": ("basophils",),
    "erythroblast": ("nucleated_red_cells",),
}
TYPES = tuple(TypeRows(kind, kind + "s", ROWS[kind]) for kind in WHITE_KINDS)
CLASSES = (CellClass("wbc", "white cell", "white cells"),)
FIELD_PX = 800


def field_truth(slide: int, number: int, white_cells: float) -> FieldCounts:
    """The kinds whose centres lie in one rendered field."""
    spec = FieldSpec(
        FIELD_PX, FIELD_PX, seed=slide * 1000 + number, density=0.0, n_wbc=white_cells,
        n_platelets=0.0, debris=0.0,
    )  # fmt: skip
    kinds = [
        cell.kind
        for cell in Plane(spec).cells_in(0, 0, FIELD_PX, FIELD_PX)
        if 0 <= cell.x < FIELD_PX and 0 <= cell.y < FIELD_PX
    ]
    counts = np.array([*(kinds.count(kind) for kind in WHITE_KINDS), 0], np.int64)
    name = f"{slide}/{number:03}.png"
    ref = ImageRef(Path(name), name, str(slide))
    return FieldCounts(ref, "done", counts, np.array([len(kinds)], np.int64))


def true_shares() -> dict[str, float]:
    """Percent of the denominator that each kind has; erythroblasts are not in it."""
    counted = {kind: share for kind, (share, _, _) in WHITE_KINDS.items() if kind != "erythroblast"}
    return {kind: 100 * share / sum(counted.values()) for kind, share in counted.items()}


def covered(
    slides: int, fields: int, white_cells: float
) -> tuple[dict[tuple[str, str], list[bool]], list[int]]:
    """(kind, method) → whether each slide's limits hold the truth; cells per slide."""
    profile, truth = load_profile("peripheral-blood"), true_shares()
    held: dict[tuple[str, str], list[bool]] = defaultdict(list)
    cells = []
    for slide in range(slides):
        unit = roll_up(field_truth(slide, n, white_cells) for n in range(fields))[0]
        found = unit_differential(unit, profile, TYPES, CLASSES)
        cells.append(found.total or 0)
        for kind, share in truth.items():
            figure = found.figure("group" if kind == "neutrophil" else "class", f"{kind}s")
            for method, limits in (("Wilson", figure.limits), ("bootstrap", figure.bootstrap)):
                if limits is not None and limits.high is not None:
                    held[kind, method].append(limits.low <= share <= limits.high)
    return held, cells


def main() -> None:
    """Parses the command line and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=int, default=400)
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--white-per-field", type=float, default=5.0)
    arguments = parser.parse_args()
    held, cells = covered(arguments.slides, arguments.fields, arguments.white_per_field)
    console = Console()
    console.print(f"{arguments.slides} slides of {np.mean(cells):.0f} cells on average")
    table = Table("kind", "true share, %", "method", "limits hold the truth, %", "95 % limits")
    for (kind, method), said in held.items():
        low, high = wilson_limits(sum(said), len(said)) or (0.0, 1.0)
        table.add_row(
            kind, f"{true_shares()[kind]:.1f}", method, f"{100 * np.mean(said):.1f}",
            f"{100 * low:.1f}–{100 * high:.1f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
