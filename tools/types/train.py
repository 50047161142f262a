"""Trains one network on the cells of some laboratories, resumable at every checkpoint.

Shapes: B windows of a batch, K types; targets bool (B, K), True for each type that a label may
mean; logits (B, K).
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellcount.models.weights import resolve
from tools.types.augment import Augment, augmented
from tools.types.cells import NOT_WHITE, TYPES, Cell, allowed
from tools.types.network import build, frozen_parts, logits
from tools.types.windows import Windows

_LOG = logging.getLogger(__name__)
_CHECKPOINT_EVERY = 100
_CLIP_NORM = 5.0
_LAST_LR = 0.01
_LEARNED_SPLITS = ("train", "")


@dataclass(frozen=True, slots=True)
class Training:
    """Settings of one training.

    Attributes:
        backbone: timm's name.
        threads: parts of a batch that are computed at the same time; the result depends on it.
        frozen_blocks: blocks that keep ImageNet's weights, with the stem; 0 for none.
        batch_size, steps: how much is seen.
        lr, weight_decay, warmup: of AdamW and its one cycle.
        ema_decay: of the averaged weights that are kept.
        smoothing: share of the truth that is spread over all types.
        dropout: before the last layer.
        negative_share: share of the windows that are no white cell.
        imagenet: start from ImageNet's weights.
        init: a packaged model or weight file to start from, its last layer apart, or "".
        after: an earlier training of the same network to go on from, or "".
        distil: weight of the teacher's word beside the label's.
        distil_temperature: by which both networks' logits are divided for it.
        untyped_share: share of the windows that have no label, of a student.
    """

    backbone: str
    batch_size: int
    steps: int
    lr: float
    weight_decay: float
    warmup: float
    ema_decay: float
    smoothing: float
    negative_share: float
    threads: int = 2
    frozen_blocks: int = 0
    dropout: float = 0.2
    imagenet: bool = True
    init: str = ""
    after: str = ""
    distil: float = 0.7
    distil_temperature: float = 2.0
    untyped_share: float = 0.1


def learned_rows(cells: Sequence[Cell], left_out: Sequence[str], *, untyped: bool) -> list[int]:
    """Rows of the cells that may be learned when these laboratories are left out."""
    return [
        i
        for i, c in enumerate(cells)
        if c.split in _LEARNED_SPLITS and c.laboratory not in left_out and (c.label or untyped)
    ]


def shares(cells: Sequence[Cell], rows: Sequence[int], how: Training) -> NDArray[np.float64]:
    """Probability of each row: square roots of the numbers by laboratory and label."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        groups[cells[row].laboratory, cells[row].label].append(position)
    weights = np.zeros(len(rows))
    kinds = np.array([_kind(cells[row].label) for row in rows])
    for members in groups.values():
        weights[members] = 1 / math.sqrt(len(members))
    fixed = {"negative": how.negative_share, "untyped": how.untyped_share}
    present = {kind: share for kind, share in fixed.items() if (kinds == kind).any()}
    present["typed"] = 1 - sum(present.values())
    for kind, share in present.items():
        weights[kinds == kind] *= share / weights[kinds == kind].sum()
    return np.asarray(weights / weights.sum())


def _kind(label: str) -> str:
    if not label:
        return "untyped"
    return "negative" if label == NOT_WHITE else "typed"


