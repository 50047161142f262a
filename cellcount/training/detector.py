"""Training a detector: data in, run folder with weights, card, metrics and curves out.

Shapes: images uint8 (N, 3, S, S); boxes (R, 4) xyxy in the crop; labels (R,) from 1 on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellcount import __version__
from cellcount.data.augment import ColourSettings
from cellcount.data.dataset import AugmentSettings, FieldDataset, read_pixels, scale_factors
from cellcount.engines.base import EngineOptions
from cellcount.engines.devices import choose_device
from cellcount.engines.field import FieldDetector
from cellcount.engines.torchvision import FasterRCNN, TorchvisionEngine
from cellcount.errors import AnnotationError, UsageError
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.evaluation.thresholds import zero_bias_thresholds
from cellcount.formats.annotated import AnnotatedSet
from cellcount.models.backbone import load_pretrained
from cellcount.models.card import Architecture, Card, Inference, Preprocessing
from cellcount.models.weights import write_weights
from cellcount.records import CellClass, Detections, LabelledImage
from cellcount.training.distributed import process_group
from cellcount.training.loop import LoopRun, Metrics, Progress, fit
from cellcount.training.settings import DetectorTraining, TrainRun

SCALE_CLASS = "rbc"
_NAMES = {
    "rbc": ("red cell", "red cells"),
    "wbc": ("white or nucleated cell", "white or nucleated cells"),
    "platelet": ("platelet", "platelets"),
}
_NO_COLOUR = ColourSettings(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a detector learns from and what chooses its checkpoint."""

    train: tuple[LabelledImage, ...]
    val: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]


def cell_classes(ids: Sequence[str]) -> tuple[CellClass, ...]:
    """Classes with full names; ids without one are their own name."""
    return tuple(CellClass(i, *_NAMES.get(i, (i, f"{i} cells"))) for i in ids)


def build_card(
    settings: DetectorTraining, data: TrainingData, mean: Any, std: Any  # noqa: ANN401
) -> Card:
    """The card of a training that is about to start."""
    single = settings.pyramid == "none"
    scale = settings.rbc_diameter_px / 72.0
    sizes = ((18.0, 34.0), (60.0, 90.0), (135.0, 200.0))
    anchors = tuple(tuple(s * scale for s in level) for level in sizes)
    if single:
        anchors = (tuple(s for level in anchors for s in level),)
    densest = max((len(i.labels) for i in data.train), default=0)
    return Card(
        name=settings.name,
        version=__version__,
        classes=cell_classes(data.classes),
        rbc_diameter_px=settings.rbc_diameter_px,
        license="Apache-2.0",
        architecture=Architecture(
            backbone=settings.backbone,
            pyramid=settings.pyramid,
            pyramid_channels=settings.pyramid_channels,
            anchor_sizes_px=anchors,
        ),
        preprocessing=Preprocessing(
            white_balance=settings.augment == "full", mean=tuple(mean), std=tuple(std)
        ),
        inference=Inference(),
        densest_field=densest,
        data=data.sources,
        training=dataclasses.asdict(settings),
    )


def prepare(annotated: Sequence[AnnotatedSet], settings: DetectorTraining) -> TrainingData:
    """Joins data sets and divides them into train and val.

    ``given`` uses the sets' own train and val splits; a set without splits goes to train. Test
    images are never touched. ``90/10`` draws the shares by seed.

    Raises:
        AnnotationError: nothing to train on, or nothing to validate on.
    """
    from cellcount.formats import random_split

    classes = tuple(dict.fromkeys(c for a in annotated for c in a.classes))
    if settings.split != "given":
        shares = [float(x) for x in settings.split.split("/")]
        fractions = {"train": shares[0] / sum(shares), "val": shares[1] / sum(shares)}
        annotated = [random_split(a, fractions, settings.seed) for a in annotated]
    train = [i for a in annotated for i in a.images if i.split in ("train", "")]
    val = [i for a in annotated for i in a.images if i.split == "val"]
    if not train or not val:
        raise AnnotationError(
            f"{len(train)} training and {len(val)} validation images; both are needed. Give data "
            "with splits, or let cellcount divide it: --set split=90/10"
        )
    sources = tuple({"format": a.format, "images": len(a.images)} for a in annotated)
    return TrainingData(tuple(train), tuple(val), classes, sources)


def augment_settings(settings: DetectorTraining) -> AugmentSettings:
    """Augmentation of a training: everything, or flips and turns alone."""
    if settings.augment == "flips":
        return AugmentSettings(
            size_px=settings.size_px,
            scale_range=(1.0, 1.0),
            scale_core=(1.0, 1.0),
            mosaic=0.0,
            shear_share=0.0,
            aspect=0.0,
            colour=_NO_COLOUR,
        )
    return AugmentSettings(size_px=settings.size_px)


