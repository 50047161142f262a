"""From trained networks to a weight file: calibrated on cells of laboratories left out.

Shapes: N cells, K types; logits (N, K).
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount import __version__
from cellcount.models.classifier_card import ClassifierArchitecture, ClassifierCard
from cellcount.models.kept_features import features_path, write_kept_features
from cellcount.models.weights import write_weights
from tools.types.cells import COARSE, FIVE, TYPES, Cell
from tools.types.evaluate import (
    Share,
    accepted,
    accepted_groups,
    by_group,
    false_alarms,
    fitted_temperature,
    of_all,
    of_five,
    probs,
    rejected,
    true_groups,
)
from tools.types.kept import kept_features
from tools.types.train import Training, learned_rows
from tools.types.windows import Windows, serving_card

_LOG = logging.getLogger(__name__)
_THRESHOLDS = tuple(round(0.3 + 0.01 * i, 2) for i in range(70))
_ACCEPTED_RIGHT = 0.95
_MOST_ALARMS = 2 / 1000
_PRIOR_FACTORS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
#: Types that are false alarms where a cell is mature.
_RARE = (*COARSE["ig"], "blast")


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
        figures: what was measured on the way.
    """

    temperature: float
    prior: dict[str, float]
    threshold: float
    figures: dict[str, Any]

    @property
    def shift(self) -> NDArray[np.float64]:
        """Log of the prior over that of the training, which showed all types alike."""
        return np.asarray(np.log(np.array([self.prior[t] for t in TYPES]) * len(TYPES)))


def left_out_cells(windows: Windows, out: Path, prefix: str = "without-") -> list[LeftOut]:
    """Return the outputs of the finished trainings without a laboratory for its cells."""
    found = []
    for kept in sorted(out.glob(f"{prefix}*/unlearned.npz")):
        with np.load(kept) as arrays:
            rows, logits = arrays["rows"], arrays["logits"]
        for laboratory in kept.parent.name.removeprefix(prefix).split("-"):
            mine = [p for p, i in enumerate(rows) if windows.cells[i].laboratory == laboratory]
            cells = tuple(windows.cells[rows[p]] for p in mine)
            found.append(LeftOut(laboratory, cells, logits[np.asarray(mine)]))
    return found


def calibrate(parts: Sequence[LeftOut]) -> Calibrated:
    """Temperature, prior and threshold by which laboratories left out are served best.

    Every laboratory counts alike, with its cells of the five mature types, which a network knows
    whatever laboratory is left out. The temperature fits their probabilities. The threshold is
    raised until 95 % of the accepted cells are right, and the prior of blasts and immature
    granulocytes lowered until at most two of 1,000 mature cells are accepted as such.
    """
    known = [part.of(FIVE) for part in parts]
    logits = np.concatenate([part.logits for part in known])
    truth = np.concatenate([true_groups(part.cells) for part in known])
    weights = np.concatenate([np.full(len(p.cells), 1 / len(p.cells)) for p in known])
    temperature = fitted_temperature(logits, truth, weights)
    chosen = None
    for factor in _PRIOR_FACTORS:
        prior = {t: factor if t in _RARE else 1.0 for t in TYPES}
        total = sum(prior.values())
        prior = {t: share / total for t, share in prior.items()}
        chosen = Calibrated(temperature, prior, 0.0, {})
        threshold = _threshold(known, chosen)
        alarms = _alarms(parts, chosen, threshold)
        figures = _figures(parts, chosen, threshold, alarms)
        chosen = Calibrated(temperature, prior, threshold, figures)
        _LOG.info("prior factor %g: threshold %.2f, false alarms %s", factor, threshold, alarms)
        if alarms.value <= _MOST_ALARMS:
            break
    assert chosen is not None
    return chosen


def _threshold(known: Sequence[LeftOut], how: Calibrated) -> float:
    """The lowest at which accepted cells, as many of each laboratory, are right often enough."""
    reached = []
    for threshold in _THRESHOLDS:
        found = [accepted(_probs(p, how), p.cells, threshold) for p in known]
        share = sum(taken.value for taken, _ in found)
        right = sum(good.hits / len(p.cells) for p, (_, good) in zip(known, found, strict=True))
        reached.append(right / share if share else 0.0)
        if reached[-1] >= _ACCEPTED_RIGHT:
            return threshold
    return _THRESHOLDS[int(np.argmax(reached))]


def _alarms(parts: Sequence[LeftOut], how: Calibrated, threshold: float) -> Share:
    """Mature cells of all laboratories left out that are accepted as blasts or immature."""
    found = [false_alarms(_probs(p, how), p.cells, threshold) for p in parts]
    return Share(sum(s.hits for s in found), sum(s.of for s in found))


def _probs(part: LeftOut, how: Calibrated) -> NDArray[np.float64]:
    return probs(part.logits, how.temperature, how.shift)


