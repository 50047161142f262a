"""Optimizers, learning rates and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from cellcount.training.settings import LoopSettings


class AveragedModel:
    """A shadow copy whose weights follow the trained ones.

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` so that the first steps are not remembered
    for ever. With ``decay`` 0 the shadow equals the model.

    Args:
        model: the trained model.
        decay: share of the old average that one update keeps, at most.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.shadow = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the shadow one step towards ``model``, statistics of normalisation included."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates)) if self._decay else 0.0
        own = [*self.shadow.parameters(), *self.shadow.buffers()]
        new = [*model.parameters(), *model.buffers()]
        for average, value in zip(own, new, strict=True):
            if average.is_floating_point():
                average.lerp_(value.detach(), 1 - decay)
            else:
                average.copy_(value)


def own_parameters(part: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a part of a network holds itself, not those of its parts."""
    return list(part.parameters(recurse=False))


def train_what_learns(model: nn.Module) -> None:
    """Set training mode, except for frozen layers, whose statistics stay as well."""
    model.train()
    for part in model.modules():
        own = own_parameters(part)
        if own and not any(parameter.requires_grad for parameter in own):
            part.training = False


def rate_factor(schedule: str, warmup: float, progress: float) -> float:
    """Share of the full learning rate at ``progress`` (0 to 1) of the training.

    ``onecycle`` rises by itself, so it takes no ``warmup``.
    """
    if schedule == "onecycle":  # Smith 2018, arXiv:1803.09820: up for 30 %, then down to nothing
        peak, start, end = 0.3, 0.04, 4e-6
        if progress < peak:
            return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * progress / peak))
        rest = (progress - peak) / (1 - peak)
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * rest))
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    if schedule == "cosine":
        rest = (progress - warmup) / max(1 - warmup, 1e-9)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest))
    if schedule == "constant":
        return 1.0
    return 1.0 if progress < 2 / 3 else 0.1 if progress < 8 / 9 else 0.01


def build_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD; biases and normalisation parameters are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.lr)
    return torch.optim.AdamW(groups, lr=settings.lr)
