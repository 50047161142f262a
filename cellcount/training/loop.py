"""The training loop, read top to bottom: epochs of steps, validation, checkpoint, export.

Whoever trains brings a ``Task``: what one step costs, how the averaged model is validated and how
it is exported. A resumed run continues from the last finished epoch with the same random state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cellcount.training import checkpoint
from cellcount.training.distributed import Ranks, barrier, wrap
from cellcount.training.ema import AveragedModel
from cellcount.training.log import draw_curves, write_metrics
from cellcount.training.schedule import build_optimizer, rate_factor
from cellcount.training.settings import DetectorTraining

Metrics = dict[str, float | int | None]


class Task(Protocol):
    """What the loop does not know."""

    dataset: Any

    def collate(self, items: list[Any]) -> Any:  # noqa: ANN401
        """A batch of dataset items."""
        ...

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:  # noqa: ANN401
        """Named losses of one batch; their sum is minimised."""
        ...

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the dataset for an epoch."""
        ...

    def validate(self, model: nn.Module) -> Metrics:
        """Metrics of the averaged model; ``ap`` decides which weights are kept."""
        ...

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Writes the weights of the best model so far."""
        ...


@dataclass
class Progress:
    """What has happened so far; all of it is in the checkpoint."""

    epoch: int = 0
    best: float = -math.inf
    rows: list[Metrics] = field(default_factory=list)


@dataclass(frozen=True)
class LoopRun:
    """Where the loop runs and to whom it reports."""

    out: Path
    device: torch.device
    ranks: Ranks
    workers: int
    resume: bool
    report: Callable[[str], None]


def epochs_of(settings: DetectorTraining, batches: int) -> int:
    """Number of epochs: as set, or as many as the iterations need."""
    return math.ceil(settings.iterations / batches) if settings.iterations else settings.epochs


def fit(model: nn.Module, task: Task, settings: DetectorTraining, run: LoopRun) -> Progress:
    """Trains ``model`` and leaves metrics, curves, checkpoint and export in ``run.out``."""
    optimizer = build_optimizer(model, settings)
    average = AveragedModel(model, settings.ema_decay)
    progress = Progress()
    if run.resume:
        _restore(run, model, average, optimizer, progress)
    trained = wrap(model, run.ranks, run.device)
    batches = max(1, len(task.dataset) // (settings.batch_size * run.ranks.world))
    epochs = epochs_of(settings, batches)
    for epoch in range(progress.epoch, epochs):
        started = time.perf_counter()
        task.start_epoch(epoch, epochs)
        row: Metrics = {"epoch": epoch + 1}
        row.update(_train_epoch(trained, average, optimizer, task, settings, run, epoch, epochs))
        row["seconds"] = round(time.perf_counter() - started, 1)
        last_tenth = epoch + 1 > epochs - max(1, epochs // 10)
        if run.ranks.is_first:
            if last_tenth or (epoch + 1) % settings.validate_every == 0:
                row.update(task.validate(average.shadow))
            _finish_epoch(run, model, average, optimizer, task, progress, row)
        else:
            progress.epoch = epoch + 1
        barrier(run.ranks)
    return progress


def _train_epoch(
    trained: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    task: Task,
    settings: DetectorTraining,
    run: LoopRun,
    epoch: int,
    epochs: int,
) -> Metrics:
    trained.train()
    base = trained.module if hasattr(trained, "module") else trained
    loader = _loader(task, settings, run, epoch)
    totals: dict[str, float] = {}
    for step, batch in enumerate(loader):
        rate = settings.lr * rate_factor(
            settings.schedule, settings.warmup, (epoch + step / len(loader)) / epochs
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(
            run.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
        ):
            losses = task.losses(trained, batch, run.device)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm:
                nn.utils.clip_grad_norm_(trained.parameters(), settings.clip_norm)
            optimizer.step()
            average.update(base)
        else:
            run.report(f"epoch {epoch + 1}, step {step + 1}: loss is not finite, step left out")
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach())
        if run.ranks.is_first and (step + 1) % 20 == 0:
            mean = sum(totals.values()) / (step + 1)
            run.report(f"epoch {epoch + 1}/{epochs} step {step + 1}/{len(loader)} loss {mean:.3f}")
    return {f"loss_{k.removeprefix('loss_')}": v / len(loader) for k, v in totals.items()}


def _loader(
    task: Task, settings: DetectorTraining, run: LoopRun, epoch: int
) -> DataLoader[Any]:
    """This rank's batches of the epoch; the order depends on seed and epoch alone."""
    dataset: Dataset[Any] = task.dataset
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(task.dataset), generator=generator).tolist()
    own = order[run.ranks.rank :: run.ranks.world]
    return DataLoader(
        dataset,
        batch_size=settings.batch_size,
        sampler=own,
        drop_last=len(own) >= settings.batch_size,
        num_workers=run.workers,
        collate_fn=task.collate,
        worker_init_fn=_one_thread if run.workers else None,
        prefetch_factor=3 if run.workers else None,
        generator=generator,
    )


def _one_thread(worker: int) -> None:
    del worker
    torch.set_num_threads(1)


def _finish_epoch(
    run: LoopRun,
    model: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    task: Task,
    progress: Progress,
    row: Metrics,
) -> None:
    progress.rows.append(row)
    progress.epoch += 1
    ap = row.get("ap")
    if ap is not None and ap > progress.best:
        progress.best = ap
        task.export(average.shadow, progress.rows)
    write_metrics(run.out / "metrics.csv", progress.rows)
    draw_curves(run.out / "curves.png", progress.rows)
    shown = ", ".join(
        f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
    )
    run.report(shown)
    checkpoint.save(
        run.out,
        {
            "model": model.state_dict(),
            "average": average.shadow.state_dict(),
            "updates": average.updates,
            "optimizer": optimizer.state_dict(),
            "epoch": progress.epoch,
            "best": progress.best,
            "rows": progress.rows,
            "rng": torch.get_rng_state(),
        },
    )


def _restore(
    run: LoopRun,
    model: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    state = checkpoint.load(run.out)
    model.load_state_dict(state["model"])
    average.shadow.load_state_dict(state["average"])
    average.updates = state["updates"]
    optimizer.load_state_dict(state["optimizer"])
    progress.epoch, progress.best = state["epoch"], state["best"]
    progress.rows = list(state["rows"])
    torch.set_rng_state(state["rng"])
    run.report(f"continuing after epoch {progress.epoch}")

