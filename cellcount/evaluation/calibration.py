"""Calibration: probabilities that equal frequencies, at a stated mixture of types.

Temperature scaling (Guo et al. 2017) divides the logits by one number, fitted on cells that were
neither trained on nor reported on. It leaves the mixture of types alone: a network trained on
equal numbers of each type takes them for equally common, and blood is not so. Bayes' rule moves the
probabilities to another mixture: p'(k) is proportional to p(k) * prior(k) / source_prior(k)
(Saerens et al. 2002, equation 2.4). The temperature is fitted at the mixture of the very cells it
is fitted on, so the two do not get mixed up.

Shapes: N cells, K types; logits and probabilities ``(N, K)``, priors ``(K,)``, float64 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cellcount.errors import UsageError

#: Bounds of the temperature: separable cells would drive it to 0, useless logits to infinity.
TEMPERATURES = (0.05, 20.0)

Prior = Literal["uniform"] | NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Conversion of logits to probabilities.

    Attributes:
        temperature: divides the logits.
        source_prior: mixture of types that the network takes for granted.
        prior: mixture at which the probabilities are stated.
        cells: number of cells it was fitted on.
        nll_before, nll_after: mean negative log likelihood of those cells at their own mixture.
    """

    temperature: float
    source_prior: tuple[float, ...]
    prior: tuple[float, ...]
    cells: int
    nll_before: float
    nll_after: float


def fit_calibration(
    logits: NDArray[np.floating[Any]],
    true: NDArray[np.integer[Any]],
    *,
    prior: Prior = "uniform",
    source_prior: Prior = "uniform",
) -> Calibration:
    """Fits the temperature.

    Args:
        logits: ``(N, K)`` of held-out cells.
        true: ``(N,)``, their class indices.
        prior: mixture at which probabilities are to be stated.
        source_prior: mixture the network was trained at: uniform where sampling or weights balanced
            the types, else the shares in the training data.

    Raises:
        UsageError: there are no cells, or a prior does not fit.
        ValueError: shapes do not fit, or logits are not finite.
    """
    cells, size = logits.shape
    if true.shape != (cells,):
        raise ValueError(f"true must have shape ({cells},), got {true.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    if not cells:
        raise UsageError("there are no cells to calibrate on; set a part of train apart for it")
    source = _as_prior(source_prior, size, "source prior")
    shares = np.bincount(true, minlength=size) / cells
    with np.errstate(divide="ignore"):  # a type without cells here is left out of the fit
        shift = torch.as_tensor(np.log(shares) - np.log(source))
    scores, truth = torch.as_tensor(logits, dtype=torch.float64), torch.as_tensor(true).long()
    temperature = _fitted_temperature(scores, truth, shift)
    return Calibration(
        temperature=temperature,
        source_prior=tuple(source.tolist()),
        prior=tuple(_as_prior(prior, size, "prior").tolist()),
        cells=cells,
        nll_before=float(_nll(scores, truth, shift)),
        nll_after=float(_nll(scores / temperature, truth, shift)),
    )


def calibrated_probs(
    logits: NDArray[np.floating[Any]], calibration: Calibration
) -> NDArray[np.float64]:
    """Probabilities ``(N, K)`` at the calibration's prior."""
    if logits.shape[1:] != (len(calibration.prior),):
        raise ValueError(
            f"logits must have shape (N, {len(calibration.prior)}), got {logits.shape}"
        )
    return probs_at(logits, calibration.temperature, calibration.prior, calibration.source_prior)


def probs_at(
    logits: NDArray[np.floating[Any]],
    temperature: float,
    prior: Sequence[float],
    source_prior: Sequence[float],
) -> NDArray[np.float64]:
    """Probabilities ``(N, K)`` at a mixture of types ``(K,)``.

    Args:
        logits: ``(N, K)``.
        temperature: divides them.
        prior: mixture that the probabilities are stated at; shares above 0.
        source_prior: mixture that the network takes for granted.
    """
    scores = logits.astype(np.float64) / temperature + np.log(prior) - np.log(source_prior)
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    odds = np.exp(scores)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def _fitted_temperature(scores: Tensor, truth: Tensor, shift: Tensor) -> float:
    """The minimum of the likelihood, which is convex in 1 / temperature."""
    log_sharpness = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_sharpness], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )
    low, high = (-float(np.log(t)) for t in reversed(TEMPERATURES))

    def loss() -> float:
        optimizer.zero_grad()
        value = _nll(scores * log_sharpness.clamp(low, high).exp(), truth, shift)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(torch.exp(-log_sharpness.detach().clamp(low, high)))


def _nll(scores: Tensor, truth: Tensor, shift: Tensor) -> Tensor:
    return functional.cross_entropy(scores + shift, truth)


def _as_prior(prior: Prior, size: int, name: str) -> NDArray[np.float64]:
    if isinstance(prior, str):
        return np.full(size, 1 / size)
    shares = np.asarray(prior, np.float64)
    if shares.shape != (size,) or not np.isfinite(shares).all() or shares.min(initial=1) <= 0:
        raise UsageError(
            f"the {name} is {shares.tolist()}, expected {size} shares, one per type, each above 0"
        )
    return np.asarray(shares / shares.sum(), np.float64)
