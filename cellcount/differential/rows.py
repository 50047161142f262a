"""The rows that a differential may have: the words that taxonomies and profiles share."""

from __future__ import annotations

from typing import Literal, get_args

SmearKind = Literal["peripheral-blood", "bone-marrow"]
SMEAR_KINDS: tuple[str, ...] = get_args(SmearKind)

#: Rows of the nucleated differential count, in the order of ICSH 2008; blood has most of them.
COUNTED_ROWS = (
    "blasts", "promyelocytes", "myelocytes", "metamyelocytes", "band_forms",
    "segmented_neutrophils", "eosinophils", "basophils", "mast_cells", "monocytes", "lymphocytes",
    "plasma_cells", "erythroblasts",
)  # fmt: skip
#: Counted and listed, never part of a percentage.
OUTSIDE_ROWS = (
    "nucleated_red_cells", "platelets", "megakaryocytes", "macrophages", "osteoblasts",
    "osteoclasts", "stromal_cells", "smudge_cells", "non_haemopoietic", "artefacts",
    "not_identifiable", "other_cells",
)  # fmt: skip
ROWS = COUNTED_ROWS + OUTSIDE_ROWS
#: Rows of the same cells: a marrow counts them among the others, a blood film beside them.
SAME_CELLS = {"nucleated_red_cells": "erythroblasts", "erythroblasts": "nucleated_red_cells"}
