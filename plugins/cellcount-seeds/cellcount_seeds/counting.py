"""Counts a network as Keras does, so that published tables can be compared.

Keras counts the moving mean and variance of a batch norm as parameters that are not trained; torch
keeps them as buffers. Trainable parameters are what torch users call the number of parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Count(NamedTuple):
    """Numbers of values in a network, as Keras' summary has them."""

    total: int
    trainable: int


def keras_count(module: nn.Module) -> Count:
    """Parameters plus mean and variance of every batch norm; batch counters are not counted."""
    parameters = list(module.parameters())
    statistics = [
        buffer
        for layer in module.modules()
        for buffer in (getattr(layer, "running_mean", None), getattr(layer, "running_var", None))
        if isinstance(buffer, Tensor)
    ]
    return Count(
        total=sum(values.numel() for values in [*parameters, *statistics]),
        trainable=sum(values.numel() for values in parameters if values.requires_grad),
    )
