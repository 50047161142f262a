"""Decisions of the packaged classifier, chosen on cells of laboratories left out.

Shapes: N cells, K types; logits, chances (N, K); least (K,).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.types.cells import COARSE, FIVE, NO_WHITE_TYPES, RARE_TYPES, TYPES, Cell
from tools.types.composed_slides import Agreement, agreement
from tools.types.evaluate import (
    GROUP_OF,
    Share,
    accepted,
    false_alarms,
    fitted_temperature,
    of_all,
    of_five,
    probs,
    rejected,
    true_groups,
)
from tools.types.windows import Windows

_Known = Sequence[tuple[NDArray[np.float64], tuple[Cell, ...]]]
_Rate = Callable[[_Known, NDArray[np.float64]], float]
_LOG = logging.getLogger(__name__)
_THRESHOLDS = tuple(round(0.3 + 0.02 * i, 2) for i in range(35))
#: Probabilities at which the card tells how often accepted cells are right.
_TOLD = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_MOST_ALARMS = 2 / 1000
_MOST_LOST = 0.01
#: Largest error of the composed slides, as a multiple of the least that any threshold reaches.
_MORE_ERROR = 1.1


@dataclass(frozen=True, eq=False, slots=True)
class LeftOut:
    """Cells of one laboratory and what a network that never saw it says of them.

    Attributes:
        laboratory: which.
        cells, logits: of its cells.
    """

    laboratory: str
    cells: tuple[Cell, ...]
    logits: NDArray[np.float32]

    def of(self, groups: Sequence[str]) -> LeftOut:
        """The cells whose label is one of these, or a type of these."""
        kept = [
            i
            for i, c in enumerate(self.cells)
            if c.label in groups or any(c.label in COARSE.get(g, ()) for g in groups)
        ]
        return LeftOut(
            self.laboratory, tuple(self.cells[i] for i in kept), self.logits[np.asarray(kept, int)]
        )


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Conversion of logits to probabilities and decisions.

    Attributes:
        temperature: divides the logits.
        prior: share of each type at which probabilities are stated.
        threshold: least probability of an accepted cell.
        own_thresholds: that of the types that must be surer.
        figures: what was measured on the way.
    """

    temperature: float
    prior: dict[str, float]
    threshold: float
    own_thresholds: dict[str, float]
    figures: dict[str, Any]

    def chances(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities at the prior; the training showed all types alike."""
        shift = np.log(np.array([self.prior[t] for t in TYPES]) * len(TYPES))
        return probs(logits, self.temperature, shift)

    @property
    def least(self) -> NDArray[np.float64]:
        """Least probability of a cell that is accepted as each type."""
        return np.array([self.own_thresholds.get(t, self.threshold) for t in TYPES])


def left_out_cells(windows: Windows, out: Path, prefix: str) -> list[LeftOut]:
    """Return the outputs of the finished trainings without a laboratory for its cells."""
    found = []
    for kept in sorted(out.glob(f"{prefix}*/{windows.kept_name}")):
        with np.load(kept) as arrays:
            rows, logits = arrays["rows"], arrays["logits"]
        for laboratory in kept.parent.name.removeprefix(prefix).split("-"):
            mine = [p for p, i in enumerate(rows) if windows.cells[i].laboratory == laboratory]
            cells = tuple(windows.cells[rows[p]] for p in mine)
            found.append(LeftOut(laboratory, cells, logits[np.asarray(mine)]))
    return found


def calibrate(parts: Sequence[LeftOut], rare_prior: float, seed: int) -> Calibrated:
    """Temperature and thresholds by which laboratories left out are served best.

    Every laboratory counts alike, with its cells of the five mature types, which a network knows
    whatever laboratory is left out. The temperature fits their probabilities. The threshold is the
    highest at which slides composed of these cells are counted about as rightly as at any. Types
    that must not be called wrongly have thresholds of their own: blasts and immature granulocytes
    such that at most two of 1,000 mature cells are called so, and what is no white cell such that
    at most one white cell of 100 is lost.

    Args:
        parts: cells of every laboratory.
        rare_prior: share of a blast or immature type beside that of any other.
        seed: of the composed slides.
    """
    known = [part.of(FIVE) for part in parts]
    logits = np.concatenate([part.logits for part in known])
    truth = np.concatenate([true_groups(part.cells) for part in known])
    weights = np.concatenate([np.full(len(p.cells), 1 / len(p.cells)) for p in known])
    shares = {t: rare_prior if t in RARE_TYPES else 1.0 for t in TYPES}
    prior = {t: share / sum(shares.values()) for t, share in shares.items()}
    how = Calibrated(fitted_temperature(logits, truth, weights), prior, 0.0, {}, {})
    chances = [(how.chances(part.logits), part.cells) for part in known]
    rare = _least_threshold(chances, _alarms, _MOST_ALARMS)
    other = _least_threshold(chances, _lost, _MOST_LOST)
    own = dict.fromkeys(RARE_TYPES, rare) | dict.fromkeys(NO_WHITE_TYPES, other)
    threshold, table = _threshold(known, how, own, seed)
    own = {t: max(least, threshold) for t, least in own.items()}
    found = Calibrated(how.temperature, prior, threshold, own, {})
    _LOG.info("threshold %.2f, rare types %.2f, no white cell %.2f", threshold, rare, other)
    figures = _figures(parts, found, table, seed)
    return Calibrated(how.temperature, prior, threshold, own, figures)


def _least_threshold(chances: _Known, wrong: _Rate, most: float) -> float:
    """The least at which a rate of wrong calls is low enough."""
    for threshold in _THRESHOLDS:
        least = np.full(len(TYPES), threshold)
        if wrong(chances, least) <= most:
            return threshold
    return _THRESHOLDS[-1]


def _alarms(chances: _Known, least: NDArray[np.float64]) -> float:
    """Share of all mature cells that are called a blast or immature."""
    found = [false_alarms(p, cells, least) for p, cells in chances]
    return sum(s.hits for s in found) / sum(s.of for s in found)


def _lost(chances: _Known, least: NDArray[np.float64]) -> float:
    """Share of white cells that are called none, each laboratory alike."""
    return float(np.mean([rejected(p, cells, least)[0].value for p, cells in chances]))


def _threshold(
    known: Sequence[LeftOut], how: Calibrated, own: dict[str, float], seed: int
) -> tuple[float, dict[str, dict[str, list[float]]]]:
    """Return the threshold of the other types, and errors and accepted shares at some."""
    errors, table = [], dict[str, dict[str, list[float]]]()
    for threshold in (0.0, *_THRESHOLDS):
        tried = Calibrated(how.temperature, how.prior, threshold, own, {})
        found = {part.laboratory: counted(part, tried, seed) for part in known}
        errors.append(float(np.mean([one.mean_error for one in found.values()])))
        if threshold == 0 or threshold in _TOLD:
            table[f"{threshold:g}"] = {
                name: [round(one.mean_error, 2), round(one.accepted, 3)]
                for name, one in found.items()
            }
            _LOG.info(
                "threshold %g: error %.2f, %s", threshold, errors[-1], table[f"{threshold:g}"]
            )
    enough = [e <= _MORE_ERROR * min(errors) for e in errors]
    return (0.0, *_THRESHOLDS)[max(np.flatnonzero(enough))], table


def counted(part: LeftOut, how: Calibrated, seed: int) -> Agreement:
    """Agreement of composed slides of a laboratory's cells of the five types."""
    chances = how.chances(part.logits)
    best = chances.argmax(1)
    sure = chances.max(1) >= how.least[best]
    return agreement(true_groups(part.cells), GROUP_OF[best], sure, seed)


def _figures(
    parts: Sequence[LeftOut], how: Calibrated, slides: dict[str, Any], seed: int
) -> dict[str, Any]:
    rows = {}
    for whole in parts:
        part = whole.of(FIVE)
        chances = how.chances(part.logits)
        taken, right = accepted(chances, part.cells, how.least)
        lost, found = rejected(how.chances(whole.logits), whole.cells, how.least)
        rows[part.laboratory] = {
            "cells": len(part.cells),
            "of_five": round(of_five(part.logits, part.cells).value, 4),
            "of_all": round(of_all(part.logits, part.cells).value, 4),
            "accepted": round(taken.value, 4),
            "accepted_right": round(right.value, 4),
            "false_alarms": false_alarms(chances, part.cells, how.least).hits,
            "white_cells_rejected": [lost.hits, lost.of],
            "others_rejected": [found.hits, found.of],
            "bias_and_limits_of_agreement": counted(part, how, seed).limits(),
        }
    known = [part.of(FIVE) for part in parts]
    alarms = [false_alarms(how.chances(p.logits), p.cells, how.least) for p in known]
    total = Share(sum(s.hits for s in alarms), sum(s.of for s in alarms))
    low, high = total.limits()
    return {
        "laboratories_left_out": rows,
        "composed_slides": slides,
        "accepted_right_at": _right_at(known, how),
        "false_blasts_and_immature_granulocytes": {
            "false": total.hits,
            "of": total.of,
            "per_1000_limits": [round(1000 * low, 2), round(1000 * high, 2)],
        },
    }


def _right_at(known: Sequence[LeftOut], how: Calibrated) -> dict[str, list[float]]:
    """Share of the cells with so high a probability, and of these right, laboratories alike."""
    table = {}
    for threshold in _TOLD:
        least = np.full(len(TYPES), threshold)
        found = [accepted(how.chances(p.logits), p.cells, least) for p in known]
        taken = np.array([share.value for share, _ in found])
        right = np.array([s.hits / len(p.cells) for p, (_, s) in zip(known, found, strict=True)])
        table[f"{threshold:g}"] = [
            round(float(taken.mean()), 3),
            round(float(right.sum() / max(taken.sum(), 1e-9)), 3),
        ]
    return table
