"""Start of a detector training from another detector, as far as it fits.

Shapes: K classes without background; rows of the region head (K + 1, ...) and (4 (K + 1), ...),
background first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from cellcount import __version__
from cellcount.core.records import Detections
from cellcount.engines.base import EngineClass
from cellcount.engines.detector_model import Detector
from cellcount.errors import UsageError
from cellcount.files.digest import sha256_of
from cellcount.models.detector_card import DetectorCard, Refinement
from cellcount.models.weights import read_card, read_weights, resolve
from cellcount.training.detector.data import TrainingData, cell_classes
from cellcount.training.detector.settings import DetectorTraining, from_recipe
from cellcount.training.known_rows import rows_by_name, told_classes
from cellcount.training.settings import TrainRun

_BACKGROUND = ""
#: Layers with rows of classes, and how many rows a class has.
_ROWS_OF_CLASSES = {
    "roi_heads.box_predictor.cls_score.": 1,
    "roi_heads.box_predictor.bbox_pred.": 4,
    "refinement.correct.": 1,
}


def build_refinement(settings: DetectorTraining) -> Refinement:
    """Settings of attention refinement, from the settings whose names begin with ``refine_``."""
    names = [f.name for f in dataclasses.fields(Refinement)]
    return Refinement(**{name: getattr(settings, f"refine_{name}") for name in names})


def settings_of(recipe: str, overrides: dict[str, Any]) -> DetectorTraining:
    """Return the settings of a recipe with single values replaced.

    A training from a model by the default recipe brings red cells to the size that the model knows,
    and its crops show as much of a field as by default.

    Raises:
        UsageError: unknown recipe, key or model.
    """
    if recipe != "default" or not overrides.get("init"):
        return from_recipe(recipe, overrides)
    card, usual = read_card(resolve(overrides["init"])), DetectorTraining()
    side = usual.size_px * card.rbc_diameter_px / usual.rbc_diameter_px
    scale = {"rbc_diameter_px": card.rbc_diameter_px, "size_px": max(64, 32 * round(side / 32))}
    return from_recipe(recipe, {**scale, **overrides})


def grown_model(
    settings: DetectorTraining,
    data: TrainingData,
    run: TrainRun,
    engine: EngineClass,
    report: Callable[[str], None],
) -> tuple[DetectorCard, Detector]:
    """The model that ``init`` names, as far as it fits the classes of the data.

    Its architecture, scale, preprocessing and thresholds are kept, and of the region head the rows
    of all classes that both have; classes that it did not know, and a second look that it did not
    have, start at random. ``red_cell_hue`` may be added to its preprocessing.

    Raises:
        UsageError: the settings ask for another scale, or for a hue that it cannot have.
    """
    weights = resolve(settings.init)
    parent, state = read_weights(weights)
    if settings.resize != "rbc" or settings.rbc_diameter_px != parent.rbc_diameter_px:
        raise UsageError(
            f"init {settings.init!r} works at red cells of {parent.rbc_diameter_px:g} px; "
            f"set rbc_diameter_px={parent.rbc_diameter_px:g} and resize=rbc"
        )
    if settings.refine_objective == "actor-critic":
        _check_rewardable(settings, parent)
    before = parent.preprocessing
    if settings.red_cell_hue and not before.white_balance:
        raise UsageError(
            f"red_cell_hue is true, but init {settings.init!r} sees fields in their own colours; "
            "leave red_cell_hue, or start from a model with white balance"
        )
    hue = settings.red_cell_hue or before.red_cell_hue
    classes = cell_classes(data.classes)
    ids = [c.id for c in classes]
    card = dataclasses.replace(
        parent,
        name=settings.name,
        version=__version__,
        classes=classes,
        preprocessing=dataclasses.replace(before, red_cell_hue=hue),
        refinement=build_refinement(settings) if settings.refine_steps else parent.refinement,
        thresholds={k: v for k, v in parent.thresholds.items() if k in ids},
        densest_field=max(len(image.labels) for image in data.train),
        data=(*parent.data, *data.sources),
        training={
            **dataclasses.asdict(settings),
            "init": {"name": parent.name, "sha256": sha256_of(weights)},
        },
        evaluations=(),
    )
    model = engine.build_model(card, run.plugins)
    known = [c.id for c in parent.classes]
    model.take_weights(_fitting(model.weights(), state, ids, known))
    for line in told_classes(ids, known, parent.name):
        report(line)
    return card, model


def under_classes(found: Detections, card: DetectorCard, classes: tuple[str, ...]) -> Detections:
    """Detections of a model with other classes, as those of these classes; others are left out.

    Args:
        found: by the model of the card.
        card: names its classes.
        classes: in whose order labels are wanted.
    """
    order = [classes.index(c.id) if c.id in classes else -1 for c in card.classes]
    labels = np.array(order, np.int64)[found.labels]
    kept = labels >= 0
    return Detections(found.boxes_xyxy[kept], found.scores[kept], labels[kept])


def _fitting(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    classes: list[str],
    known: list[str],
) -> dict[str, Tensor]:
    """Tensors of another model that fit: whole ones, and rows of the classes in common."""
    fitting: dict[str, Tensor] = {}
    for name, tensor in own.items():
        if name not in state:
            continue
        each = next((n for start, n in _ROWS_OF_CLASSES.items() if name.startswith(start)), 0)
        taken: Tensor | None = None
        if each:
            ours, theirs = [_BACKGROUND, *classes], [_BACKGROUND, *known]
            taken = rows_by_name(tensor, state[name], ours, theirs, each=each)
        elif tensor.shape == state[name].shape:
            taken = state[name]
        if taken is not None:
            fitting[name] = taken
    return fitting


def _check_rewardable(settings: DetectorTraining, parent: DetectorCard) -> None:
    """Refuse training by rewards without attention refinement that was trained before."""
    own = parent.refinement
    asked = dataclasses.replace(build_refinement(settings), steps=own.steps)
    if not own.steps:
        raise UsageError(
            f"refine_objective is actor-critic, but init {settings.init!r} has no second look; "
            "teach it one first with refine_objective=supervised"
        )
    if asked != own:
        values = dataclasses.asdict(asked)
        own_values = dataclasses.asdict(own).items()
        said = ", ".join(f"refine_{k}={v}" for k, v in own_values if values[k] != v)
        raise UsageError(
            f"refine_objective is actor-critic, but the second look of init {settings.init!r} is "
            f"another; set {said}"
        )
