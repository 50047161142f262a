"""One binary network per type against the rest (seeds/002, appendix IV), combined into one.

Each learns from all cells of its type and as many of the others, spread evenly over their types,
another choice in every epoch. The type whose network is surest wins.

Shapes: images uint8 (N, 3, H, W); labels 0 or 1 (N,); logits (N, 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier
from cellcount.models.backbone import load_pretrained
from cellcount.models.classifier import OneVersusRest, build_classifier
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import write_weights
from cellcount.training import checkpoint
from cellcount.training.classifier.calibrate import calibrated
from cellcount.training.classifier.cell_windows import CropDataset
from cellcount.training.classifier.data import ClassifierData, LabelledCells
from cellcount.training.classifier.sampling import Balance, Draw, resample
from cellcount.training.classifier.settings import ClassifierTraining
from cellcount.training.classifier.task import Normalised, plain_crops, window_of
from cellcount.training.classifier.window_augment import CROP_AUGMENTS
from cellcount.training.log import write_metrics
from cellcount.training.loop import LoopRun, Metrics, fit
from cellcount.training.run_folder import WEIGHTS_FILE
from cellcount.training.settings import TrainRun

BINARY_FILE = "binary.safetensors"
_EVALUATED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class BinaryScores:
    """Scores of a binary network on held-out cells, as many of its type as of all others.

    Attributes:
        loss_held_out: mean binary cross-entropy.
        accuracy: share labelled right.
        false_positive_rate: share of the others taken for the type.
        false_negative_rate: share of the type taken for others.
    """

    loss_held_out: float
    accuracy: float
    false_positive_rate: float
    false_negative_rate: float


def binary_draws(
    cells: LabelledCells, type_index: int, *, seed: int, epoch: int, per_type: int = 0
) -> list[Draw]:
    """N cells of a type, and as many of the others, spread evenly over their types.

    Args:
        cells: to draw from.
        type_index: the type in question.
        seed, epoch: decide the choice.
        per_type: N; 0 for each cell of the type once.
    """
    labels = np.asarray(cells.labels)

    def drawn(indices: NDArray[np.intp], count: int) -> list[Draw]:
        kinds = [str(label) for label in labels[indices]]
        target_of = dict.fromkeys(sorted(set(kinds)), "drawn")
        count = max(count, len(target_of))
        chosen = resample(kinds, target_of, count, seed=seed, epoch=epoch) if kinds else []
        return [Draw(int(indices[d.index]), d.copy) for d in chosen]

    own, others = np.flatnonzero(labels == type_index), np.flatnonzero(labels != type_index)
    count = per_type or len(own)
    return [*drawn(own, count), *drawn(others, count)]


def binary_scores(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> BinaryScores:
    """Scores of logits (N,) against 0 and 1 (N,); each of the two must occur."""
    given = logits > 0
    scores, target = torch.from_numpy(logits), torch.as_tensor(truth, dtype=torch.float32)
    return BinaryScores(
        loss_held_out=float(functional.binary_cross_entropy_with_logits(scores, target)),
        accuracy=float((given == (truth == 1)).mean()),
        false_positive_rate=float(given[truth == 0].mean()),
        false_negative_rate=float((~given[truth == 1]).mean()),
    )


class BinaryTask:
    """The task of one type's network.

    Args:
        settings: of the training.
        data: cells to learn from and to choose weights by.
        card: of the combined model.
        type_index: the type in question.
        dataset: of all training cells, shared by the types.
        run: folder and device of this network.
        held_out: network inputs of the held-out cells.
    """

    def __init__(
        self,
        settings: ClassifierTraining,
        data: ClassifierData,
        card: ClassifierCard,
        type_index: int,
        dataset: CropDataset,
        run: LoopRun,
        held_out: Sequence[NDArray[np.uint8]],
    ) -> None:
        self._settings, self._data, self._card, self._type = settings, data, card, type_index
        self._out, self._device = run.out, run.device
        self._normalised = Normalised(card, run.device)
        truth = np.asarray(data.held_out.labels) == type_index
        self.validates = bool(truth.any() and not truth.all())
        self.note_on_losses = ""
        draws = binary_draws(data.held_out, type_index, seed=settings.seed, epoch=0)
        self._chosen = sorted({d.index for d in draws})
        self._held_out = [held_out[i] for i in self._chosen]
        self._truth = truth[self._chosen].astype(np.int64)
        self.dataset = dataset
        self.start_epoch(0, settings.epochs)

    def collate(self, items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Images stacked; 1 for the type, 0 for the rest."""
        images, labels = zip(*items, strict=True)
        return torch.stack(images), (torch.tensor(labels) == self._type).float()

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Draw other cells of the remaining types."""
        del epochs
        seed, per_type = self._settings.seed, Balance.parse(self._settings.balance).per_type
        draws = binary_draws(
            self._data.train, self._type, seed=seed, epoch=epoch, per_type=per_type
        )
        self.dataset.start_epoch(epoch, draws, CROP_AUGMENTS[self._settings.augment])

    def losses(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, truth smoothed as far as the settings ask."""
        smoothing = self._settings.label_smoothing
        target = batch[1].to(device) * (1 - smoothing) + smoothing / 2
        logits = model(self._normalised(batch[0])).float()[:, 0]
        return {"cross_entropy": functional.binary_cross_entropy_with_logits(logits, target)}

    def validate(self, model: nn.Module) -> Metrics:
        """Scores on the held-out cells; the least loss decides which weights are kept."""
        options = EngineOptions(str(self._device), self._settings.precision, _EVALUATED_AT_ONCE)
        logits = CropClassifier(model, self._card, options).logits(self._held_out)[:, 0]
        scores = binary_scores(logits, self._truth)
        return {**dataclasses.asdict(scores), "score": -scores.loss_held_out}

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Tensors of the best model so far; the card comes when all types are trained."""
        del rows
        part = self._out / (BINARY_FILE + ".part")
        state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(state, part)
        part.replace(self._out / BINARY_FILE)


def train_one_versus_rest(
    card: ClassifierCard,
    settings: ClassifierTraining,
    data: ClassifierData,
    loop: LoopRun,
    run: TrainRun,
) -> None:
    """Trains a network per type in a folder of its own and exports all of them as one model."""
    dataset = CropDataset(data.train.items, data.train.labels, window_of(card), settings.seed)
    held_out = plain_crops(data.held_out, card)
    torch.manual_seed(settings.seed)
    combined = build_classifier(card, run.plugins)
    assert isinstance(combined, OneVersusRest)
    table: list[dict[str, Any]] = []
    for index, (kind, model) in enumerate(zip(card.types, combined.models, strict=True)):
        folder = run.out / kind.id
        folder.mkdir(exist_ok=True)
        resume = run.resume and checkpoint.exists(folder)
        own = dataclasses.replace(loop, out=folder, resume=resume)
        loop.report(f"{kind.id} against the rest")
        if run.pretrained:
            load_pretrained(model, run.pretrained)
        task = BinaryTask(settings, data, card, index, dataset, own, held_out)
        torch.manual_seed(settings.seed + 1000 * loop.ranks.rank + index)
        progress = fit(model.to(loop.device), task, settings, own, score="score")
        best = [row for row in progress.rows if row.get("score") == progress.best]
        table.append({"type": kind.id, **(best[-1] if best else {})})
        model.load_state_dict(load_file(folder / BINARY_FILE))
    if loop.ranks.is_first:
        _write_table(run.out / "one_vs_rest.csv", table, loop.report)
        _export(combined.cpu(), card, settings, data, run.out, held_out)


def _write_table(
    path: Path, table: Sequence[dict[str, Any]], report: Callable[[str], None]
) -> None:
    """Write the scores of each network on held-out cells, to a file and to the person."""
    columns = ("type", *(f.name for f in dataclasses.fields(BinaryScores)))
    write_metrics(path, [{name: row.get(name) for name in columns} for row in table])
    width = max(len(row["type"]) for row in table)
    report(f"{'type':<{width}}    loss  accuracy     FPR     FNR  (held-out cells)")
    for row in table:
        values = [row.get(name) for name in columns[1:]]
        cells = ("      –" if v is None else f"{v:7.4f}" for v in values)
        loss, accuracy, false_positives, false_negatives = cells
        report(f"{row['type']:<{width}} {loss}   {accuracy} {false_positives} {false_negatives}")


def _export(
    combined: nn.Module,
    card: ClassifierCard,
    settings: ClassifierTraining,
    data: ClassifierData,
    out: Path,
    held_out: Sequence[NDArray[np.uint8]],
) -> None:
    """The networks as one classifier, calibrated like any other."""
    if held_out:
        options = EngineOptions("cpu", settings.precision, _EVALUATED_AT_ONCE)
        logits = CropClassifier(combined, card, options).logits(held_out)
        truth = np.asarray(data.held_out.labels, np.int64)
        card = calibrated(card, logits, truth, data, settings)
    write_weights(out / WEIGHTS_FILE, card, combined.state_dict())
