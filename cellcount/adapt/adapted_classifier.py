"""A classifier adapted to a laboratory: from its labelled cells to a weight file with its figures.

Shapes: N cells, V views, F features, K types; features (N, V, F).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellcount.adapt.cell_features import seen
from cellcount.adapt.choose import Chosen, chosen
from cellcount.adapt.gain_figures import Figures, StatisticsFigures, figures_of
from cellcount.adapt.laboratory_cells import LaboratoryCells, labelled_cells
from cellcount.adapt.last_layer import Examples, LastLayer
from cellcount.adapt.norm_statistics import SHARES, reestimated
from cellcount.adapt.result_folder import base_facts, new_weights_path, write_figures
from cellcount.adapt.unlabelled_cells import UnlabelledCells, unlabelled_cells
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier, load_classifier, prior_shift
from cellcount.errors import CellcountError, UsageError
from cellcount.files.text import listed
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.kept_features import features_path, read_kept_features
from cellcount.models.weights import read_classifier_weights, resolve, write_weights
from cellcount.outputs.columns import Column, TypedTable
from cellcount.outputs.tables import single, write_table
from cellcount.training.run_folder import WEIGHTS_FILE

FEWEST_CELLS = 10
"""Cells of some type from which anything is learned."""
_SHOWN = 3
_BATCH = 16
CELLS_FILE = "cells.csv"

CELLS_COLUMNS = (
    Column("path", "text", "", "picture of the cell, or the field it lies in"),
    Column("x_min_px", "float", "px", "left side of its box; empty where the picture is the cell",
           ".2f"),
    Column("y_min_px", "float", "px", "upper side of its box", ".2f"),
    Column("x_max_px", "float", "px", "right side of its box", ".2f"),
    Column("y_max_px", "float", "px", "lower side of its box", ".2f"),
    Column("slide", "text", "", "slide or patient, where one is named"),
    Column("label", "text", "", "type that the laboratory gave"),
    Column("fold", "int", "", "cells of one number were held out together"),
    Column("type_before", "text", "", "likeliest type before"),
    Column("type_after", "text", "", "likeliest type by a layer refitted without its fold"),
    Column("right_before", "bool", "", "whether `type_before` is what the label means"),
    Column("right_after", "bool", "", "whether `type_after` is"),
)  # fmt: skip
"""cells.csv of an adaptation, one row per labelled cell."""


class NotBetterError(CellcountError):
    """The adapted classifier would not be better.

    Attributes:
        figures: that say so.
        cells: the labelled cells that they rest on.
    """

    def __init__(self, figures: Figures, cells: LaboratoryCells) -> None:
        before, after = figures.before, figures.after
        super().__init__(
            "adapting would not make the classifier better, so nothing was written: on slides "
            f"left out, {before.right.right} of {before.right.cells} cells are typed rightly "
            f"before and {after.right.right} after (loss {before.loss:.3f} and {after.loss:.3f}); "
            "label more cells, of more slides and above all of types that are confused"
        )
        self.figures, self.cells = figures, cells


@dataclass(frozen=True, slots=True)
class AdaptRequest:
    """Request to adapt a classifier to a laboratory's cells.

    Attributes:
        cells: a folder per type, a table, boxes with types, or a reviewed run.
        classifier: packaged name, weight file or run.
        out: folder of the result.
        name: of the adapted classifier; "" for the base's with ``-adapted``.
        rbc_px: red-cell diameter in the pictures' pixels where the data do not say it.
        device: where the network computes.
        plugins: folder of plugins that the user named.
        unlabelled: results of a run, or pictures of single cells, of which statistics of
            normalisation are re-estimated; None for the packaged ones.
    """

    cells: Path
    classifier: str
    out: Path
    name: str = ""
    rbc_px: float | None = None
    device: str = "auto"
    plugins: Path | None = None
    unlabelled: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AdaptedClassifier:
    """Result of an adaptation.

    Attributes:
        weights: the adapted weight file.
        card: its card.
        base: card of the classifier it was made of.
        figures: before and after.
        cells: the labelled cells that were used.
        unseen: types of the classifier without a labelled cell.
        kept: cells of the base's training that stood for these.
    """

    weights: Path
    card: ClassifierCard
    base: ClassifierCard
    figures: Figures
    cells: LaboratoryCells
    unseen: tuple[str, ...]
    kept: int


def adapt_classifier(
    request: AdaptRequest,
    on_cell: Callable[[int], Callable[[], None]] | None = None,
    read_cells: Callable[[Path, ClassifierCard], LaboratoryCells] = labelled_cells,
) -> AdaptedClassifier:
    """Adapt a classifier to labelled cells and write it with its figures.

    Args:
        request: the classifier, the cells and the folder for the result.
        on_cell: given the number of cells, returns what is called after each.
        read_cells: reads the cells for a card; another one may hold the journal of a run open.

    Raises:
        UsageError: too few cells, or the classifier cannot be adapted.
        AnnotationError: the cells cannot be read.
        NotBetterError: the result would not be better; nothing is written.
        OutputError: the folder cannot be written.
    """
    target = new_weights_path(request.out)
    weights = resolve(request.classifier)
    options = EngineOptions(request.device, "fp32", _BATCH, request.plugins)
    classifier = load_classifier(weights, options)
    base = layer_of(classifier)
    cells = read_cells(request.cells, classifier.card)
    _check_enough(cells)
    others, statistics = _statistics(request, weights, options)
    classifiers = [classifier, *(load_classifier(weights, options, s) for s in statistics.values())]
    tick = on_cell(len(cells.items)) if on_cell else lambda: None
    looked = seen(cells.items, classifiers, request.rbc_px, tick)
    lost = (*cells.problems, *looked.problems, *(others.problems if others else ()))
    cells = dataclasses.replace(cells.kept(looked.places), problems=lost)
    _check_enough(cells)
    features, *restated = looked.features
    by_share = dict(zip(statistics, restated, strict=True))
    examples = Examples(features, cells.allowed, cells.groups, by_share)
    kept = read_kept_features(weights, base.weight.shape[1], len(base.bias))
    found = chosen(base, examples, kept)
    figures = figures_of(found, examples, cells, classifier.card.least_probs)
    if request.unlabelled and others:
        about = StatisticsFigures.of(found, request.unlabelled.name, len(others.crops))
        figures = dataclasses.replace(figures, statistics=about)
    if not found.is_better(examples):
        raise NotBetterError(figures, cells)
    unseen = [t.id for i, t in enumerate(classifier.card.types) if not cells.allowed[:, i].any()]
    card = _card(classifier.card, weights, request, figures, cells)
    name, _ = classifier.last_layer
    changed = statistics.get(found.method.share, {}) | _tensors(name, found.layer)
    _write(card, weights, changed, request.out)
    base_of = base_facts(classifier.card, weights)
    write_figures(request.out, {"base": base_of, **figures.facts(), "unseen": unseen})
    rows = map(single, _rows(found, examples, cells, card))
    write_table(request.out / CELLS_FILE, TypedTable("cells", CELLS_COLUMNS, rows))
    return AdaptedClassifier(
        target, card, classifier.card, figures, cells, tuple(unseen), len(kept.features)
    )


def _statistics(
    request: AdaptRequest, weights: Path, options: EngineOptions
) -> tuple[UnlabelledCells | None, dict[float, dict[str, Tensor]]]:
    """The unlabelled cells, and by share the network's statistics mixed with theirs."""
    if request.unlabelled is None:
        return None, {}
    classifier = load_classifier(weights, options, fold=False)
    cells = unlabelled_cells(request.unlabelled, classifier.card, request.rbc_px)
    return cells, {share: reestimated(classifier, cells.crops, share) for share in SHARES}


