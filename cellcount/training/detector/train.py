"""Training a detector: data in, run folder with weights, card, metrics and curves out.

Shapes: images uint8 (N, 3, S, S); boxes (R, 4) xyxy in the crop; labels (R,) from 1 on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cellcount import __version__
from cellcount.core.records import Detections
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import EngineClass, EngineOptions, engine_class
from cellcount.engines.detector_model import Detector
from cellcount.engines.field_detector import FieldDetector
from cellcount.errors import UsageError
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.evaluation.detector_run import truth_of
from cellcount.evaluation.thresholds import zero_bias_thresholds
from cellcount.files.digest import sha256_of
from cellcount.models.backbone import Backbone, load_pretrained
from cellcount.models.detector_card import Architecture, DetectorCard, Preprocessing, Refinement
from cellcount.models.pyramid import Trunk
from cellcount.models.weights import read_weights, resolve, write_weights
from cellcount.training.detector.data import (
    TrainingData,
    augment_settings,
    cell_classes,
    field_factors,
    model_diameter_px,
    prepare,
)
from cellcount.training.detector.fields import FieldDataset
from cellcount.training.detector.settings import ANY_LABORATORY, DetectorTraining
from cellcount.training.distributed import process_group
from cellcount.training.loop import Metrics, TrainingState, begin_run, fit
from cellcount.training.run_folder import WEIGHTS_FILE
from cellcount.training.settings import TrainRun

# Anchors per level of strides 8, 16 and 32 for red cells of 72 px; they grow with the red cells.
_ANCHORS_PX = ((18.0, 34.0), (60.0, 90.0), (135.0, 200.0))
_ANCHORS_RBC_PX = 72.0
_ANCHOR_STRIDES = (8, 16, 32)
_SINGLE_STRIDE = 16


def build_architecture(settings: DetectorTraining, rbc_diameter_px: float) -> Architecture:
    """The detector's shape; without a pyramid all anchors sit on one level."""
    scale = rbc_diameter_px / _ANCHORS_RBC_PX
    anchors = tuple(tuple(s * scale for s in level) for level in _ANCHORS_PX)
    strides = tuple(s for s in (4, *_ANCHOR_STRIDES) if s >= settings.finest_stride)
    if settings.pyramid == "none":
        anchors = (tuple(s for level in anchors for s in level),)
        strides = (_SINGLE_STRIDE,)
    return Architecture(
        backbone=settings.backbone,
        strides=strides,
        pyramid=settings.pyramid,
        pyramid_channels=settings.pyramid_channels,
        anchor_sizes_px=anchors,
    )


def build_refinement(settings: DetectorTraining) -> Refinement:
    """The second look that the settings ask for: those of its own names after ``refine_``."""
    names = [f.name for f in dataclasses.fields(Refinement)]
    return Refinement(**{name: getattr(settings, f"refine_{name}") for name in names})


def build_card(
    settings: DetectorTraining, data: TrainingData, architecture: Architecture, backbone: Backbone
) -> DetectorCard:
    """The card of a training that is about to start."""
    return DetectorCard(
        name=settings.name,
        version=__version__,
        classes=cell_classes(data.classes),
        rbc_diameter_px=model_diameter_px(data, settings),
        license="Apache-2.0",
        architecture=architecture,
        refinement=build_refinement(settings),
        preprocessing=Preprocessing(
            white_balance=settings.augment in ANY_LABORATORY, mean=backbone.mean, std=backbone.std
        ),
        densest_field=max(len(image.labels) for image in data.train),
        data=data.sources,
        training=dataclasses.asdict(settings),
    )


