"""Several classifiers on the same cells, trained under equal settings or loaded: a paper's table.

Parameters are counted twice: those that are learned, as torch counts, and with the mean and
variance of batch normalisation, as Keras does (batch counters left out). Operations are of one
cell, a multiplication with its addition counting as two. Times are of this machine.

Shapes: none beyond those of a classifier.
"""

from __future__ import annotations

import csv
import dataclasses
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.errors import AnnotationError, CellcountError, UsageError
from cellcount.evaluation.classification import ClassificationReport
from cellcount.evaluation.classifier_run import score, type_labelled
from cellcount.evaluation.cost import flops_of_module
from cellcount.evaluation.perturbations import ORIGINAL
from cellcount.evaluation.true_types import true_types
from cellcount.models.classifier import build_classifier
from cellcount.models.weights import resolve
from cellcount.training import checkpoint
from cellcount.training.classifier.data import prepare
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.train import train_classifier
from cellcount.training.run_folder import WEIGHTS_FILE, claim_folder
from cellcount.training.settings import TrainRun

Report = Callable[[str], None]
_LEARNED_FROM = ("train", "")
_TIMED_CALLS = 5
_KERAS_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a classifier: parameters, operations, time.

    Attributes:
        learned: parameters.
        keras: parameters with the mean and variance of batch normalisation.
        flops: operations of one cell.
        input_px: height and width of its input.
        ms_per_cell: time of one cell in a full batch.
        batch_size: cells in that batch.
        device: what computed it.
    """

    learned: int
    keras: int
    flops: int
    input_px: tuple[int, int]
    ms_per_cell: float
    batch_size: int
    device: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of the comparison.

    Attributes:
        name: the classifier as it was asked for.
        trained: whether it was trained here, under the common settings.
        report: scores on the cells of val, None where it failed.
        cost: None where it failed.
        training_s: seconds of its training without validation, None where nothing tells.
        failure: why there are no scores, or "".
    """

    name: str
    trained: bool
    report: ClassificationReport | None = None
    cost: Cost | None = None
    training_s: float | None = None
    failure: str = ""


def compare_models(
    names: Sequence[str],
    crops: CropSet,
    settings: ClassifierTraining,
    run: TrainRun,
    report: Report,
) -> tuple[Compared, ...]:
    """Trains or loads each classifier and scores it on the same cells; one failing stops none.

    A training that was finished before in the same folder under the same settings is loaded, one
    that was interrupted goes on.

    Args:
        names: backbones (``timm/NAME`` or a plugin) to train; weight files, run folders and
            packaged classifiers to load.
        crops: labelled cells; those of val are never learned from.
        settings: of all trainings.
        run: ``out`` gets one folder per training.
        report: takes one line of text for the person who waits.

    Raises:
        AnnotationError: there are no cells of val.
        UsageError: two names would share a folder.
    """
    folders = {name: run.out / folder_name(name) for name in names}
    if len(set(folders.values())) < len(names):
        raise UsageError(f"the names {', '.join(names)} are not all different")
    data = prepare(crops, settings, [path.name for path in run.data], lambda _: None)
    if not len(data.val):
        raise AnnotationError(
            "there are no cells of val to compare the classifiers on; add a split column, or "
            "split at random with --split 80/20"
        )
    val = dataclasses.replace(crops, items=data.val.items)
    lines, report = [], _remarks_once(report)
    for name in names:
        own = dataclasses.replace(settings, backbone=name, name=folder_name(name))
        report(f"{name}:")
        try:
            lines.append(_line(name, val, crops, own, dataclasses.replace(run, out=folders[name]),
                               report))  # fmt: skip
        except CellcountError as error:
            report(f"{name}: {error}")
            lines.append(Compared(name, trained=not _is_weights(name), failure=str(error)))
    return tuple(lines)


