"""Exponential moving average of weights: what is evaluated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


class AveragedModel:
    """A shadow copy whose weights follow the trained ones.

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` so that the first steps are not remembered
    for ever. With ``decay`` 0 the shadow equals the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.shadow = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the shadow one step towards ``model``; buffers are copied."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates)) if self._decay else 0.0
        for own, new in zip(self.shadow.parameters(), model.parameters(), strict=True):
            own.lerp_(new.detach(), 1 - decay)
        for own, new in zip(self.shadow.buffers(), model.buffers(), strict=True):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)
