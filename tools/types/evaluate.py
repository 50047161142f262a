"""Scores of a network on cells that it did not learn from.

Shapes: N cells, K types, G groups; logits (N, K).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.evaluation.calibration import TEMPERATURES
from tools.types.cells import FIVE, NO_WHITE_TYPES, RARE_TYPES, TYPES, Cell, coarse

#: Coarse groups in the order of the types.
GROUPS = tuple(dict.fromkeys(coarse(t) for t in TYPES))
_SUMS = np.array([[float(coarse(t) == g) for g in GROUPS] for t in TYPES])
#: Group of each type (K,).
GROUP_OF = _SUMS.argmax(1)
_FIVE_ROWS = [GROUPS.index(name) for name in FIVE]
_RARE_COLUMNS = [TYPES.index(t) for t in RARE_TYPES]
_NO_WHITE_COLUMNS = [TYPES.index(t) for t in NO_WHITE_TYPES]
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """Number of hits, and of all.

    Attributes:
        hits, of: the numbers.
    """

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share, nan of none."""
        return self.hits / self.of if self.of else math.nan

    def limits(self) -> tuple[float, float]:
        """Wilson's 95 % limits."""
        if not self.of:
            return (0.0, 1.0)
        n, p, z = self.of, self.value, Z95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (max(0.0, middle - half), min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.limits()
        return f"{self.value:.3f} ({low:.3f}–{high:.3f}, {self.hits} of {self.of})"


def group_probs(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of the coarse groups (N, G)."""
    return np.asarray(probs(logits, temperature) @ _SUMS)


def probs(
    logits: NDArray[np.float32],
    temperature: float = 1.0,
    shift: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Probabilities of the types (N, K).

    Args:
        logits: of the cells.
        temperature: divides them.
        shift: added afterwards, the log of a change of prior.
    """
    scores = logits.astype(np.float64) / temperature + shift
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    odds = np.exp(scores)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def true_groups(cells: Sequence[Cell]) -> NDArray[np.int64]:
    """Coarse group of each cell (N,), -1 without a label."""
    names = [coarse(c.label) if c.label else "" for c in cells]
    return np.array([GROUPS.index(n) if n else -1 for n in names], np.int64)


def of_five(logits: NDArray[np.float32], cells: Sequence[Cell]) -> Share:
    """The likeliest of the five types is right, of cells of these types."""
    truth = true_groups(cells)
    seen = np.isin(truth, _FIVE_ROWS)
    best = np.asarray(_FIVE_ROWS)[group_probs(logits)[:, _FIVE_ROWS].argmax(1)]
    return Share(int((best == truth)[seen].sum()), int(seen.sum()))


def of_all(logits: NDArray[np.float32], cells: Sequence[Cell]) -> Share:
    """The likeliest group of all is right, of all labelled cells."""
    truth = true_groups(cells)
    return Share(
        int((group_probs(logits).argmax(1) == truth)[truth >= 0].sum()), int((truth >= 0).sum())
    )


def of_groups(logits: NDArray[np.float32], cells: Sequence[Cell], groups: Sequence[str]) -> Share:
    """The likeliest of the named groups is right, of cells of these groups."""
    rows = [GROUPS.index(name) for name in groups]
    truth = true_groups(cells)
    seen = np.isin(truth, rows)
    best = np.asarray(rows)[group_probs(logits)[:, rows].argmax(1)]
    return Share(int((best == truth)[seen].sum()), int(seen.sum()))


def confusion(logits: NDArray[np.float32], cells: Sequence[Cell]) -> list[list[int]]:
    """Cells by true and by likeliest group, in the order of ``GROUPS``."""
    truth, best = true_groups(cells), group_probs(logits).argmax(1)
    table = np.zeros((len(GROUPS), len(GROUPS)), np.int64)
    np.add.at(table, (truth[truth >= 0], best[truth >= 0]), 1)
    return [[int(n) for n in row] for row in table]


def by_group(logits: NDArray[np.float32], cells: Sequence[Cell]) -> dict[str, Share]:
    """Share of each true group that the likeliest group of all names rightly."""
    table = np.asarray(confusion(logits, cells))
    return {
        name: Share(int(table[i, i]), int(table[i].sum()))
        for i, name in enumerate(GROUPS)
        if table[i].sum()
    }


def fitted_temperature(
    logits: NDArray[np.float32], truth: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """The temperature with the least weighted negative log likelihood of the true groups."""
    candidates = np.exp(np.linspace(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]), 241))

    def loss(temperature: float) -> float:
        right = group_probs(logits, temperature)[np.arange(len(truth)), truth]
        return float(-(weights * np.log(np.maximum(right, 1e-12))).sum() / weights.sum())

    return float(min(candidates, key=loss))


def false_alarms(
    chances: NDArray[np.float64], cells: Sequence[Cell], least: NDArray[np.float64]
) -> Share:
    """Mature white cells that are accepted as blasts or immature granulocytes.

    Args:
        chances: probabilities of the types (N, K).
        cells: with labels.
        least: probability (K,) from which a cell is accepted as a type.
    """
    mature = np.isin(true_groups(cells), _FIVE_ROWS)
    best = chances.argmax(1)
    alarm = np.isin(best, _RARE_COLUMNS) & (chances.max(1) >= least[best])
    return Share(int(alarm[mature].sum()), int(mature.sum()))


def rejected(
    chances: NDArray[np.float64], cells: Sequence[Cell], least: NDArray[np.float64]
) -> tuple[Share, Share]:
    """Share accepted as no white cell: of mature white cells, and of other objects."""
    truth = true_groups(cells)
    best = chances.argmax(1)
    taken = (chances.max(1) >= least[best]) & np.isin(best, _NO_WHITE_COLUMNS)
    mature = np.isin(truth, _FIVE_ROWS)
    none = np.isin(truth, [GROUPS.index(t) for t in NO_WHITE_TYPES])
    return (
        Share(int(taken[mature].sum()), int(mature.sum())),
        Share(int(taken[none].sum()), int(none.sum())),
    )


def accepted(
    chances: NDArray[np.float64], cells: Sequence[Cell], least: NDArray[np.float64]
) -> tuple[Share, Share]:
    """Share of accepted cells, and share of these whose group is right."""
    truth = true_groups(cells)
    best = chances.argmax(1)
    taken = (chances.max(1) >= least[best]) & (truth >= 0)
    right = GROUP_OF[best] == truth
    return (
        Share(int(taken.sum()), int((truth >= 0).sum())),
        Share(int(right[taken].sum()), int(taken.sum())),
    )