class DetectorTask:
    """What the training loop asks of a detector."""

    def __init__(
        self,
        settings: DetectorTraining,
        data: TrainingData,
        card: Card,
        run: TrainRun,
        device: torch.device,
    ) -> None:
        self._settings, self._data, self._card, self._run = settings, data, card, run
        self._device = device
        augment = augment_settings(settings)
        self._augment = augment
        self.dataset = FieldDataset(
            data.train,
            self._factors(data.train),
            data.classes,
            augment,
            seed=settings.seed,
            white_balance=card.preprocessing.white_balance,
        )
        self._val_factors = self._factors(data.val)

    def _factors(self, images: Sequence[LabelledImage]) -> list[float]:
        s = self._settings
        if s.resize == "long-edge":
            return [s.size_px / max(i.width_px, i.height_px, 1) for i in images]
        return scale_factors(
            images, scale_class=SCALE_CLASS, target_px=s.rbc_diameter_px, given_px=s.rbc_px
        )

    def collate(
        self, items: list[tuple[Tensor, dict[str, Tensor]]]
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Images stacked, targets listed."""
        return torch.stack([image for image, _ in items]), [target for _, target in items]

    def losses(
        self, model: nn.Module, batch: Any, device: torch.device  # noqa: ANN401
    ) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN."""
        images, targets = batch
        moved = [{k: v.to(device) for k, v in t.items()} for t in targets]
        losses: dict[str, Tensor] = model(images.to(device), moved)
        return losses

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """The last epochs settle on whole images near the model's scale."""
        settling = epoch >= round(epochs * (1 - self._settings.settle))
        self.dataset.start_epoch(epoch, settling=settling)

    def detect_all(self, model: nn.Module) -> tuple[list[Truth], list[Detections]]:
        """Truth and detections of the validation images, each at its own labelled scale."""
        options = EngineOptions(str(self._device), self._settings.precision)
        assert isinstance(model, FasterRCNN)  # noqa: S101 -- narrows the type, never user input
        detector = FieldDetector(TorchvisionEngine(model, self._card, options))
        truths, found = [], []
        for image, factor in zip(self._data.val, self._val_factors, strict=True):
            pixels = read_pixels(image)
            truths.append(truth_of(image, self._data.classes))
            found.append(detector.detect(pixels, factor).detections)
        return truths, found

    def validate(self, model: nn.Module) -> Metrics:
        """COCO AP on the validation images."""
        truths, found = self.detect_all(model)
        thresholds = zero_bias_thresholds(truths, found, self._data.classes)
        report = evaluate_detections(truths, found, self._data.classes, thresholds=thresholds)
        self._thresholds = thresholds
        row: Metrics = {"ap": report.crowded.ap, "ap50": report.crowded.ap50}
        row.update({f"mae_{c.name}": c.counting.mae for c in report.classes})
        return row

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Weights and card of the best model so far."""
        training = {**self._card.training, "epochs_done": len(rows), "validation": dict(rows[-1])}
        card = dataclasses.replace(self._card, thresholds=self._thresholds, training=training)
        write_weights(self._run.out / "model.safetensors", card, model.state_dict())


def truth_of(image: LabelledImage, classes: Sequence[str]) -> Truth:
    """A labelled image as evaluation wants it; boxes of other classes are left out."""
    index = {name: i for i, name in enumerate(classes)}
    keep = np.array([name in index for name in image.labels], bool)
    labels = np.array([index[n] for n in image.labels if n in index], np.int64)
    return Truth(
        str(image.path), image.boxes_xyxy[keep], labels, image.width_px, image.height_px
    )


def train_detector(
    annotated: Sequence[AnnotatedSet],
    settings: DetectorTraining,
    run: TrainRun,
    report: Callable[[str], None],
) -> Path:
    """Trains a detector and returns its weight file.

    Raises:
        UsageError: the run folder holds another training, or --resume finds none.
        AnnotationError: the data cannot be trained on.
    """
    _claim_folder(settings, run)
    torch.manual_seed(settings.seed)
    data = prepare(annotated, settings)
    device = choose_device(run.device)
    with process_group(device) as ranks:
        card = build_card(settings, data, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        model = FasterRCNN(card, run.plugins)
        backbone = model.trunk.backbone
        card = dataclasses.replace(
            card,
            preprocessing=dataclasses.replace(
                card.preprocessing,
                mean=tuple(backbone.mean),  # type: ignore[arg-type]
                std=tuple(backbone.std),  # type: ignore[arg-type]
            ),
        )
        model.set_statistics(card.preprocessing.mean, card.preprocessing.std)
        if run.pretrained:
            load_pretrained(backbone, run.pretrained)
        model = model.to(device).to(memory_format=torch.channels_last)
        torch.manual_seed(settings.seed + 1000 * ranks.rank)
        task = DetectorTask(settings, data, card, run, device)
        report(
            f"{len(data.train)} training and {len(data.val)} validation images, "
            f"classes {', '.join(data.classes)}"
        )
        loop = LoopRun(run.out, device, ranks, run.workers, run.resume, report)
        progress: Progress = fit(model, task, settings, loop)
    report(f"best validation AP {progress.best:.4f}")
    return run.out / "model.safetensors"


def _claim_folder(settings: DetectorTraining, run: TrainRun) -> None:
    """Keeps one training per folder: settings are written once and compared on resume."""
    run.out.mkdir(parents=True, exist_ok=True)
    path = run.out / "settings.json"
    own = json.loads(json.dumps(dataclasses.asdict(settings)))
    if not path.exists():
        if run.resume:
            raise UsageError(f"--resume: {run.out} holds no training; start without --resume")
        path.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
        return
    if not run.resume:
        raise UsageError(
            f"{run.out} already holds a training; continue it with --resume or choose another --out"
        )
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = [k for k in own if own[k] != stored.get(k)]
    if changed:
        raise UsageError(
            f"--resume: settings differ from those of {run.out}: "
            + ", ".join(f"{k} was {stored.get(k)!r}, is {own[k]!r}" for k in changed)
        )
