"""Task of the training loop for a classifier: batches, losses, validation, export.

Shapes: images uint8 (N, 3, H, W); labels int64 (N,); logits (N, K).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier
from cellcount.errors import AnnotationError, ImageError
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import write_weights
from cellcount.training.augment import chance
from cellcount.training.classifier.calibrate import calibrated
from cellcount.training.classifier.cell_windows import CropDataset, CropWindow, placed_cells
from cellcount.training.classifier.data import ClassifierData, Draws, LabelledCells
from cellcount.training.classifier.sampling import Balance, Draw, class_weights
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.window_augment import CROP_AUGMENTS
from cellcount.training.loop import Metrics
from cellcount.training.run_folder import WEIGHTS_FILE

_EVALUATED_AT_ONCE = 32
MIXING_NOTE = "mixed cells and smoothed labels raise the training loss, not the held-out one"
Pixels = NDArray[np.uint8]


def window_of(card: ClassifierCard) -> CropWindow:
    """Return the window that the model of that card looks at."""
    return CropWindow(
        input_px=card.preprocessing.input_px,
        window_rbc=card.crop.window_rbc,
        rbc_px=card.crop.rbc_px,
        contour=card.crop.contour,
        white_balance=card.preprocessing.white_balance,
    )


def plain_crops(cells: LabelledCells, card: ClassifierCard) -> list[Pixels]:
    """The network's input of each cell, as analysis makes it."""
    crops = []
    for item, cell in zip(cells.items, placed_cells(cells.items, window_of(card)), strict=True):
        if isinstance(cell, ImageError):
            raise AnnotationError(f"{item.path} cannot be read any more: {cell}")
        crops.append(cell.crop(card.preprocessing.input_px, card.preprocessing.interpolation))
    return crops


def augmented_crops(
    cells: LabelledCells, card: ClassifierCard, strength: str, seed: int
) -> list[Pixels]:
    """One augmented input of each cell, always the same one."""
    dataset = CropDataset(cells.items, cells.labels, window_of(card), seed)
    draws = [Draw(i, 1) for i in range(len(cells))]
    dataset.start_epoch(0, draws, CROP_AUGMENTS[strength])
    return [dataset[i][0].permute(1, 2, 0).contiguous().numpy() for i in range(len(cells))]


class Normalised:
    """Model input from uint8 images, with the card's mean and std."""

    def __init__(self, card: ClassifierCard, device: torch.device) -> None:
        before = card.preprocessing
        self._mean, self._std = (
            torch.tensor(rgb, device=device).view(1, 3, 1, 1) for rgb in (before.mean, before.std)
        )
        self._device = device

    def __call__(self, images: Tensor) -> Tensor:
        """Float images (N, 3, H, W)."""
        moved = images.to(self._device).contiguous(memory_format=torch.channels_last)
        return (moved.float() / 255 - self._mean) / self._std