def layer_of(classifier: CropClassifier) -> LastLayer:
    """The last layer of a classifier.

    Raises:
        UsageError: it has none, or one without offsets.
    """
    _, last = classifier.last_layer
    if last.bias is None:
        raise UsageError(
            f"the last layer of the classifier {classifier.card.name!r} has no offsets (bias), "
            "which an adaptation changes; choose another classifier"
        )
    weight, bias = (t.detach().double().cpu().numpy() for t in (last.weight, last.bias))
    shift = prior_shift(classifier.card).double().numpy()
    return LastLayer(weight, bias, classifier.card.temperature, shift)


def _check_enough(cells: LaboratoryCells) -> None:
    most = max(cells.by_label().values(), default=0)
    if most < FEWEST_CELLS:
        unknown = [
            f"{count} of {label!r}, which is no type of the classifier"
            for label, count in sorted(cells.left_out.items())
        ]
        lost = listed([*unknown, *cells.told_problems()], _SHOWN)
        raise UsageError(
            f"the type with the most labelled cells has {most}, expected {FEWEST_CELLS} or more "
            f"of one type at least; label more cells{lost and f' (problems: {lost})'}"
        )


def _card(
    base: ClassifierCard,
    weights: Path,
    request: AdaptRequest,
    figures: Figures,
    cells: LaboratoryCells,
) -> ClassifierCard:
    facts = {
        "base": base_facts(base, weights),
        "data": request.cells.name,
        "cells": cells.by_label(),
        **figures.facts(),
    }
    before, after = figures.before.right, figures.after.right
    data = [{"name": request.cells.name, "use": "last layer", "cells": after.cells}]
    others, told = figures.statistics, ""
    if others is not None and others.share:
        told = (
            "Statistics of normalisation were re-estimated from "
            f"{others.cells} unlabelled cells and have a share of {others.share:g}. "
        )
        data.append(
            {"name": others.data, "use": "statistics of normalisation", "cells": others.cells}
        )
    note = (
        f"Adapted from {base.name} {base.version} to one laboratory's {after.cells} labelled "
        f"cells: {before.right} of them typed rightly before, {after.right} after, each by a "
        f"layer that had not seen its slide. {told}Notes and data of the base follow."
    )
    return dataclasses.replace(
        base,
        name=request.name or f"{base.name}-adapted",
        data=(*base.data, *data),
        training={**base.training, "adapted": facts},
        evaluations=(),  # those of the base were made with other weights
        notes=(note, *base.notes),
    )


