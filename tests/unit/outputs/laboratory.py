"""A run of two specimens and a slide without one, as information systems are told it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellcount.core.records import CellClass, ImageRef
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Rules, TypeRows
from cellcount.differential.profile import load_profile
from cellcount.differential.rollup import FieldCounts, roll_up
from cellcount.outputs.slides import written_rows
from cellcount.store.approvals import Approval, SlideApproval

WBC = (CellClass("wbc", "white cell", "white cells"),)
PARTIAL = (
    TypeRows("neutrophil", "neutrophils", ("band_forms", "segmented_neutrophils")),
    TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
    TypeRows("erythroblast", "erythroblasts", ("nucleated_red_cells",)),
)


def whole() -> tuple[TypeRows, ...]:
    """Types of a classifier that can name every row of the blood profile."""
    profile = load_profile("peripheral-blood")
    rows = (*profile.rows, *profile.outside)
    return tuple(TypeRows(row, profile.name_of(row), (row,)) for row in rows)


def counting(types: tuple[TypeRows, ...], rules: Rules | None = None) -> Counting:
    """Rules by which the cells of ``fields`` are counted."""
    return Counting(load_profile("peripheral-blood"), types, WBC, rules or Rules(), {"m": "mine 1"})


def fields(types: tuple[TypeRows, ...], accession: str = "A|1&2^3") -> list[FieldCounts]:
    """Fields of the specimens S 1 and S~2, and of a slide; the last field failed."""
    rng = np.random.default_rng(1)
    refs = [
        ImageRef(Path("a"), "a", "1", "S 1", wbc_10e9_per_l=6.5, accession=accession),
        ImageRef(Path("b"), "b", "1", "S 1", wbc_10e9_per_l=6.5, accession=accession),
        ImageRef(Path("c"), "c", "1", "S~2"),
        ImageRef(Path("d"), "d", "\udcff"),
    ]
    found = []
    for ref in refs:
        counts = rng.integers(3, 60, len(types) + 1)
        counts[-1] = 0
        found.append(FieldCounts(ref, "done", counts, np.array([counts.sum()])))
    nothing = np.zeros(len(types) + 1, np.int64)
    return [*found, FieldCounts(ImageRef(Path("e"), "e", "e"), "failed", nothing, nothing[:1])]


def approval(
    found: list[FieldCounts], how: Counting, specimen: str, slide: str, *, versions: int = 1
) -> SlideApproval:
    """The numbers of a slide as they are, signed by B. Jones and, a second time, by C. Brown."""
    (unit,) = (
        u
        for u in roll_up(found)
        if u.level == "slide" and (u.specimen, u.slide) == (specimen, slide)
    )
    rows = tuple(written_rows(unit, how.of(unit)))
    signed = (
        Approval(1, "B. Jones", "2026-02-01T09:30:00+00:00", "", rows),
        Approval(2, "C. Brown", "2026-02-02T09:30:00+00:00", "a slip", rows),
    )
    return SlideApproval(signed[:versions])