class ClassifierTask:
    """The task of one network with an output per type.

    Args:
        settings: of the training.
        data: cells to learn from and to choose weights by.
        card: of the model in training.
        out: folder of the run.
        device: of the model.
    """

    def __init__(
        self,
        settings: ClassifierTraining,
        data: ClassifierData,
        card: ClassifierCard,
        out: Path,
        device: torch.device,
    ) -> None:
        self._settings, self._data, self._card, self._out = settings, data, card, out
        self._device, self._normalised = device, Normalised(card, device)
        balance = Balance.parse(settings.balance)
        self._draws = Draws(data.train, data.target_of, balance, settings.seed)
        self._weights = (
            class_weights(data.train.labels, len(data.types)).to(device)
            if balance.kind == "class-weights"
            else None
        )
        self._mixers = _mixers(settings, len(data.types))
        self._settled = False
        self._seen = self._right = 0
        self._logits: NDArray[np.float32] | None = None
        self.validates = len(data.held_out) > 0
        self.note_on_losses = MIXING_NOTE if self._mixers or settings.label_smoothing else ""
        self._truth = np.asarray(data.held_out.labels, np.int64)
        self._plain = plain_crops(data.held_out, card)
        self._augmented = (
            augmented_crops(data.held_out, card, settings.augment, settings.seed + 1)
            if settings.augment in ("full", "mild")
            else []
        )
        self.dataset = CropDataset(
            data.train.items, data.train.labels, window_of(card), settings.seed
        )
        self.start_epoch(0, settings.epochs)

    def collate(self, items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Images and labels stacked."""
        images, labels = zip(*items, strict=True)
        return torch.stack(images), torch.tensor(labels)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Draw the cells of an epoch; the last epochs have no mixing and mild augmentation."""
        self._settled = epoch >= round(epochs * (1 - self._settings.settle))
        strength = self._settings.augment
        if self._settled and strength == "full":
            strength = "mild"
        self.dataset.start_epoch(epoch, self._draws.of_epoch(epoch), CROP_AUGMENTS[strength])
        self._seen = self._right = 0

    def losses(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        """Cross-entropy of a batch, part of which is mixed."""
        images, labels = self._normalised(batch[0]), batch[1].to(device)
        targets = labels
        if self._mixers and not self._settled and chance(self._settings.mix_share):
            mixer = self._mixers[int(torch.randint(len(self._mixers), ()))]
            images, targets = mixer(images, labels)
        logits = model(images).float()
        likeliest = targets if targets.ndim == 1 else targets.argmax(dim=1)
        self._right += int((logits.detach().argmax(dim=1) == likeliest).sum())
        self._seen += len(labels)
        loss = functional.cross_entropy(
            logits, targets, self._weights, label_smoothing=self._settings.label_smoothing
        )
        return {"cross_entropy": loss}

    def validate(self, model: nn.Module) -> Metrics:
        """Accuracy and loss on the held-out cells, as they are and augmented."""
        classifier = self.classifier(model)
        self._logits = classifier.logits(self._plain)
        row = {
            "accuracy_train": self._right / max(self._seen, 1),
            "loss_held_out": _cross_entropy(self._logits, self._truth),
            "accuracy": _accuracy(self._logits, self._truth),
        }
        scores = [row["accuracy"]]
        if self._augmented:
            harder = classifier.logits(self._augmented)
            row["accuracy_augmented"] = _accuracy(harder, self._truth)
            scores.append(row["accuracy_augmented"])
        return {**row, "score": sum(scores) / len(scores)}

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Weights and card of the best model so far, calibrated on the held-out cells."""
        held_out = {
            k: v for k, v in rows[-1].items() if k != "seconds"
        }  # the same on every machine
        training = {**self._card.training, "epochs_done": len(rows), "held_out": held_out}
        card = dataclasses.replace(self._card, training=training)
        if self._logits is not None:
            card = calibrated(card, self._logits, self._truth, self._data, self._settings)
        write_weights(self._out / WEIGHTS_FILE, card, model.state_dict())

    def classifier(self, model: nn.Module) -> CropClassifier:
        """The model as analysis runs it."""
        options = EngineOptions(str(self._device), self._settings.precision, _EVALUATED_AT_ONCE)
        return CropClassifier(model, self._card, options)


def _mixers(settings: ClassifierTraining, types: int) -> list[v2.Transform]:
    """Return the transforms that mix the cells of a batch: blended, or cut into one another."""
    mixers = []
    if settings.mixup:
        mixers.append(v2.MixUp(alpha=settings.mixup, num_classes=types))
    if settings.cutmix:
        mixers.append(v2.CutMix(alpha=settings.cutmix, num_classes=types))
    return mixers


def _accuracy(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == truth).mean())


def _cross_entropy(logits: NDArray[np.float32], truth: Sequence[int] | NDArray[np.int64]) -> float:
    return float(functional.cross_entropy(torch.from_numpy(logits), torch.as_tensor(truth)))
