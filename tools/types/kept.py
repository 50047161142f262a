"""Features of some cells of every type, kept beside the weights for ``cellcount adapt``.

Shapes: as in ``cellcount.models.kept_features``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from torch import nn

from cellcount.models.kept_features import KeptFeatures
from tools.types.cells import TYPES, Cell, allowed
from tools.types.network import features
from tools.types.train import learned_rows
from tools.types.windows import Windows

#: Cells of each label; they weigh alike whatever their number, so a few are enough.
CELLS_A_LABEL = 12


def kept_rows(cells: Sequence[Cell], left_out: Sequence[str], seed: int) -> list[int]:
    """Rows of some learned cells of every label, from its laboratories in turn."""
    by_label: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in learned_rows(cells, left_out, untyped=False):
        by_label[cells[row].label][cells[row].laboratory].append(row)
    rows = []
    for label in sorted(by_label):
        rng = np.random.default_rng([seed, len(label)])
        shuffled = [rng.permutation(rows).tolist() for _, rows in sorted(by_label[label].items())]
        in_turn = [
            rows[place] for place in range(CELLS_A_LABEL) for rows in shuffled if place < len(rows)
        ]
        rows += in_turn[:CELLS_A_LABEL]
    return sorted(rows)


def kept_features(
    windows: Windows, model: nn.Module, left_out: Sequence[str], seed: int
) -> KeptFeatures:
    """The features that a network has of these cells."""
    rows = kept_rows(windows.cells, left_out, seed)
    meant = np.zeros((len(rows), len(TYPES)), np.bool_)
    for place, row in enumerate(rows):
        for name in allowed(windows.cells[row].label):
            meant[place, TYPES.index(name)] = True
    return KeptFeatures(features(model, windows.served, rows), meant)