def _remarks_once(report: Report) -> Report:
    """Return a report without the remarks on the data, which every training repeats."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line.startswith(("note: ", "labels ", "warning: ")):
            if line in said:
                return
            said.add(line)
        report(line)

    return say


def thinned(crops: CropSet, per_class: int, seed: int) -> CropSet:
    """At most ``per_class`` cells of each class to learn from, by seed; val and test stay whole."""
    by_label: dict[str, list[LabelledCrop]] = defaultdict(list)
    for item in sorted(crops.items, key=lambda i: (i.path.as_posix(), i.box_xyxy or ())):
        if item.split in _LEARNED_FROM:
            by_label[item.label].append(item)
    kept: set[LabelledCrop] = set()
    for label, items in by_label.items():
        kept.update(random.Random(f"{seed} {label}").sample(items, min(per_class, len(items))))
    return dataclasses.replace(
        crops, items=tuple(i for i in crops.items if i.split not in _LEARNED_FROM or i in kept)
    )


def folder_name(name: str) -> str:
    """Folder of the training of that name: ``timm-mobilevit_s``."""
    return name.strip("/").replace("/", "-").replace("\\", "-")


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Learned parameters, and the same with the statistics of batch normalisation, as in Keras."""
    learned = sum(p.numel() for p in module.parameters())
    statistics_ = sum(
        buffer.numel() for name, buffer in module.named_buffers()
        if name.rpartition(".")[2] in _KERAS_STATISTICS
    )  # fmt: skip
    return learned, learned + statistics_


def training_seconds(folder: Path) -> float | None:
    """Seconds of all epochs, from the metrics of a run folder; None where it is none."""
    total, found = 0.0, False
    if not (folder / "settings.json").is_file():
        return None
    for path in (*folder.glob("metrics.csv"), *folder.glob("*/metrics.csv")):  # one per network
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                total += float(row.get("seconds") or 0)
                found = True
    return total if found else None


def _line(
    name: str,
    val: CropSet,
    crops: CropSet,
    settings: ClassifierTraining,
    run: TrainRun,
    report: Report,
) -> Compared:
    loaded = _is_weights(name)
    weights = resolve(name) if loaded else _trained(crops, settings, run, report)
    options = EngineOptions(run.device, plugin_folder=run.plugins)
    classifier = load_classifier(weights, options)
    truth = true_types(val, classifier.card, None)
    typed = type_labelled(truth.items, classifier, rbc_px=settings.rbc_px)
    labels = np.asarray(truth.labels, np.int64)[typed.kept]
    scores = score(typed.logits[ORIGINAL.name], labels, truth, classifier.card)
    return Compared(
        name=name,
        trained=not loaded,
        report=scores.report,
        cost=_cost(classifier, run.plugins),
        training_s=training_seconds(weights.parent),
    )


def _is_weights(name: str) -> bool:
    """Return whether a name is of weights there are; else it is a backbone's."""
    from cellcount.models.weights import packaged_weights

    return name in packaged_weights() or Path(name).exists()


def _trained(crops: CropSet, settings: ClassifierTraining, run: TrainRun, report: Report) -> Path:
    """The weight file of a training, which is begun, continued, or found finished."""
    begun = any(checkpoint.exists(f) for f in (run.out, *run.out.glob("*/")))
    run = dataclasses.replace(run, resume=begun)
    weights = run.out / WEIGHTS_FILE
    if begun and (run.out / "val.json").is_file() and weights.is_file():
        claim_folder(settings, run)  # complains where it was another training
        report(f"{settings.backbone}: trained before, loaded from {run.out}")
        return weights
    return train_classifier(crops, settings, run, report)


def _cost(classifier: CropClassifier, plugins: Path | None) -> Cost:
    card = classifier.card
    module = build_classifier(card, plugins)
    learned, keras = count_parameters(module)
    return Cost(
        learned=learned,
        keras=keras,
        flops=flops_of_module(module, card.preprocessing.input_px),
        input_px=card.preprocessing.input_px,
        ms_per_cell=_ms_per_cell(classifier),
        batch_size=classifier.batch_size,
        device=classifier.device,
    )


def _ms_per_cell(classifier: CropClassifier) -> float:
    """Median of a few calls with a full batch; the first one is not timed."""
    crop = np.full((*classifier.card.preprocessing.input_px, 3), 200, np.uint8)
    batch = [crop] * classifier.batch_size
    classifier.logits(batch)
    seconds = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        classifier.logits(batch)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds) / len(batch)
