"""The training loop: epochs of steps, validation, checkpoint, export.

Whoever trains brings a ``Task``: what one step costs, how the averaged model is validated and how
it is exported. A resumed run continues from the last finished epoch with the same random state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cellcount.engines.devices import choose_device
from cellcount.errors import UsageError
from cellcount.training import checkpoint
from cellcount.training.distributed import (
    Ranks,
    all_finite,
    announced_ranks,
    barrier,
    gather,
    own_device,
    wrap,
)
from cellcount.training.log import draw_curves, write_metrics
from cellcount.training.optim import (
    AveragedModel,
    build_optimizer,
    rate_factor,
    train_what_learns,
)
from cellcount.training.run_folder import claim_folder
from cellcount.training.settings import LoopSettings, TrainRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Metrics = dict[str, float | int | None]
_REPORT_EVERY = 20


class Task(Protocol):
    """Interface of the task of a training, by which the loop calls it.

    Attributes:
        dataset: what batches are made of.
        validates: there are images to choose the best weights by; else the last are kept.
        note_on_losses: what a reader of their curves must know, "" for nothing.
    """

    dataset: Any
    validates: bool
    note_on_losses: str

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
        """Metrics of the averaged model; one of them decides which weights are kept."""
        ...

    def export(self, model: nn.Module, rows: list[Metrics]) -> None:
        """Writes the weights of the best model so far."""
        ...


@dataclass
class TrainingState:
    """Progress of a training so far; all of it is in the checkpoint."""

    epoch: int = 0
    best: float = -math.inf
    rows: list[Metrics] = field(default_factory=list)


@dataclass(frozen=True)
class LoopRun:
    """Folder, device and processes of a loop, and its report to the person.

    Attributes:
        out: folder of the run.
        device: of the model.
        ranks: this process among those of the training.
        workers: processes that prepare batches.
        resume: continue from the checkpoint in ``out``.
        report: takes one line of text for the person who waits.
    """

    out: Path
    device: torch.device
    ranks: Ranks
    workers: int
    resume: bool
    report: Callable[[str], None]


def begin_run(settings: DataclassInstance, run: TrainRun, report: Callable[[str], None]) -> LoopRun:
    """Claim the run folder, and say where this process trains; only the first process reports.

    Raises:
        UsageError: the folder holds another training, or there is none to resume.
    """
    ranks = announced_ranks()
    device = own_device(choose_device(run.device), ranks)
    if ranks.is_first:
        claim_folder(settings, run)
    return LoopRun(
        run.out, device, ranks, run.workers, run.resume, report if ranks.is_first else _say_nothing
    )


def _say_nothing(line: str) -> None:
    del line


def epochs_of(settings: LoopSettings, batches: int) -> int:
    """Number of epochs: as set, or as many as the iterations need."""
    return math.ceil(settings.iterations / batches) if settings.iterations else settings.epochs


def fit(
    model: nn.Module, task: Task, settings: LoopSettings, run: LoopRun, *, score: str = "ap"
) -> TrainingState:
    """Trains ``model`` and leaves metrics, curves, checkpoint and export in ``run.out``.

    ``score`` is the metric of the validation that decides which weights are kept.
    """
    return _Loop(model, task, settings, run, score).fit()


class _Loop:
    """State of one training, and the steps that change it."""

    def __init__(
        self, model: nn.Module, task: Task, settings: LoopSettings, run: LoopRun, score: str
    ) -> None:
        self.score = score
        self.model, self.task, self.settings, self.run = model, task, settings, run
        self.optimizer = build_optimizer(model, settings)
        self.average = AveragedModel(model, settings.ema_decay)
        self.progress = TrainingState()
        if run.resume:
            self._restore()
        self.trained = wrap(model, run.ranks, run.device)
        batches = max(1, len(task.dataset) // (settings.batch_size * run.ranks.world))
        self.epochs = epochs_of(settings, batches)

    def fit(self) -> TrainingState:
        """Train the remaining epochs."""
        for epoch in range(self.progress.epoch, self.epochs):
            started = time.perf_counter()
            self.task.start_epoch(epoch, self.epochs)
            row: Metrics = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            row["seconds"] = round(time.perf_counter() - started, 1)
            if self.run.ranks.is_first and self._is_validated(epoch):
                row.update(self.task.validate(self.average.shadow))
            self._finish_epoch(row)
            barrier(self.run.ranks)
        return self.progress

    def _is_validated(self, epoch: int) -> bool:
        """Return whether an epoch is validated: every few, and each of the last tenth."""
        if not self.task.validates:
            return False
        last_tenth = epoch + 1 > self.epochs - max(1, self.epochs // 10)
        return last_tenth or (epoch + 1) % self.settings.validate_every == 0

    def _train_epoch(self, epoch: int) -> Metrics:
        """One pass over the images; returns the mean of each loss."""
        train_what_learns(self.trained)
        loader = _loader(self.task, self.settings, self.run, epoch)
        totals: dict[str, float] = {}
        for step, batch in enumerate(loader):
            self._set_rate((epoch + step / len(loader)) / self.epochs)
            losses = self._step(batch, f"epoch {epoch + 1}, step {step + 1}")
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
            if (step + 1) % _REPORT_EVERY == 0:
                mean = sum(totals.values()) / (step + 1)
                where = f"epoch {epoch + 1}/{self.epochs} step {step + 1}/{len(loader)}"
                self.run.report(f"{where} loss {mean:.3f}")
        return {f"loss_{k.removeprefix('loss_')}": v / len(loader) for k, v in totals.items()}

    def _set_rate(self, progress: float) -> None:
        """Learning rate at ``progress`` (0 to 1) of the training."""
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = s.lr * rate_factor(s.schedule, s.warmup, progress)

    def _step(self, batch: Any, where: str) -> dict[str, Tensor]:  # noqa: ANN401 -- the task's own
        """One step of the optimizer and of the average, left out where the loss is not finite."""
        device, settings = self.run.device, self.settings
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            losses = self.task.losses(self.trained, batch, device)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        if not all_finite(loss, self.run.ranks):
            self.run.report(f"{where}: loss is not finite, step left out")
            return losses
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(self.trained.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.average.update(self.model)
        return losses

    def _finish_epoch(self, row: Metrics) -> None:
        """Keeps the best weights, writes the log, and last the checkpoint."""
        run, progress = self.run, self.progress
        progress.epoch += 1
        random_states = self._random_states()  # of all processes, so all of them come here
        if not run.ranks.is_first:
            return
        progress.rows.append(row)
        score = row.get(self.score)
        if score is not None and score > progress.best:
            progress.best = score
        if score == progress.best or not self.task.validates:
            self.task.export(self.average.shadow, progress.rows)
        write_metrics(run.out / "metrics.csv", progress.rows)
        draw_curves(run.out / "curves.png", progress.rows, self.task.note_on_losses)
        run.report(
            ", ".join(
                f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
        state = {
            "model": self.model.state_dict(),
            "average": self.average.shadow.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "epoch": progress.epoch,
            "best": progress.best,
            "rows": progress.rows,
        }
        checkpoint.save(run.out, {**state, **random_states})

    def _random_states(self) -> dict[str, Tensor]:
        """State of torch's generators in every process, (world, bytes)."""
        states = {"rng": gather(torch.get_rng_state(), self.run.ranks)}
        if self.run.device.type == "cuda":
            states["rng_cuda"] = gather(torch.cuda.get_rng_state(self.run.device), self.run.ranks)
        return states

    def _restore(self) -> None:
        """Restore the state after the last finished epoch."""
        run, state = self.run, checkpoint.load(self.run.out)
        generators = state["rng"].reshape(-1, torch.get_rng_state().numel())  # (world, bytes)
        if len(generators) != run.ranks.world:
            raise UsageError(
                f"--resume: {run.out} was trained by {len(generators)} processes, not by "
                f"{run.ranks.world}; start as many again"
            )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:  # names or shapes differ
            raise UsageError(
                f"--resume: the checkpoint in {run.out} is of another model; give the same "
                "--engine and --plugins again"
            ) from None
        self.average.shadow.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = TrainingState(state["epoch"], state["best"], list(state["rows"]))
        torch.set_rng_state(generators[run.ranks.rank])
        if run.device.type == "cuda" and "rng_cuda" in state:
            torch.cuda.set_rng_state(state["rng_cuda"][run.ranks.rank], run.device)
        run.report(f"continuing after epoch {self.progress.epoch}")


def _loader(task: Task, settings: LoopSettings, run: LoopRun, epoch: int) -> DataLoader[Any]:
    """This process's batches of the epoch; the order depends on seed and epoch alone."""
    dataset: Dataset[Any] = task.dataset
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    own = run.ranks.share(torch.randperm(len(task.dataset), generator=generator).tolist())
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