class DetectorTask:
    """What the training loop asks of a detector.

    Args:
        settings: of the training.
        data: images to learn from and to validate on.
        card: of the model in training.
        engine: of the model in training.
        out: folder of the run.
        device: of the model.
    """

    def __init__(
        self,
        settings: DetectorTraining,
        data: TrainingData,
        card: DetectorCard,
        engine: EngineClass,
        out: Path,
        device: torch.device,
    ) -> None:
        self._settings, self._data, self._card = settings, data, card
        self._engine, self._out, self._device = engine, out, device
        # Validation images with few red cells take their scale from the training images, too.
        self._val_factors = field_factors((*data.train, *data.val), settings)[len(data.train) :]
        self._thresholds: dict[str, float] = dict(card.thresholds)
        if settings.min_score is not None:
            self._thresholds = dict.fromkeys(data.classes, settings.min_score)
        self.validates = bool(data.val)
        self.dataset = FieldDataset(
            data.train,
            field_factors(data.train, settings),
            data.classes,
            augment_settings(settings),
            seed=settings.seed,
            white_balance=card.preprocessing.white_balance,
            settle_on=data.settle_on,
        )

    def collate(
        self, items: list[tuple[Tensor, dict[str, Tensor]]]
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Images stacked, targets listed."""
        return torch.stack([image for image, _ in items]), [target for _, target in items]

    def losses(
        self,
        model: nn.Module,
        batch: Any,  # noqa: ANN401 -- what collate makes
        device: torch.device,
    ) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN."""
        images, targets = batch
        moved = [{k: v.to(device) for k, v in t.items()} for t in targets]
        losses: dict[str, Tensor] = model(images.to(device), moved)
        return losses

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """After a while images get harder; the last epochs settle near the model's scale."""
        settings = self._settings
        settling = epoch >= round(epochs * (1 - settings.settle))
        hard = settings.augment in ANY_LABORATORY and epoch >= round(epochs * settings.harden)
        self.dataset.start_epoch(epoch, settling=settling, hard=hard)

    def detect_all(self, model: nn.Module) -> tuple[list[Truth], list[Detections]]:
        """Truth and detections of the validation images, each at its own labelled scale."""
        options = EngineOptions(str(self._device), self._settings.precision)
        detector = FieldDetector(self._engine(model, self._card, options))
        truths, found = [], []
        for image, factor in zip(self._data.val, self._val_factors, strict=True):
            pixels = read_pixels(image)
            truths.append(truth_of(image, self._data.classes, pixels.shape))
            found.append(detector.detect(pixels, factor).detections)
        return truths, found

    def validate(self, model: nn.Module) -> Metrics:
        """COCO AP and counting error on the validation images."""
        truths, found = self.detect_all(model)
        if self._settings.min_score is None:
            self._thresholds = zero_bias_thresholds(truths, found, self._data.classes)
        report = evaluate_detections(truths, found, self._data.classes, thresholds=self._thresholds)
        row: Metrics = {"ap": report.crowded.ap, "ap50": report.crowded.ap50}
        row.update({f"mae_{c.name}": c.counting.mae for c in report.classes})
        return row

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Weights and card of the best model so far."""
        training = {**self._card.training, "epochs_done": len(rows), "validation": dict(rows[-1])}
        card = dataclasses.replace(self._card, thresholds=self._thresholds, training=training)
        write_weights(self._out / WEIGHTS_FILE, card, cast(Detector, model).weights())


def train_detector(
    annotated: Sequence[AnnotatedSet],
    settings: DetectorTraining,
    run: TrainRun,
    report: Callable[[str], None],
) -> Path:
    """Trains a detector and returns its weight file.

    Args:
        annotated: data sets, in the order of ``run.data``.
        settings: decide the outcome.
        run: where and with what.
        report: takes one line of text for the person who waits.

    Raises:
        UsageError: the run folder holds another training, or --resume finds none.
        AnnotationError: the data cannot be trained on.
    """
    engine = engine_class(run.engine)
    loop = begin_run(settings, run, report)
    ranks, device, report = loop.ranks, loop.device, loop.report
    data = prepare(annotated, settings, [path.name for path in run.data], report)
    report(
        f"{len(data.train)} training and {len(data.val)} validation images, "
        f"classes {', '.join(data.classes)}"
    )
    with process_group(ranks, device):
        torch.manual_seed(settings.seed)
        card, model = _build(settings, data, run, engine)
        _choose_learned(model, settings)
        model = model.to(device).to(memory_format=torch.channels_last)
        torch.manual_seed(settings.seed + 1000 * ranks.rank)
        task = DetectorTask(settings, data, card, engine, run.out, device)
        progress: TrainingState = fit(model, task, settings, loop)
    weights = run.out / WEIGHTS_FILE
    best = f"best validation AP {progress.best:.4f}; " if task.validates else ""
    report(f"{best}weights: {weights}")
    return weights


def _build(
    settings: DetectorTraining, data: TrainingData, run: TrainRun, engine: EngineClass
) -> tuple[DetectorCard, Detector]:
    """The model and its card: new, or grown from another model."""
    if settings.init:
        return _grow(settings, data, run, engine)
    architecture = build_architecture(settings, model_diameter_px(data, settings))
    trunk = Trunk(architecture, run.plugins)
    card = build_card(settings, data, architecture, cast(Backbone, trunk.backbone))
    model = engine.build_model(card, run.plugins, trunk)
    if run.pretrained:
        load_pretrained(trunk.backbone, run.pretrained)
    return card, model


def _grow(
    settings: DetectorTraining, data: TrainingData, run: TrainRun, engine: EngineClass
) -> tuple[DetectorCard, Detector]:
    """The model that ``init`` names, as far as it fits the classes of the data.

    Its architecture, scale, preprocessing and thresholds are kept; a layer whose shape depends on
    other classes, and a second look that it did not have, start at random.

    Raises:
        UsageError: the settings ask for another scale.
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
    classes = cell_classes(data.classes)
    ids = {c.id for c in classes}
    card = dataclasses.replace(
        parent,
        name=settings.name,
        version=__version__,
        classes=classes,
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
    own = model.weights()
    same_classes = [c.id for c in parent.classes] == [c.id for c in classes]
    fitting = {
        k: v
        for k, v in state.items()
        if k in own and own[k].shape == v.shape and (same_classes or "box_predictor" not in k)
    }
    model.take_weights(fitting)
    return card, model


def _check_rewardable(settings: DetectorTraining, parent: DetectorCard) -> None:
    """Rewards improve a second look that is there; one drawn at random would be none."""
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


def _choose_learned(model: Detector, settings: DetectorTraining) -> None:
    """Leaves the rest as it is, statistics of normalisation included."""
    if settings.refine_objective == "actor-critic":
        model.learn_by_rewards()
    if settings.frozen:
        model.freeze_backbone_parts(settings.frozen.split())
    if settings.learn != "all":
        model.freeze_trunk()
    if settings.learn == "refinement":
        model.freeze_first_look()
