"""Learning-rate schedules as plain functions of training progress, and the optimizers."""

from __future__ import annotations

import math

import torch
from torch import nn

from cellcount.training.settings import DetectorTraining


def rate_factor(schedule: str, warmup: float, progress: float) -> float:
    """Share of the full learning rate at ``progress`` (0 to 1) of the training."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    rest = (progress - warmup) / max(1 - warmup, 1e-9)
    if schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest))
    if schedule == "onecycle":  # Smith 2018, arXiv:1803.09820: up for 30 %, then down to nothing
        peak = 0.3
        if rest < peak:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * rest / peak))
        return 0.5 * (1 + math.cos(math.pi * (rest - peak) / (1 - peak))) + 1e-4
    return 1.0 if progress < 2 / 3 else 0.1 if progress < 8 / 9 else 0.01


def build_optimizer(model: nn.Module, settings: DetectorTraining) -> torch.optim.Optimizer:
    """AdamW or SGD; biases and normalisation parameters are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr)
