"""Training a classifier: data in, run folder with weights, card, metrics and curves out.

Selection of the best weights, temperature and threshold come from a held-out part of train; the
data's val split is looked at once, at the end.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from cellcount import __version__, plugins
from cellcount.datasets.crop_set import CropSet
from cellcount.datasets.crop_writer import write_crop_table
from cellcount.datasets.splits import SPLITS_FILE
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import load_classifier
from cellcount.errors import UsageError
from cellcount.evaluation.classification import ClassificationReport, evaluate_classification
from cellcount.models.classifier import Classifier, create_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
)
from cellcount.models.taxonomy import taxonomies
from cellcount.models.weights import read_classifier_card, resolve, write_card
from cellcount.outputs.charts import draw_confusion
from cellcount.training.classifier.data import ClassifierData, LabelledCells, Report, prepare
from cellcount.training.classifier.one_vs_rest import train_one_versus_rest
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.start import freeze_start, grown_card, new_model
from cellcount.training.classifier.task import ClassifierTask, plain_crops
from cellcount.training.distributed import process_group
from cellcount.training.known_rows import told_classes
from cellcount.training.loop import LoopRun, begin_run, fit
from cellcount.training.run_folder import WEIGHTS_FILE
from cellcount.training.settings import TrainRun

_ROUNDING = 1e-6  # one of the two accuracies is of single precision; a cell is far more


def train_classifier(
    crops: CropSet, settings: ClassifierTraining, run: TrainRun, report: Report
) -> Path:
    """Trains a classifier and returns its weight file.

    Args:
        crops: labelled cells, as ``classifier_data.read_training_crops`` reads them.
        settings: decide the outcome.
        run: where and with what.
        report: takes one line of text for the person who waits.

    Raises:
        UsageError: the run folder holds another training, or --resume finds none; labels or
            mapping do not fit.
        AnnotationError: the data cannot be trained on.
    """
    if settings.frozen_start and not (settings.init or run.pretrained):
        raise UsageError(
            f"frozen_start is {settings.frozen_start:g}, but layers of random weights must learn; "
            "name a model to start from with --init or --pretrained, or leave it at 0"
        )
    loop = begin_run(settings, run, report)
    ranks, device, report = loop.ranks, loop.device, loop.report
    data = prepare(crops, settings, [path.name for path in run.data], report)
    report(
        f"{len(data.train)} cells to train on, {len(data.held_out)} held out of train, "
        f"{len(data.val)} to report on; types {', '.join(t.id for t in data.types)}"
    )
    if data.made:
        report(
            f"the data has no split, so one was made: {data.made}; it stands in "
            f"{run.out / SPLITS_FILE}"
        )
    for note in data.notes:
        report(f"note: {note}")
    if settings.window_rbc and settings.rbc_px is None:
        report(
            "warning: the size of red cells is not given, so whole pictures are taken for windows "
            f"of {settings.window_rbc:g} red-cell diameters; give it with --rbc-px, or --window 0"
        )
    if ranks.is_first:
        write_crop_table(run.out / SPLITS_FILE, data.divided.items)
    card, start = build_card(settings, data, run), None
    if settings.init:
        card = grown_card(card, settings.init)
        start = start_score(settings.init, data, run, loop)
    with process_group(ranks, device):
        if settings.scheme == "ovr":
            train_one_versus_rest(card, settings, data, loop, run)
        else:
            model = new_model(card, settings.seed, run, settings.init).to(device)
            if settings.frozen_start:
                told = freeze_start(model, settings.frozen_start)
                report(f"the first {told} layers keep the weights that they start from")
            torch.manual_seed(settings.seed + 1000 * ranks.rank)
            task = ClassifierTask(settings, data, card, run.out, device)
            fit(model, task, settings, loop, score="score")
    weights = run.out / WEIGHTS_FILE
    accuracy = evaluate_on_unseen(weights, data, run, report) if ranks.is_first else None
    report(f"weights: {weights}")
    if left := data.divided.splits().get("test"):
        report(
            f"{left} cells of test were not looked at; when everything is decided: cellcount "
            f"evaluate classifier {run.out / SPLITS_FILE} --classifier {run.out} --split test"
        )
    if start is not None and accuracy is not None and is_worse(accuracy, start):
        report(
            f"warning: accuracy {accuracy:.4f} is below the {start:.4f} of {settings.init}, which "
            "this training started from, on the same cells: keep that model, or train longer or at "
            "a lower --lr"
        )
    return weights


def is_worse(accuracy: float, start: float) -> bool:
    """Tell whether an accuracy is below another by more than the rounding of either."""
    return accuracy < start - _ROUNDING


def start_score(init: str, data: ClassifierData, run: TrainRun, loop: LoopRun) -> float | None:
    """Measure and report the accuracy of the model that the training starts from; None if unknown.

    It is judged on the cells that the trained model will be reported on: val's, else those held
    out of train. A cell of a type that it does not know counts as wrong.
    """
    cells, split = (data.val, "val") if len(data.val) else (data.held_out, "held out of train")
    if not len(cells) or not loop.ranks.is_first:
        return None
    classifier = load_classifier(
        resolve(init), EngineOptions(run.device, plugin_folder=run.plugins)
    )
    known = [t.id for t in classifier.card.types]
    names = [t.id for t in data.types]
    for line in told_classes(names, known, classifier.card.name):
        loop.report(line)
    best = classifier.probs(plain_crops(cells, classifier.card)).argmax(axis=1)
    right = sum(known[b] == names[t] for b, t in zip(best, cells.labels, strict=True))
    loop.report(
        f"{classifier.card.name}, which this training starts from, has accuracy "
        f"{right / len(cells):.4f} on the {len(cells)} cells {split}"
    )
    return float(right / len(cells))


def build_card(settings: ClassifierTraining, data: ClassifierData, run: TrainRun) -> ClassifierCard:
    """The card of a training that is about to start."""
    options = {**_size_option(settings, run), **settings.options}
    with torch.random.fork_rng(devices=[]):
        facts = cast(
            Classifier,
            create_classifier(settings.backbone, 2, plugin_folder=run.plugins, **options),
        )
    return ClassifierCard(
        name=settings.name,
        version=__version__,
        types=data.types,
        taxonomy=data.taxonomy.name if data.taxonomy.name in taxonomies() else "",
        license="Apache-2.0",
        architecture=ClassifierArchitecture(settings.backbone, options, settings.scheme),
        crop=CropRule(settings.window_rbc, settings.rbc_px, settings.contour),
        preprocessing=ClassifierPreprocessing(
            input_px=facts.input_size,
            mean=facts.mean,
            std=facts.std,
            interpolation=facts.interpolation,  # type: ignore[arg-type]
            white_balance=settings.white_balance,
        ),
        data=data.sources,
        training=dataclasses.asdict(settings),
        notes=data.notes,
    )


def _size_option(settings: ClassifierTraining, run: TrainRun) -> dict[str, int]:
    """Return the option that sets the side of the input; none for a plugin of one size alone."""
    if not settings.input_px:
        return {}
    if settings.backbone.startswith("timm/"):
        return {"input_px": settings.input_px}
    build = plugins.find(plugins.CLASSIFIERS, settings.backbone, folder=run.plugins)
    known = inspect.signature(build).parameters
    return {"image_size": settings.input_px} if "image_size" in known else {}


def evaluate_on_unseen(
    weights: Path, data: ClassifierData, run: TrainRun, report: Report
) -> float | None:
    """Enter into the card the scores of the model on cells that it did not learn from.

    These are val's, which are looked at once and printed; where there are none, those held out of
    train, which did choose the weights and the temperature: the card says so. Their confusions
    are what ``analyze --adjust card`` undoes.

    Returns:
        The accuracy; None where there are no such cells.
    """
    if len(data.val):
        result = _evaluated(weights, data.val, run)
        _enter(weights, result, {"data": data.sources[0]["name"], "split": "val"})
        _write_val(run.out, read_classifier_card(weights), result)
        report(val_line(result))
        return result.strict.accuracy
    if len(data.held_out):
        result = _evaluated(weights, data.held_out, run)
        split = "held out of train, which chose the weights"
        _enter(weights, result, {"data": data.sources[0]["name"], "split": split})
        return result.strict.accuracy
    return None


def _evaluated(weights: Path, cells: LabelledCells, run: TrainRun) -> ClassificationReport:
    card = read_classifier_card(weights)
    classifier = load_classifier(weights, EngineOptions(run.device, plugin_folder=run.plugins))
    probs = classifier.probs(plain_crops(cells, card))
    return evaluate_classification(
        np.asarray(cells.labels, np.int64), probs, [t.id for t in card.types]
    )


def _enter(weights: Path, result: ClassificationReport, about: dict[str, str]) -> None:
    """Adds an evaluation to the card; its confusion matrix is in the order of the types."""
    evaluation: dict[str, Any] = {
        **about,
        "cells": result.cells,
        "accuracy": result.strict.accuracy,
        "accuracy_limits": result.accuracy_wilson,
        "macro_f1": result.strict.macro_f1,
        "mcc": result.strict.mcc,
        "ece": result.ece,
        "confusion": result.confusion.tolist(),
    }
    plain = json.loads(json.dumps(evaluation))
    card = read_classifier_card(weights)
    write_card(weights, dataclasses.replace(card, evaluations=(plain,)))


def _write_val(out: Path, card: ClassifierCard, result: ClassificationReport) -> None:
    """Write the confusion matrix as a chart, and every score."""
    draw_confusion(
        out / "confusion.png",
        [t.abbreviation or t.id for t in card.types],
        result.confusion,
        f"{card.name}: {result.cells} cells of val",
    )
    (out / "val.json").write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")


def val_line(result: ClassificationReport) -> str:
    """Put the main scores on one line."""
    scores, limits = result.strict, result.accuracy_wilson or (0.0, 0.0)
    return (
        f"val, {result.cells} cells: accuracy {scores.accuracy:.4f} "
        f"({limits[0]:.4f}–{limits[1]:.4f}), macro F1 {scores.macro_f1:.4f}"
    )
