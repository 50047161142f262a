"""Gain of a classifier from ten cells a type of a laboratory that it never saw.

    python -m tools.types.adapt_draws DATA OUT CHECKPOINT LABORATORY [--unlabelled]

Draws ten cells of each of the five mature types, on half of its slides where a type has several,
adapts the last layer as ``cellcount adapt classifier`` does, and counts on the other cells: those
of other slides where there are some. The base is a training without the laboratory (``make``),
whose folder CHECKPOINT is called as in ``settings.toml``. With ``--unlabelled`` the draws are made
again with statistics re-estimated from up to 512 white cells of the laboratory that are not counted
on, or, of a small laboratory, from all of its white cells. OUT takes windows, features and figures;
features are kept, so that further draws are cheap.

Shapes: N cells, V views, F features, K types; features (N, V, F).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from cellcount.adapt.choose import chosen
from cellcount.adapt.last_layer import Examples, LastLayer, are_right
from cellcount.adapt.norm_statistics import SHARES, reestimated
from cellcount.adapt.unlabelled_cells import MOST_UNLABELLED
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier
from cellcount.files.atomic import atomic_write
from cellcount.files.digest import sha256_of
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.kept_features import KeptFeatures
from cellcount.models.weights import read_classifier_card, resolve
from tools.types.augment import Augment, augmented
from tools.types.cells import FIVE, NO_WHITE_TYPES, TYPES, Cell, allowed, coarse
from tools.types.gather import gathered
from tools.types.kept import kept_features
from tools.types.make import read_runs, settings, trained
from tools.types.network import window_features
from tools.types.windows import Windows

_LOG = logging.getLogger(__name__)
_CELLS_A_TYPE = 10
_VIEWS = 6
_BATCH = 32
#: Of a laboratory with fewer cells besides those counted on, all are unlabelled ones.
_FEWEST_UNLABELLED = 100
#: Changes of the further views; much milder than those of the training.
_MILD: dict[str, Any] = {
    "wide_share": 0.0, "scale": (0.85, 1.18), "stain_mix": 0.05, "stain_strength": 0.12,
    "strange_stain": 0.0, "hue_share": 0.0, "saturation": 0.1, "haze_share": 0.0, "gains": 0.03,
    "gamma": 0.1, "grey_share": 0.0, "blur_share": 0.15, "blur_px": (0.3, 1.0), "jpeg_share": 0.0,
    "noise_share": 0.2, "noise": 0.01,
}  # fmt: skip


def draw(cells: Sequence[Cell], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Places of the cells to adapt to, and of those to count on."""
    learned, counted = list[int](), list[int]()
    for name in FIVE:
        mine = [i for i, c in enumerate(cells) if coarse(c.label) == name]
        slides = rng.permutation(sorted({cells[i].slide for i in mine})).tolist()
        if len(slides) > 1:
            number = len(slides) // 2
            while (
                number < len(slides) - 1
                and sum(cells[i].slide in slides[:number] for i in mine) < _CELLS_A_TYPE
            ):
                number += 1
            pool = [i for i in mine if cells[i].slide in slides[:number]]
            counted += [i for i in mine if cells[i].slide not in slides[:number]]
        else:
            pool = mine
        taken = rng.choice(pool, min(_CELLS_A_TYPE, len(pool) // 2), replace=False).tolist()
        learned += taken
        if len(slides) < 2:
            counted += [i for i in mine if i not in set(taken)]
    return sorted(learned), sorted(counted)


def features_of(
    windows: Windows, rows: Sequence[int], models: Sequence[nn.Module], how: Augment
) -> NDArray[np.float32]:
    """Features of the served windows and of changed ones by each network, (S, N, V, F)."""
    px, found = windows.served.shape[1], []
    for start in range(0, len(rows), _BATCH):
        part = np.asarray(rows[start : start + _BATCH])
        views = [torch.from_numpy(windows.served[part]).permute(0, 3, 1, 2).float() / 255]
        for view in range(_VIEWS):
            rng = np.random.default_rng([view, start])
            views.append(augmented(windows.canvases[part], windows.rims[part], px, how, rng))
        found.append(
            [np.stack([window_features(model, view) for view in views], 1) for model in models]
        )
    return np.stack([np.concatenate(parts) for parts in zip(*found, strict=True)])


def unlabelled_rows(cells: Sequence[Cell], laboratory: str, counted: Sequence[int]) -> list[int]:
    """Rows of white cells whose label is not looked at, in a fixed random order."""
    white = [
        i
        for i, c in enumerate(cells)
        if c.laboratory == laboratory and not c.stain and c.label not in NO_WHITE_TYPES
    ]
    others = sorted(set(white) - set(counted))
    taken = others if len(others) >= _FEWEST_UNLABELLED else white
    return [int(i) for i in np.random.default_rng(0).permutation(taken)[:MOST_UNLABELLED]]


def with_statistics(
    model: nn.Module, card: ClassifierCard, windows: Windows, rows: Sequence[int], share: float
) -> nn.Module:
    """The network under statistics mixed with those of some cells."""
    classifier = CropClassifier(model, card, EngineOptions("cpu", "fp32"))
    statistics = reestimated(classifier, list(windows.served[np.asarray(rows)]), share)
    other = copy.deepcopy(model)
    other.load_state_dict({**other.state_dict(), **statistics})
    return other.eval()


def base_layer(model: nn.Module, card: ClassifierCard) -> LastLayer:
    """The last layer of a training, scored as the packaged card says."""
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    shift = np.log([card.prior[t] * len(TYPES) for t in TYPES])
    weight, bias = (t.detach().double().numpy() for t in (last.weight, last.bias))
    return LastLayer(weight, bias, card.temperature, np.asarray(shift))


def gains(
    cells: Sequence[Cell],
    features: NDArray[np.float32],
    base: LastLayer,
    kept: KeptFeatures,
    draws: int,
    by_share: Mapping[float, NDArray[np.float32]] | None = None,
) -> list[dict[str, Any]]:
    """Shares of cells typed rightly before and after, of each draw."""
    meant = np.array([[t in allowed(c.label) for t in TYPES] for c in cells])
    number = {slide: i for i, slide in enumerate(sorted({c.slide for c in cells}))}
    groups = np.array([number[c.slide] if c.slide else len(number) + i
                       for i, c in enumerate(cells)])  # fmt: skip
    others = KeptFeatures(kept.features[1::2], kept.allowed[1::2])
    kept = KeptFeatures(kept.features[::2], kept.allowed[::2])
    rows = []
    for seed in range(draws):
        learned, counted = draw(cells, np.random.default_rng(seed))
        own = np.asarray(learned)
        restated = {share: seen[own] for share, seen in (by_share or {}).items()}
        examples = Examples(features[own], meant[own], groups[own], restated)
        found = chosen(base, examples, kept)
        better = found.is_better(examples)
        layer = found.layer if better else base
        share = found.method.share if better else 0.0
        told = {"draw": seed, "cells": len(learned), "way": found.method.words, "share": share}
        for name, one in (("before", base), ("after", layer)):
            seen = (by_share or {})[share] if share and name == "after" else features
            scores = one.scores(seen[np.asarray(counted), 0])
            told[name] = round(float(are_right(scores, meant[counted]).mean()), 4)
            told[f"{name}_five"] = round(_of_five(scores, [cells[i] for i in counted]), 4)
            right = are_right(one.scores(others.features), others.allowed)
            told[f"{name}_other_laboratories"] = round(float(right.mean()), 4)
        told["told"] = [int(right.sum()) for right in found.right(examples)]
        _LOG.info("%s", told)
        rows.append(told)
    return rows


def _of_five(scores: NDArray[np.float64], cells: Sequence[Cell]) -> float:
    """Share of the cells whose likeliest of the five types is right."""
    sums = np.array([[float(coarse(t) == name) for name in FIVE] for t in TYPES])
    best = (softmax(scores, axis=1) @ sums).argmax(1)
    return float(np.mean([FIVE[b] == coarse(c.label) for b, c in zip(best, cells, strict=True)]))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Medians and the worst gain over all draws."""
    found: dict[str, float] = {}
    for kind in ("", "_five", "_other_laboratories"):
        before, after = (np.array([r[f"{n}{kind}"] for r in rows]) for n in ("before", "after"))
        found |= {
            f"before{kind}": float(np.median(before)),
            f"after{kind}": float(np.median(after)),
            f"gain{kind}": float(np.median(after - before)),
            f"worst{kind}": float((after - before).min()),
        }
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="folder for windows, features and figures")
    parser.add_argument("checkpoint", type=Path, help="folder of a training without the laboratory")
    parser.add_argument("laboratory")
    parser.add_argument("--unlabelled", action="store_true", help="re-estimate statistics, too")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--most", type=int, default=100, help="cells a type; their choice is fixed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    told = settings()
    run = read_runs(told)[options.checkpoint.name]
    laboratory = options.laboratory
    if laboratory not in run.leave_out:
        parser.error(f"{run.name} leaves out {', '.join(run.leave_out)}")
    windows = gathered(
        options.data, options.out / "windows", told["seed"], told["input_px"], told["chula_rbc_px"]
    )
    rows = laboratory_rows(windows.cells, laboratory, options.most)
    base = trained(options.checkpoint, run.training.backbone, told["input_px"])
    card = read_classifier_card(resolve("cell-types"))
    shares = SHARES if options.unlabelled else ()
    others = unlabelled_rows(windows.cells, laboratory, rows)

    def computed() -> NDArray[np.float32]:
        models = [base, *(with_statistics(base, card, windows, others, s) for s in shares)]
        return features_of(windows, rows, models, Augment(**{**told["augment"], **_MILD}))

    digest = sha256_of(options.checkpoint / "last.checkpoint")[:12]
    name = f"{laboratory}-{len(rows)}-{len(shares) + 1}-{digest}.npy"
    features, *restated = stored(options.out / "features" / name, computed)
    kept = kept_features(windows, base, run.leave_out, told["seed"])
    cells, layer = [windows.cells[i] for i in rows], base_layer(base, card)
    result: dict[str, Any] = {"laboratory": laboratory, "base": run.name, "cells": len(rows)}
    ways = {"labelled": dict[float, NDArray[np.float32]]()}
    if shares:
        ways["unlabelled"] = dict(zip(shares, restated, strict=True))
        result["unlabelled_cells"] = len(others)
    for way, by_share in ways.items():
        found = gains(cells, features, layer, kept, options.draws, by_share)
        result[way] = {**summary(found), "draws": found}
        _LOG.info("%s, %s: %s", laboratory, way, summary(found))
    path = options.out / f"adapt-{laboratory}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def stored(path: Path, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """An array from a file, which is written where it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, compute())
    found: NDArray[np.float32] = np.load(path)
    return found


def laboratory_rows(cells: Sequence[Cell], laboratory: str, most: int) -> list[int]:
    """Rows of the five types of a laboratory, at most so many of each."""
    rows = list[int]()
    for name in FIVE:
        mine = [
            i
            for i, c in enumerate(cells)
            if c.laboratory == laboratory and c.label and coarse(c.label) == name
        ]
        rows += np.random.default_rng(0).permutation(mine)[:most].tolist()
    return sorted(rows)


if __name__ == "__main__":
    main()
