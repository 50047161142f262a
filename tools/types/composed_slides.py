"""Errors of the differential on slides composed of cells of one laboratory.

A slide is counted as the product counts it, so that this tells what a decision does to the
figures that people read: a high threshold makes the accepted cells right, but leaves out more
cells of the types that are hard to name, and so bends the shares.

Shapes: S slides, N cells, G groups, T types of the five that the laboratory has; shares (S, T).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.types.cells import FIVE
from tools.types.evaluate import GROUPS, Z95

_SLIDES = 400
_CELLS = 200
#: Shares of the five types between which a slide's mixture is drawn, before they are made to add
#: up to one: from a healthy adult's to those of infection, allergy and lymphocytosis.
_MIXTURES = {
    "neutrophil": (0.25, 0.8),
    "eosinophil": (0.01, 0.15),
    "basophil": (0.002, 0.03),
    "lymphocyte": (0.1, 0.6),
    "monocyte": (0.02, 0.15),
}
_ASSESSED = tuple(GROUPS.index(name) for name in (*FIVE, "ig", "blast"))


@dataclass(frozen=True, eq=False, slots=True)
class Agreement:
    """Differences between the counted and the true shares of slides.

    Attributes:
        accepted: share of the cells that were counted.
        differences: counted less true (S, T), in points of percent.
        types: names of the T types.
    """

    accepted: float
    differences: NDArray[np.float64]
    types: tuple[str, ...]

    @property
    def mean_error(self) -> float:
        """Mean absolute difference over slides and types."""
        return float(np.abs(self.differences).mean())

    def limits(self) -> dict[str, list[float]]:
        """Bias, lower and upper 95 % limit of agreement of each type.

        Bland and Altman 1986, doi 10.1016/S0140-6736(86)90837-8.
        """
        bias, spread = self.differences.mean(0), self.differences.std(0, ddof=1)
        return {
            name: [round(float(v), 2) for v in (b, b - Z95 * s, b + Z95 * s)]
            for name, b, s in zip(self.types, bias, spread, strict=True)
        }


def composed(truth: NDArray[np.int64], seed: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Draw cells with replacement for slides, each by a mixture of its own.

    Args:
        truth: true group of each cell of the laboratory.
        seed: of mixtures and draws.

    Returns:
        the types present (T,), and positions of the drawn cells (S, N).
    """
    rng = np.random.default_rng(seed)
    present = tuple(name for name in FIVE if (truth == GROUPS.index(name)).any())
    rows = [np.flatnonzero(truth == GROUPS.index(name)) for name in present]
    slides = np.empty((_SLIDES, _CELLS), np.int64)
    for slide in slides:
        mixture = np.array([rng.uniform(*_MIXTURES[name]) for name in present])
        numbers = rng.multinomial(_CELLS, mixture / mixture.sum())
        slide[:] = np.concatenate(
            [rng.choice(mine, number) for mine, number in zip(rows, numbers, strict=True)]
        )
    return present, slides


def agreement(
    truth: NDArray[np.int64], called: NDArray[np.int64], counted: NDArray[np.bool_], seed: int
) -> Agreement:
    """Count composed slides of a laboratory's cells.

    Args:
        truth, called: true and likeliest group of each cell.
        counted: cells that are sure enough; what is called a platelet, an artefact, an
            erythroblast or no white cell leaves the denominator, too.
        seed: of the slides.
    """
    present, slides = composed(truth, seed)
    groups = np.array([GROUPS.index(name) for name in present])
    seen = (counted & np.isin(called, _ASSESSED))[slides]
    total = np.maximum(seen.sum(1, keepdims=True), 1)
    found = (seen[:, :, None] & (called[slides][:, :, None] == groups)).sum(1) / total
    true = (truth[slides][:, :, None] == groups).mean(1)
    return Agreement(float(seen.mean()), 100 * (found - true), present)
