"""The last layer of a classifier, refitted on a laboratory's cells and shrunk toward its own.

A change is fitted to scores, by maximum likelihood with a Gaussian prior about no change, so that
few cells change little. Features of cells that the packaged layer learned from are fitted besides,
so that types of which the laboratory has no cell keep working; without such features their rows of
the layer stay as they are. A label may mean several types (``neutrophil``: segmented or band); its
probability is their sum.

Shapes: N cells, V views of each (the first as it is served), F features, P directions, K types;
features (N, V, F), weights (K, F), scores and probabilities (N, K) or (N, V, K).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from cellcount.models.kept_features import KeptFeatures

Floats = NDArray[np.floating[Any]]

#: Directions in which features may be weighed anew; cells of one laboratory differ in fewer.
_MOST_DIRECTIONS = 256
#: Standard deviation of the prior of a change of a type's score for all cells, and of the log of
#: the temperature.
_OFFSET, _LOG_TEMPERATURE = 1.0, 0.5
#: Weight of all kept features together, over that of the laboratory's cells.
_KEPT_SHARE = 0.5
_STEPS = 40
_TINY = 1e-12


@dataclass(frozen=True, eq=False, slots=True)
class LastLayer:
    """Weights of a last layer, and how a card turns its logits into scores.

    Scores are logits over the temperature plus the shift from the mixture trained on to the one
    stated; their softmax are the probabilities that ``analyze`` goes by.

    Attributes:
        weight: (K, F).
        bias: (K,).
        temperature: of the card.
        shift: (K,).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float
    shift: NDArray[np.float64]

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Scores of features (..., F)."""
        logits = features.astype(np.float64) @ self.weight.T + self.bias
        return np.asarray(logits / self.temperature + self.shift)

    def changed(self, weight: Floats, offset: Floats, sharpness: float = 1.0) -> LastLayer:
        """Make a layer whose scores are these times ``sharpness`` plus a change.

        Args:
            weight: change of the scores by feature, (K, F).
            offset: change of the scores, (K,).
            sharpness: of the logits, 1 over a further temperature.
        """
        return LastLayer(
            self.weight * sharpness + weight * self.temperature,
            self.bias * sharpness + offset * self.temperature,
            self.temperature,
            self.shift,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Cells of a laboratory.

    Attributes:
        features: (N, V, F).
        allowed: bool (N, K), the types that each label may mean.
        groups: int64 (N,), the slide of each.
        restated: share → features (N, V, F) under statistics that are the laboratory's in this
            share, where some were re-estimated (``norm_statistics``).
    """

    features: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    groups: NDArray[np.int64]
    restated: Mapping[float, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.allowed)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Examples:
        """Select some of the cells."""
        restated = {share: features[rows] for share, features in self.restated.items()}
        return Examples(self.features[rows], self.allowed[rows], self.groups[rows], restated)

    def at(self, share: float) -> NDArray[np.float32]:
        """Features under statistics that are the laboratory's in this share; 0 for the base's."""
        return self.restated[share] if share else self.features

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each cell (N,), mean 1: rarer labels weigh more, by the root of how rare."""
        _, label, counts = np.unique(self.allowed, axis=0, return_inverse=True, return_counts=True)
        weights = 1 / np.sqrt(counts[label.reshape(-1)])
        return np.asarray(weights / weights.mean())


@dataclass(frozen=True, slots=True)
class Method:
    """A way to adapt a layer.

    Attributes:
        kind: ``none``, ``calibration`` (temperature and mixture of types alone) or ``layer``.
        freedom: standard deviation of the prior of a change, in scores of a typical cell.
        share: of the laboratory's statistics of normalisation.
    """

    kind: Literal["none", "calibration", "layer"]
    freedom: float = 1.0
    share: float = 0.0

    @property
    def words(self) -> str:
        """The method in words for people."""
        named = {
            "none": "as it is",
            "calibration": "temperature and mixture",
            "layer": "last layer",
        }
        words = named[self.kind] + ("" if self.kind == "none" else f", freedom {self.freedom:g}")
        return words + (f", statistics at share {self.share:g}" if self.share else "")


METHODS = (
    Method("none"),
    Method("calibration", 1.0),
    *(Method("layer", freedom) for freedom in (1.0, 3.0)),
)
"""All ways, the one that changes least first."""


@dataclass(frozen=True, eq=False, slots=True)
class Directions:
    """Directions in which a laboratory's features differ.

    Attributes:
        middle: (F,), mean of the features.
        basis: (P, F), orthogonal, each as long as makes the typical cell one unit long.
    """

    middle: NDArray[np.float64]
    basis: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float32], kept: NDArray[np.float32]) -> Directions:
        """Find the main directions of a laboratory's features (N, V, F) and of kept ones (M, F)."""
        flat = features.reshape(-1, features.shape[-1])
        flat = np.concatenate([flat, kept]).astype(np.float64)
        middle = flat.mean(0)
        flat = flat - middle
        size = float(np.sqrt((flat**2).sum(1).mean())) or 1.0
        if len(flat) < flat.shape[1]:  # by the smaller of the two products
            values, vectors = np.linalg.eigh(flat @ flat.T)
            axes = vectors.T @ flat / np.sqrt(np.maximum(values, _TINY))[:, None]
        else:
            values, vectors = np.linalg.eigh(flat.T @ flat)
            axes = vectors.T
        largest = np.argsort(-values)[:_MOST_DIRECTIONS]
        largest = largest[values[largest] > 1e-9 * max(float(values.max()), _TINY)]
        return cls(middle, axes[largest] / size)

    def places(self, features: Floats) -> NDArray[np.float64]:
        """Coordinates (..., P) of features (..., F)."""
        return np.asarray((features.astype(np.float64) - self.middle) @ self.basis.T)