def _tensors(name: str, layer: LastLayer) -> dict[str, Tensor]:
    """The tensors of a last layer of that name."""
    weight, bias = (torch.from_numpy(values).float() for values in (layer.weight, layer.bias))
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _write(card: ClassifierCard, weights: Path, changed: dict[str, Tensor], out: Path) -> None:
    """Write the weight file, and beside it a copy of the cell features of the base's training."""
    _, state = read_classifier_weights(weights)
    write_weights(out / WEIGHTS_FILE, card, {**state, **changed})
    if features_path(weights).is_file():
        shutil.copyfile(features_path(weights), features_path(out / WEIGHTS_FILE))


def _rows(
    found: Chosen, examples: Examples, cells: LaboratoryCells, card: ClassifierCard
) -> Iterator[dict[str, Any]]:
    before, after = found.right(examples)
    best = [np.argmax(scores, axis=1) for scores in (found.before, found.after)]
    corners = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
    for place, item in enumerate(cells.items):
        yield {
            "path": cells.codes.get(item.path, item.path.as_posix()),
            **dict(zip(corners, item.box_xyxy or (None,) * 4, strict=True)),
            "slide": item.patient or item.slide,
            "label": item.label,
            "fold": int(found.folds[place]) + 1,
            "type_before": card.types[best[0][place]].id,
            "type_after": card.types[best[1][place]].id,
            "right_before": bool(before[place]),
            "right_after": bool(after[place]),
        }