def train(
    windows: Windows,
    how: Training,
    augment: Augment,
    out: Path,
    *,
    left_out: Sequence[str] = (),
    seed: int = 0,
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Trains a network, or goes on where an earlier call stopped; returns the averaged one.

    Args:
        windows: of all cells.
        how: the training.
        augment: the changes of the windows.
        out: folder of the checkpoint.
        left_out: laboratories of which nothing is learned.
        seed: of everything random.
        teacher: network whose probabilities are learned beside the labels.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    px = windows.served.shape[1]
    init = resolve(how.init) if how.init else None
    model = build(how.backbone, px, imagenet=how.imagenet, init=init)
    if how.after:
        earlier = out.parent / how.after / "last.checkpoint"
        model.load_state_dict(
            torch.load(earlier, map_location="cpu", weights_only=True)["averaged"]
        )
    model.body.drop_rate = how.dropout  # type: ignore[union-attr]
    frozen = frozen_parts(model, how.frozen_blocks)
    averaged = copy.deepcopy(model).eval()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_decayed(learned, how.weight_decay), lr=how.lr)
    rows = learned_rows(windows.cells, left_out, untyped=teacher is not None)
    probability = shares(windows.cells, rows, how)
    targets = _targets(windows.cells, rows)
    checkpoint = out / "last.checkpoint"
    first = _resume(checkpoint, model, averaged, optimizer)
    _LOG.info("%s: %d cells, from step %d of %d", out.name, len(rows), first, how.steps)
    began, total = time.monotonic(), 0.0
    learner = _Learner(windows, how, augment, model, learned, teacher)
    with ThreadPoolExecutor(how.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step in range(first, how.steps):
            model.train()
            for part in frozen:
                part.eval()
            for group in optimizer.param_groups:
                group["lr"] = how.lr * _schedule(step, how)
            drawn = np.random.default_rng([seed, step]).choice(
                len(rows), how.batch_size, p=probability
            )
            parts = [
                (np.asarray(rows)[part], targets[part], np.random.default_rng([seed, step, i]))
                for i, part in enumerate(np.array_split(drawn, how.threads))
            ]
            results = list(pool.map(learner, *zip(*parts, strict=True)))
            for parameter, *slopes in zip(learned, *(r[1] for r in results), strict=True):
                parameter.grad = torch.stack(slopes).mean(0)
            nn.utils.clip_grad_norm_(learned, _CLIP_NORM)
            optimizer.step()
            _average(averaged, model, min(how.ema_decay, (1 + step) / (10 + step)))
            total += sum(r[0] for r in results) / len(results)
            if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == how.steps:
                _save(checkpoint, step + 1, model, averaged, optimizer)
                pace = (step + 1 - first) * how.batch_size / (time.monotonic() - began)
                mean = total / (step + 1 - first)
                _LOG.info("%s: step %d, mean loss %.4f, %.1f/s", out.name, step + 1, mean, pace)
    return averaged


@dataclass(frozen=True, eq=False, slots=True)
class _Learner:
    """Loss and gradients of a part of a batch, computed by one thread.

    Attributes:
        windows, how, augment, teacher: of the training.
        model: learns.
        learned: its parameters that have gradients.
    """

    windows: Windows
    how: Training
    augment: Augment
    model: nn.Module
    learned: Sequence[nn.Parameter]
    teacher: nn.Module | None

    def __call__(
        self, rows: NDArray[np.int64], targets: Tensor, rng: np.random.Generator
    ) -> tuple[float, tuple[Tensor, ...]]:
        """The mean loss of these rows and its gradient by each parameter."""
        canvases, rims = self.windows.canvases[rows], self.windows.rims[rows]
        px = self.windows.served.shape[1]
        images = augmented(canvases, rims, px, self.augment, rng)
        loss = _loss(self.model, images, targets, self.how, self.augment, rng, self.teacher)
        return float(loss.detach()), torch.autograd.grad(loss, self.learned)


def _loss(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    how: Training,
    augment: Augment,
    rng: np.random.Generator,
    teacher: nn.Module | None,
) -> Tensor:
    """Loss of a batch, mixed or not, with the teacher's word where there is one."""
    share, order = 1.0, torch.arange(len(images))
    if rng.random() < augment.mixup_share:
        share = float(rng.beta(augment.mixup_alpha, augment.mixup_alpha))
        order = torch.from_numpy(rng.permutation(len(images)))
        images = share * images + (1 - share) * images[order]
    scores = logits(model, images)
    label = share * set_loss(scores, targets, how.smoothing)
    label = label + (1 - share) * set_loss(scores, targets[order], how.smoothing)
    if teacher is None:
        return label.mean()
    with torch.inference_mode():
        told = (logits(teacher, images) / how.distil_temperature).softmax(1)
    told = told.clone()
    spoken = (scores / how.distil_temperature).log_softmax(1)
    word = functional.kl_div(spoken, told, reduction="batchmean") * how.distil_temperature**2
    return (1 - how.distil) * label.mean() + how.distil * word


def set_loss(scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Minus the log of the probability of all types that a label may mean, per window (B,)."""
    logs = scores.log_softmax(1)
    meant = logs.masked_fill(~targets, -torch.inf).logsumexp(1)
    return -(1 - smoothing) * meant - smoothing * logs.mean(1)


def _targets(cells: Sequence[Cell], rows: Sequence[int]) -> Tensor:
    """Types that each row's label may mean; all of them without a label."""
    index = {name: i for i, name in enumerate(TYPES)}
    targets = torch.zeros(len(rows), len(TYPES), dtype=torch.bool)
    for position, row in enumerate(rows):
        label = cells[row].label
        for name in allowed(label) if label else TYPES:
            targets[position, index[name]] = True
    return targets


def _schedule(step: int, how: Training) -> float:
    """One cycle: up in a line, down in a cosine."""
    done = step / how.steps
    if done < how.warmup:
        return max(_LAST_LR, done / how.warmup)
    fall = (done - how.warmup) / (1 - how.warmup)
    return _LAST_LR + (1 - _LAST_LR) * (1 + math.cos(math.pi * fall)) / 2


def _decayed(learned: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: matrices lose weight, the others do not."""
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, value in zip(
        averaged.state_dict().values(), model.state_dict().values(), strict=True
    ):
        if kept.is_floating_point():
            kept.lerp_(value, 1 - decay)
        else:
            kept.copy_(value)


def _save(
    path: Path, step: int, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


def _resume(
    path: Path, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
