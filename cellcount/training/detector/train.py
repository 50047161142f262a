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
from cellcount.core.records import Detections, LabelledImage
from cellcount.core.side_by_side import SideBySide
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.pixels import read_pixels
from cellcount.datasets.run_splits import write_image_splits
from cellcount.datasets.splits import SPLITS_FILE
from cellcount.engines.base import Engine, EngineClass, EngineOptions, engine_class
from cellcount.engines.detector_model import Detector
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.evaluation.detector_run import truth_of
from cellcount.evaluation.thresholds import zero_bias_thresholds
from cellcount.models.backbone import Backbone, load_pretrained
from cellcount.models.detector_card import Architecture, DetectorCard, Preprocessing
from cellcount.models.pyramid import Trunk
from cellcount.models.weights import resolve, write_weights
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
from cellcount.training.detector.start import (
    build_refinement,
    grown_model,
    under_classes,
)
from cellcount.training.distributed import process_group
from cellcount.training.loop import LoopRun, Metrics, TrainingState, begin_run, fit
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
            white_balance=settings.augment in ANY_LABORATORY,
            red_cell_hue=settings.red_cell_hue,
            mean=backbone.mean,
            std=backbone.std,
        ),
        densest_field=max(len(image.labels) for image in data.train),
        data=data.sources,
        training=dataclasses.asdict(settings),
    )


class DetectorTask:
    """Task of the training loop for a detector.

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
        self.note_on_losses = ""
        self.dataset = FieldDataset(
            data.train,
            field_factors(data.train, settings),
            data.classes,
            augment_settings(settings),
            seed=settings.seed,
            preprocessing=card.preprocessing,
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

    def detect_all(self, engine: Engine) -> tuple[list[Truth], list[Detections]]:
        """Truth and detections of the validation images, each at its own labelled scale."""
        detector = FieldDetector(engine)

        def look(scaled: tuple[LabelledImage, float]) -> tuple[Truth, Detections]:
            image, factor = scaled
            pixels = read_pixels(image)
            truth = truth_of(image, self._data.classes, pixels.shape)
            return truth, detector.detect(pixels, factor).detections

        val = list(zip(self._data.val, self._val_factors, strict=True))
        seen = SideBySide(detector.images_at_once).map(look, val)
        return [truth for truth, _ in seen], [found for _, found in seen]

    def parent_ap(self, parent: Engine) -> float:
        """COCO AP, on the validation images, of a model that may have other classes."""
        truths, found = self.detect_all(parent)
        classes = self._data.classes
        found = [under_classes(one, parent.card, classes) for one in found]
        thresholds = dict.fromkeys(classes, 0.5)  # AP does not depend on them
        report = evaluate_detections(truths, found, classes, thresholds=thresholds)
        return report.crowded.ap or 0.0

    def validate(self, model: nn.Module) -> Metrics:
        """COCO AP and counting error on the validation images."""
        options = EngineOptions(str(self._device), self._settings.precision)
        truths, found = self.detect_all(self._engine(model, self._card, options))
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
    if data.made:
        report(
            f"the data has no split to validate on, so one was made: {data.made}; it stands in "
            f"{run.out / SPLITS_FILE}"
        )
    if ranks.is_first:
        write_image_splits(run.out / SPLITS_FILE, data.divided)
    with process_group(ranks, device):
        torch.manual_seed(settings.seed)
        if settings.init:
            card, model = grown_model(settings, data, run, engine, report)
        else:
            card, model = _new_model(settings, data, run, engine)
        _choose_learned(model, settings)
        model = model.to(device).to(memory_format=torch.channels_last)
        torch.manual_seed(settings.seed + 1000 * ranks.rank)
        task = DetectorTask(settings, data, card, engine, run.out, device)
        start = _start_score(settings, task, loop, run, engine)
        progress: TrainingState = fit(model, task, settings, loop)
    weights = run.out / WEIGHTS_FILE
    best = f"best validation AP {progress.best:.4f}; " if task.validates else ""
    report(f"{best}weights: {weights}")
    if left := sum(image.split == "test" for image in data.divided):
        where = run.data[0] if len(run.data) == 1 else "DATA"
        report(
            f"{left} images of test were not looked at; when everything is decided: cellcount "
            f"evaluate detector {where} --detector {run.out} --run {run.out} --split test"
        )
    if start is not None and progress.best < start:
        report(
            f"warning: AP {progress.best:.4f} is below the {start:.4f} of {settings.init}, which "
            "this training started from, on the same validation images: keep that model, or train "
            "longer or at a lower --lr"
        )
    return weights


def _start_score(
    settings: DetectorTraining,
    task: DetectorTask,
    loop: LoopRun,
    run: TrainRun,
    engine: EngineClass,
) -> float | None:
    """Measure and report the AP of the model that the training starts from; None where unknown."""
    if not (settings.init and task.validates and loop.ranks.is_first):
        return None
    options = EngineOptions(str(loop.device), settings.precision, plugin_folder=run.plugins)
    parent = engine.load(resolve(settings.init), options)
    score = task.parent_ap(parent)
    loop.report(
        f"{parent.card.name}, which this training starts from, has AP {score:.4f} on the "
        "validation images"
    )
    return score


def _new_model(
    settings: DetectorTraining, data: TrainingData, run: TrainRun, engine: EngineClass
) -> tuple[DetectorCard, Detector]:
    """A model of random weights, or of a pretrained backbone, with its card."""
    architecture = build_architecture(settings, model_diameter_px(data, settings))
    trunk = Trunk(architecture, run.plugins)
    card = build_card(settings, data, architecture, cast(Backbone, trunk.backbone))
    model = engine.build_model(card, run.plugins, trunk)
    if run.pretrained:
        load_pretrained(trunk.backbone, run.pretrained)
    return card, model


def _choose_learned(model: Detector, settings: DetectorTraining) -> None:
    """Freeze the parts that are not to learn, their statistics of normalisation included."""
    if settings.refine_objective == "actor-critic":
        model.learn_by_rewards()
    if settings.frozen:
        model.freeze_backbone_parts(settings.frozen.split())
    if settings.learn != "all":
        model.freeze_trunk()
    if settings.learn == "refinement":
        model.freeze_first_look()