def refitted(
    base: LastLayer,
    examples: Examples,
    method: Method,
    directions: Directions,
    kept: KeptFeatures,
) -> LastLayer:
    """The layer adapted to some cells.

    Args:
        base: the packaged one.
        examples: one cell or more.
        method: how.
        directions: of the laboratory's features under the method's share and the kept ones.
        kept: features of cells that the base learned from; a calibration goes by the laboratory's
            cells alone.
    """
    if method.kind == "none":
        return base
    seen = examples.at(method.share)
    _, views, width = seen.shape
    features: Floats = seen.reshape(-1, width)
    allowed = np.repeat(examples.allowed, views, axis=0)
    weights: Floats = np.repeat(examples.weights / views, views)
    if method.kind == "layer" and len(kept.features):
        features = np.concatenate([features, kept.features])
        allowed = np.concatenate([allowed, kept.allowed])
        share = _KEPT_SHARE * len(examples) / len(kept.features)
        weights = np.concatenate([weights, np.full(len(kept.features), share)])
    problem = _Problem(
        logits=torch.from_numpy(base.scores(features) - base.shift),
        shift=torch.from_numpy(base.shift),
        places=torch.from_numpy(directions.places(features)),
        allowed=torch.from_numpy(allowed),
        weights=torch.from_numpy(weights),
        known=torch.from_numpy(allowed.any(0).astype(np.float64)),
        method=method,
    )
    change, offset, sharpness = problem.solved()
    weight = change @ directions.basis  # (K, F)
    return base.changed(weight, offset - weight @ directions.middle, sharpness)


@dataclass(frozen=True, eq=False, slots=True)
class _Problem:
    """A posterior to be maximised; rows are views of cells.

    Attributes:
        logits: over the temperature, (R, K).
        shift: (K,).
        places: coordinates of the features, (R, P).
        allowed: (R, K).
        weights: (R,).
        known: (K,), 1 for types with a cell.
        method: what may change, and how much.
    """

    logits: Tensor
    shift: Tensor
    places: Tensor
    allowed: Tensor
    weights: Tensor
    known: Tensor
    method: Method

    def solved(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Maximise the posterior: change by coordinate (K, P), offset (K,) and sharpness."""
        types, directions = self.logits.shape[1], self.places.shape[1]
        change = torch.zeros(types, directions, dtype=torch.float64, requires_grad=True)
        offset = torch.zeros(types, dtype=torch.float64, requires_grad=True)
        log_sharpness = torch.zeros((), dtype=torch.float64, requires_grad=True)
        learned = [offset, change if self.method.kind == "layer" else log_sharpness]
        optimizer = torch.optim.LBFGS(
            learned,
            max_iter=_STEPS,
            tolerance_grad=1e-3,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )

        def loss() -> float:
            optimizer.zero_grad()
            value = self._loss(change, offset, log_sharpness)
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        known = self.known[:, None]
        return (
            (change * known).detach().numpy(),
            (offset * self.known).detach().numpy(),
            float(log_sharpness.detach().exp()),
        )

    def _loss(self, change: Tensor, offset: Tensor, log_sharpness: Tensor) -> Tensor:
        scores = self.logits * log_sharpness.exp() + self.shift + offset * self.known
        if self.method.kind == "layer":
            scores = scores + self.places @ (change * self.known[:, None]).T
        logs = scores.log_softmax(1)
        meant = logs.masked_fill(~self.allowed, -torch.inf).logsumexp(1)
        prior = change.square().sum() / (2 * self.method.freedom**2)
        prior = prior + offset.square().sum() / (2 * (_OFFSET * self.method.freedom) ** 2)
        prior = prior + log_sharpness.square() / (2 * _LOG_TEMPERATURE**2)
        return -(self.weights * meant).sum() + prior


def log_losses(scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Minus the log of the probability of what each label may mean, (N,)."""
    meant = (softmax(scores, axis=1) * allowed).sum(1)
    return np.asarray(-np.log(np.maximum(meant, _TINY)))


def are_right(scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether the likeliest type is one that the label may mean, (N,)."""
    return np.asarray(allowed[np.arange(len(scores)), scores.argmax(1)])
