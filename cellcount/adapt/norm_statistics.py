"""Statistics of batch normalisation, re-estimated from unlabelled cells of a laboratory.

A network normalises every channel by the mean and variance that it had over the cells of its
training. Another stain or lamp moves them; the mean and variance over a laboratory's own cells need
no label. Both are mixed: the share of the laboratory's is 0 where nothing changes (Schneider et al.
2020, arXiv:2006.16971).

Why the refitted last layer stays sound under mixed statistics, although the features that a base
keeps (``kept_features``) were made under the packaged ones: kept features stand for cells of types
that the laboratory has not labelled, as the last layer will meet them *in this laboratory*. Without
a share, that takes for granted that the laboratory's cells have features like those of the base's
training. Re-estimated statistics have one purpose, to make that truer: the laboratory's channels
are brought to the mean and variance that the training's had. So the kept features, and the packaged
layer toward which the refitted one shrinks, are what the laboratory's features are brought to, and
remain the right reference; cells of the training under the laboratory's statistics, which nobody
will meet, would not be. Whether the purpose is met can be measured: the packaged layer, unchanged,
must then fit the laboratory's labelled cells no worse than under the packaged statistics. A share
where it does not is never used (``choose``), however well a refitted layer does with it, since
types without a labelled cell have nothing but the packaged layer and the kept features.

Statistics of a layer are those of its input while the layers before it normalise by their mixed
statistics already; taken under the packaged ones, a change would be taken out again and again.
Chunks have a fixed size and order, so that nothing depends on how many cells are computed together.

Shapes: N cells, C channels; crops uint8 (N, h, w, 3); means and variances float32 (C,).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cellcount.engines.crop_classifier import CropClassifier
from cellcount.errors import UsageError

SHARES = (0.3, 0.7)
"""Shares of a laboratory's statistics that are tried besides 0."""
_CHUNK = 32


def reestimated(
    classifier: CropClassifier, crops: Sequence[NDArray[np.uint8]], share: float
) -> dict[str, Tensor]:
    """Mix the statistics over some cells with those of a network, which is left as it was.

    Args:
        classifier: whose batch norms are not folded.
        crops: inputs of it; a few hundred.
        share: of the cells' statistics, 0 to 1.

    Returns:
        Tensors of the network by their names.

    Raises:
        UsageError: the network has no batch norm.
    """
    layers = {
        name: module
        for name, module in classifier.network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not layers:
        raise UsageError(
            f"the classifier {classifier.card.name!r} ({classifier.card.architecture.name}) has no "
            "batch normalisation, so unlabelled cells can change nothing; leave out --unlabelled"
        )
    mixing = {name: _Mixing(layer, share) for name, layer in layers.items()}
    try:
        with ExitStack() as hooks:
            for name, layer in layers.items():
                handle = layer.register_forward_pre_hook(mixing[name].before)
                hooks.callback(handle.remove)
            for start in range(0, len(crops), _CHUNK):
                classifier.whole_batch(crops[start : start + _CHUNK])
        found = dict[str, Tensor]()
        for name, one in mixing.items():
            mean, variance = one.overall()
            found |= {f"{name}.running_mean": mean, f"{name}.running_var": variance}
        return found
    finally:
        for one in mixing.values():
            one.restore()


class _Mixing:
    """One batch norm, whose statistics are mixed with those of every chunk that passes."""

    def __init__(self, layer: _BatchNorm, share: float) -> None:
        self._layer, self._share = layer, share
        self._packaged = [t.clone() for t in self._statistics]
        self._chunks = list[tuple[int, Tensor, Tensor]]()

    @property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        return cast(Tensor, self._layer.running_mean), cast(Tensor, self._layer.running_var)

    def before(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Take the statistics of a chunk, and normalise it by the mixed ones."""
        values: Tensor = inputs[0].float()
        others = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values, dim=others, correction=0)
        self._chunks.append((len(values), mean.double(), variance.double()))
        self._set(mean, variance)

    def overall(self) -> tuple[Tensor, Tensor]:
        """Mixed statistics over all chunks, of which each weighs as it has cells."""
        sizes = torch.tensor([size for size, _, _ in self._chunks], dtype=torch.float64)
        weights = (sizes / sizes.sum())[:, None]
        means = torch.stack([mean for _, mean, _ in self._chunks]).cpu()
        variances = torch.stack([variance for _, _, variance in self._chunks]).cpu()
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean) ** 2)).sum(0)
        self._set(mean, variance)
        return cast(tuple[Tensor, Tensor], tuple(t.clone().cpu() for t in self._statistics))

    def restore(self) -> None:
        """Put the packaged statistics back."""
        for own, packaged in zip(self._statistics, self._packaged, strict=True):
            own.copy_(packaged)

    def _set(self, mean: Tensor, variance: Tensor) -> None:
        for own, packaged, new in zip(
            self._statistics, self._packaged, (mean, variance), strict=True
        ):
            own.copy_((1 - self._share) * packaged + self._share * new.to(packaged))