def _figures(
    parts: Sequence[LeftOut], how: Calibrated, threshold: float, alarms: Share
) -> dict[str, Any]:
    rows = {}
    for whole in parts:
        part = whole.of(FIVE)
        taken, right = accepted(_probs(part, how), part.cells, threshold)
        lost, found = rejected(_probs(whole, how), whole.cells, threshold)
        in_groups = accepted_groups(_probs(part, how), part.cells, threshold)
        rows[part.laboratory] = {
            "cells": len(part.cells),
            "of_five": round(of_five(part.logits, part.cells).value, 4),
            "of_all": round(of_all(part.logits, part.cells).value, 4),
            "accepted": round(taken.value, 4),
            "accepted_right": round(right.value, 4),
            "accepted_in_groups": round(in_groups[0].value, 4),
            "accepted_in_groups_right": round(in_groups[1].value, 4),
            "false_alarms": false_alarms(_probs(part, how), part.cells, threshold).hits,
            "white_cells_rejected": [lost.hits, lost.of],
            "others_rejected": [found.hits, found.of],
        }
    low, high = alarms.limits()
    return {
        "laboratories_left_out": rows,
        "false_blasts_and_immature_granulocytes": {
            "false": alarms.hits,
            "of": alarms.of,
            "per_1000_limits": [round(1000 * low, 2), round(1000 * high, 2)],
        },
    }


def package(windows: Windows, told: dict[str, Any], out: Path, name: str = "final") -> Path:
    """Writes the weight file of a finished training; returns its path."""
    from tools.types.make import read_runs, trained

    how = read_runs(told)[name].training
    model = trained(out / name, how.backbone, told["input_px"])
    calibrated = calibrate(left_out_cells(windows, out))
    card = _card(windows, how, told, calibrated, _evaluations(windows, out / name, calibrated))
    target = out / f"{card.name}.safetensors"
    write_weights(target, card, model.state_dict())
    kept = kept_features(windows, model, (), told["seed"])
    write_kept_features(features_path(target), kept)
    figures = {"calibration": calibrated.figures, "evaluations": card.evaluations}
    (out / f"{card.name}.figures.json").write_text(json.dumps(figures, indent=1), "utf-8")
    _LOG.info("%s: %d bytes", target, target.stat().st_size)
    return target


def _evaluations(windows: Windows, folder: Path, how: Calibrated) -> list[dict[str, Any]]:
    """Figures of the final network on the val splits of PBC and MLL."""
    with np.load(folder / "unlearned.npz") as arrays:
        rows, logits = arrays["rows"], arrays["logits"]
    found = []
    for laboratory, name in (("pbc", "pbc"), ("mll", "mll-marrow")):
        mine = [
            p
            for p, i in enumerate(rows)
            if windows.cells[i].laboratory == laboratory and windows.cells[i].split == "val"
        ]
        cells = [windows.cells[rows[p]] for p in mine]
        values = logits[np.asarray(mine)]
        right = of_all(values, cells)
        taken, accepted_right = accepted(probs(values, how.temperature, how.shift), cells,
                                         how.threshold)  # fmt: skip
        found.append(
            {
                "data": name,
                "split": "val",
                "use": "coarse groups: fine types of one group count as right",
                "cells": right.of,
                "accuracy": round(right.value, 4),
                "accuracy_limits": [round(v, 4) for v in right.limits()],
                "accepted": round(taken.value, 4),
                "accepted_right": round(accepted_right.value, 4),
                "fine_accuracy": round(_fine_accuracy(values, cells), 4),
                "recall": {k: round(v.value, 4) for k, v in by_group(values, cells).items()},
                "blasts_accepted_as_blasts": _blasts(values, cells, how),
            }
        )
    return found


def _fine_accuracy(logits: NDArray[np.float32], cells: Sequence[Cell]) -> float:
    """Share of the cells with a fine label whose likeliest type is this one."""
    kept = [i for i, c in enumerate(cells) if c.label in TYPES]
    best = logits[np.asarray(kept)].argmax(1)
    return float(np.mean([TYPES[b] == cells[i].label for b, i in zip(best, kept, strict=True)]))


def _blasts(logits: NDArray[np.float32], cells: Sequence[Cell], how: Calibrated) -> list[int]:
    """Blasts that are accepted as such, and all."""
    chances = probs(logits, how.temperature, how.shift)
    blast = TYPES.index("blast")
    called = (chances.argmax(1) == blast) & (chances.max(1) >= how.threshold)
    true = np.array([c.label == "blast" for c in cells])
    return [int((called & true).sum()), int(true.sum())]


def _card(
    windows: Windows,
    how: Training,
    told: dict[str, Any],
    calibrated: Calibrated,
    evaluations: Sequence[dict[str, Any]],
) -> ClassifierCard:
    cells = [windows.cells[i] for i in learned_rows(windows.cells, (), untyped=False)]
    counts = Counter((c.laboratory, c.label) for c in cells)
    learned: dict[str, dict[str, int]] = {}
    for (laboratory, label), number in sorted(counts.items()):
        learned.setdefault(laboratory, {})[label] = number
    facts = told["card"]
    return dataclasses.replace(
        serving_card(told["input_px"], facts["name"]),
        version=__version__,
        architecture=ClassifierArchitecture(f"timm/{how.backbone}", {}, "softmax"),
        temperature=round(calibrated.temperature, 4),
        prior={t: round(v, 6) for t, v in calibrated.prior.items()},
        trained_prior={t: 1 / len(TYPES) for t in TYPES},
        review_below=calibrated.threshold,
        data=tuple(facts["data"]),
        training={
            **dataclasses.asdict(how),
            "augment": told["augment"],
            "seed": told["seed"],
            "cells": learned,
            "calibration": calibrated.figures,
        },
        evaluations=tuple(evaluations),
        notes=tuple(facts["notes"]),
    )
