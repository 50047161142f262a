"""Exponential moving average of weights: what is evaluated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


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
