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
            share, where some were re-estimated (``norm_statistics``); V may be smaller than that of
            ``features``.
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
        """Weight of each cell (N,), as `label_weights` gives it."""
        return label_weights(self.allowed)


def label_weights(allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weight of each cell (N,), mean 1: rarer labels weigh more, by the root of how rare."""
    _, label, counts = np.unique(allowed, axis=0, return_inverse=True, return_counts=True)
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


class Refitting:
    """Refits a layer on parts of a laboratory's cells; what they share is computed once.

    Args:
        base: the packaged layer.
        examples: all cells of the laboratory, one or more.
        kept: features of cells that the base learned from; a calibration goes by the laboratory's
            cells alone.
        share: of the laboratory's statistics, under which features are taken.
    """

    def __init__(
        self, base: LastLayer, examples: Examples, kept: KeptFeatures, share: float = 0.0
    ) -> None:
        features = examples.at(share)
        self._base, self._examples, self._kept = base, examples, kept
        self._directions = Directions.of(features, kept.features)
        self._logits, self._kept_logits = (
            base.scores(seen) - base.shift for seen in (features, kept.features)
        )
        self._places, self._kept_places = (
            self._directions.places(seen) for seen in (features, kept.features)
        )

    def layer(self, method: Method, rows: NDArray[np.intp] | None = None) -> LastLayer:
        """Refit the layer on some of the cells, or on all of them."""
        if method.kind == "none":
            return self._base
        rows = np.arange(len(self._examples)) if rows is None else rows
        own, views = self._examples.allowed[rows], self._places.shape[1]
        logits, places = (
            seen[rows].reshape(len(rows) * views, -1) for seen in (self._logits, self._places)
        )
        allowed = np.repeat(own, views, axis=0)
        weights = np.repeat(label_weights(own) / views, views)
        kept = len(self._kept.features)
        if method.kind == "layer" and kept:
            logits = np.concatenate([logits, self._kept_logits])
            places = np.concatenate([places, self._kept_places])
            allowed = np.concatenate([allowed, self._kept.allowed])
            share = _KEPT_SHARE * len(rows) / kept
            weights = np.concatenate([weights, np.full(kept, share)])
        problem = _Problem(logits, self._base.shift, places, allowed, weights, method)
        change, offset, sharpness = problem.solved()
        weight = change @ self._directions.basis  # (K, F)
        moved = offset - weight @ self._directions.middle
        return self._base.changed(weight, moved, sharpness)


@dataclass(frozen=True, eq=False, slots=True)
class _Problem:
    """A posterior to be maximised; rows are views of cells.

    Attributes:
        logits: over the temperature, (R, K).
        shift: (K,).
        places: coordinates of the features, (R, P).
        allowed: (R, K).
        weights: (R,).
        method: what may change, and how much.
    """

    logits: NDArray[np.float64]
    shift: NDArray[np.float64]
    places: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    weights: NDArray[np.float64]
    method: Method

    def solved(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Maximise the posterior: change by coordinate (K, P), offset (K,) and sharpness."""
        types, directions = self.logits.shape[1], self.places.shape[1]
        change = torch.zeros(types, directions, dtype=torch.float64)
        offset = torch.zeros(types, dtype=torch.float64)
        log_sharpness = torch.zeros((), dtype=torch.float64)
        learned = [offset, change if self.method.kind == "layer" else log_sharpness]
        optimizer = torch.optim.LBFGS(
            learned,
            max_iter=_STEPS,
            tolerance_grad=1e-3,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )
        known = np.asarray(self.allowed.any(0), np.float64)

        def loss() -> float:
            value, by_offset, other = self._loss(
                change.numpy(), offset.numpy(), float(log_sharpness), known
            )
            offset.grad = torch.from_numpy(by_offset)
            learned[1].grad = torch.as_tensor(other, dtype=torch.float64)
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return (
            change.numpy() * known[:, None],
            offset.numpy() * known,
            float(np.exp(float(log_sharpness))),
        )

    def _loss(
        self,
        change: NDArray[np.float64],
        offset: NDArray[np.float64],
        log_sharpness: float,
        known: NDArray[np.float64],
    ) -> tuple[float, NDArray[np.float64], Any]:
        """Minus the log posterior, and its slope by offset and by change or log sharpness.

        Args:
            change: by coordinate, (K, P).
            offset: (K,).
            log_sharpness: of the logits.
            known: (K,), 1 for types with a cell.
        """
        is_layer = self.method.kind == "layer"
        sharp = self.logits * np.exp(log_sharpness)
        scores = sharp + self.shift + offset * known
        if is_layer:
            scores = scores + self.places @ (change * known[:, None]).T
        scores -= scores.max(1, keepdims=True)
        powers = np.exp(scores)
        meant = powers * self.allowed
        total, of_meant = powers.sum(1), np.maximum(meant.sum(1), _TINY**4)
        slopes = powers / total[:, None] - meant / of_meant[:, None]
        slopes *= self.weights[:, None]
        widths = 2 * self.method.freedom**2, 2 * (_OFFSET * self.method.freedom) ** 2
        value = float(self.weights @ (np.log(total) - np.log(of_meant)))
        value += float((change**2).sum()) / widths[0] + float((offset**2).sum()) / widths[1]
        value += log_sharpness**2 / (2 * _LOG_TEMPERATURE**2)
        by_offset = slopes.sum(0) * known + 2 * offset / widths[1]
        if is_layer:
            return (
                value,
                by_offset,
                slopes.T @ self.places * known[:, None] + (2 * change / widths[0]),
            )
        by_sharpness = float((slopes * sharp).sum()) + log_sharpness / _LOG_TEMPERATURE**2
        return value, by_offset, by_sharpness


def log_losses(scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Minus the log of the probability of what each label may mean, (N,)."""
    meant = (softmax(scores, axis=1) * allowed).sum(1)
    return np.asarray(-np.log(np.maximum(meant, _TINY)))


def are_right(scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether the likeliest type is one that the label may mean, (N,)."""
    return np.asarray(allowed[np.arange(len(scores)), scores.argmax(1)])
