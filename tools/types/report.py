"""Figures beyond those of the trainings: changed pictures, and what features tell of laboratories.

    python -m tools.types.report DATA_FOLDER OUT_FOLDER

Shapes: N cells, F features.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellcount.core.records import ImageRef
from cellcount.evaluation.classifier_run import RESIZES
from cellcount.evaluation.perturbations import variants
from cellcount.images.read import read_image
from tools.types.cells import Cell, coarse
from tools.types.evaluate import Share, of_groups
from tools.types.gather import gathered
from tools.types.make import read_runs, settings, trained
from tools.types.network import features, served_logits
from tools.types.windows import Windows, served_window, serving_card

_LOG = logging.getLogger(__name__)
_MAX_PIXELS = 200_000_000

_BLOOD = (
    "neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig", "erythroblast",
    "platelet",
)  # fmt: skip
_PER_LABORATORY = 60


def changed_pictures(
    model: torch.nn.Module, windows: Windows, input_px: int, each: int
) -> dict[str, Share]:
    """Share of PBC's val that is right in eight groups under each change, size not told.

    Args:
        model: the network.
        windows: of all cells.
        input_px: side of the input.
        each: every so many cells are looked at.
    """
    cells = [c for c in windows.cells if c.laboratory == "pbc" and c.split == "val" and c.label]
    cells = [c for c in cells if not c.box and coarse(c.label) in _BLOOD][::each]
    card = serving_card(input_px)
    pictures = [
        read_image(ImageRef(c.path, c.path.name, ""), max_pixels=_MAX_PIXELS).pixels for c in cells
    ]
    found = {}
    for variant in variants(RESIZES):
        served = [
            served_window(variant.apply(p), c, card) for p, c in zip(pictures, cells, strict=True)
        ]
        logits = served_logits(model, np.stack(served), range(len(served)))
        found[variant.name] = of_groups(logits, cells, _BLOOD)
        _LOG.info("%s: %s", variant.name, found[variant.name])
    return found


def laboratory_from_features(
    model: torch.nn.Module, windows: Windows, seed: int
) -> dict[str, dict[str, float]]:
    """Return the accuracy with which a line through the features tells the laboratory of a type.

    Returns for each shared type the share of cells whose laboratory is told rightly in five
    folds, and the share that always naming the commonest would reach.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for group in ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"):
        rows, names = _shared(windows.cells, group, rng)
        values: NDArray[Any] = features(model, windows.served, rows)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        told = cross_val_predict(probe, values, names, cv=folds)
        _, counts = np.unique(names, return_counts=True)
        found[group] = {
            "cells": len(names),
            "laboratories": len(counts),
            "told": round(float((told == names).mean()), 3),
            "by_chance": round(float(counts.max() / len(names)), 3),
        }
        _LOG.info("laboratory of %s: %s", group, found[group])
    return found


def refitted_last_layer(model: torch.nn.Module, windows: Windows, seed: int) -> str:
    """Share of wbc-cells right in five folds by cell when only the last layer learns from them.

    Args:
        model: a network that never saw this laboratory.
        windows: of all cells.
        seed: of the folds.
    """
    rows = [i for i, c in enumerate(windows.cells) if c.laboratory == "chula" and c.label]
    rows = [i for i in rows if windows.cells[i].split == ""]
    names = np.array([windows.cells[i].label for i in rows])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    told = cross_val_predict(probe, features(model, windows.served, rows), names, cv=folds)
    found = Share(int((told == names).sum()), len(names))
    _LOG.info("last layer refitted, wbc-cells in five folds by cell: %s", found)
    return str(found)


def _shared(
    cells: Sequence[Cell], group: str, rng: np.random.Generator
) -> tuple[list[int], NDArray[np.str_]]:
    """Rows of as many cells of a group as there are at most of each laboratory."""
    rows: list[int] = []
    for laboratory in ("pbc", "mll", "raabin", "chula"):
        mine = [
            i
            for i, c in enumerate(cells)
            if c.laboratory == laboratory and c.label and coarse(c.label) == group
        ]
        rows += [int(i) for i in rng.permutation(mine)[:_PER_LABORATORY]]
    return rows, np.array([cells[i].laboratory for i in rows])


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="final", choices=list(settings()["package"]))
    parser.add_argument("--each", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    told = settings()
    folder = options.out / "windows"
    windows = gathered(options.data, folder, told["seed"], told["input_px"], told["chula_rbc_px"])
    how = read_runs(told)[options.name].training
    model = trained(options.out / options.name, how.backbone, told["input_px"])
    unseen_name = told["package"][options.name]["left_out"] + "chula-raabin"
    unseen = trained(options.out / unseen_name, how.backbone, told["input_px"])
    changed = changed_pictures(model, windows, told["input_px"], options.each)
    figures = {
        "changed": {name: share.value for name, share in changed.items()},
        "refitted": refitted_last_layer(unseen, windows, told["seed"]),
        "laboratory": laboratory_from_features(model, windows, told["seed"]),
    }
    target = options.out / f"{options.name}.report.json"
    target.write_text(json.dumps(figures, indent=1), "utf-8")


if __name__ == "__main__":
    main()
