"""From trained networks to a weight file: calibrated on cells of laboratories left out.

Shapes: N cells, K types; logits (N, K).
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.models.classifier_card import ClassifierArchitecture, ClassifierCard
from cellcount.models.kept_features import features_path, write_kept_features
from cellcount.models.weights import write_weights
from tools.types.calibrate import Calibrated, LeftOut, calibrate, left_out_cells
from tools.types.cells import NOT_WHITE, TYPES, Cell
from tools.types.evaluate import accepted, by_group, of_all
from tools.types.kept import kept_features
from tools.types.train import Training, learned_rows
from tools.types.windows import Windows, serving_card

_LOG = logging.getLogger(__name__)


def package(windows: Windows, told: dict[str, Any], out: Path, name: str) -> Path:
    """Writes the weight file of a finished training; returns its path."""
    from tools.types.make import read_runs, trained

    how = read_runs(told)[name].training
    model = trained(out / name, how.backbone, told["input_px"])
    left_out = left_out_cells(windows, out, told["package"][name]["left_out"])
    calibrated = calibrate(left_out, told["rare_prior"], told["seed"])
    evaluations = _evaluations(windows, out / name, calibrated, left_out)
    card = _card(windows, how, told, told["package"][name], calibrated, evaluations)
    target = out / f"{card.name}.safetensors"
    write_weights(target, card, model.state_dict())
    kept = kept_features(windows, model, (), told["seed"])
    write_kept_features(features_path(target), kept)
    figures = {"calibration": calibrated.figures, "evaluations": card.evaluations}
    (out / f"{card.name}.figures.json").write_text(json.dumps(figures, indent=1), "utf-8")
    _LOG.info("%s: %d bytes", target, target.stat().st_size)
    return target


def _evaluations(
    windows: Windows, folder: Path, how: Calibrated, left_out: Sequence[LeftOut]
) -> list[dict[str, Any]]:
    """Figures of the final network on the val splits of PBC and MLL."""
    with np.load(folder / windows.kept_name) as arrays:
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
        taken, accepted_right = accepted(how.chances(values), cells, how.least)
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
    cells = [windows.cells[i] for i in rows]
    val = [p for p, c in enumerate(cells) if c.split == "val" and c.label in TYPES]
    table = _confusion(logits[np.asarray(val)], [cells[p] for p in val], how)
    others = [part.of((NOT_WHITE,)) for part in left_out]
    table += sum(_confusion(part.logits, part.cells, how) for part in others)
    found.append(
        {
            "data": "pbc, mll-marrow",
            "split": "val",
            "use": "cells with a fine label; not_a_white_cell as named by networks that did not "
            "see its laboratory",
            "cells": int(table.sum()),
            "confusion": table.tolist(),
        }
    )
    return found


def _confusion(
    logits: NDArray[np.float32], cells: Sequence[Cell], how: Calibrated
) -> NDArray[np.int64]:
    """Cells by true and by likeliest type (K, K), which `--adjust card` needs."""
    table = np.zeros((len(TYPES), len(TYPES)), np.int64)
    np.add.at(table, ([TYPES.index(c.label) for c in cells], how.chances(logits).argmax(1)), 1)
    return table


def _fine_accuracy(logits: NDArray[np.float32], cells: Sequence[Cell]) -> float:
    """Share of the cells with a fine label whose likeliest type is this one."""
    kept = [i for i, c in enumerate(cells) if c.label in TYPES]
    best = logits[np.asarray(kept)].argmax(1)
    return float(np.mean([TYPES[b] == cells[i].label for b, i in zip(best, kept, strict=True)]))


def _blasts(logits: NDArray[np.float32], cells: Sequence[Cell], how: Calibrated) -> list[int]:
    """Blasts that are accepted as such, and all."""
    chances = how.chances(logits)
    blast = TYPES.index("blast")
    called = (chances.argmax(1) == blast) & (chances.max(1) >= how.least[blast])
    true = np.array([c.label == "blast" for c in cells])
    return [int((called & true).sum()), int(true.sum())]


def _card(
    windows: Windows,
    how: Training,
    told: dict[str, Any],
    own: dict[str, Any],
    calibrated: Calibrated,
    evaluations: Sequence[dict[str, Any]],
) -> ClassifierCard:
    cells = [windows.cells[i] for i in learned_rows(windows.cells, (), untyped=False)]
    counts = Counter((c.laboratory, c.label) for c in cells)
    learned: dict[str, dict[str, int]] = {}
    for (laboratory, label), number in sorted(counts.items()):
        learned.setdefault(laboratory, {})[label] = number
    shared = told["card"]
    return dataclasses.replace(
        serving_card(told["input_px"], own["name"]),
        version=own["version"],
        architecture=ClassifierArchitecture(f"timm/{how.backbone}", {}, "softmax"),
        temperature=round(calibrated.temperature, 4),
        prior={t: round(v, 6) for t, v in calibrated.prior.items()},
        trained_prior={t: 1 / len(TYPES) for t in TYPES},
        review_below=calibrated.threshold,
        review_below_of=calibrated.own_thresholds,
        data=(*shared["data"], *own["data"]),
        training={
            **dataclasses.asdict(how),
            "augment": told["augment"],
            "seed": told["seed"],
            "cells": learned,
            "calibration": calibrated.figures,
        },
        evaluations=tuple(evaluations),
        notes=(*shared["notes"], *own["notes"]),
    )
