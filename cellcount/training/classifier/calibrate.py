"""Calibration on held-out cells: temperature, prior, and the probability from which to accept.

Shapes: N held-out cells, K types; logits (N, K).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.evaluation.calibration import Calibration, calibrated_probs, fit_calibration
from cellcount.evaluation.classification import expected_calibration_error
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.taxonomy import Taxonomy
from cellcount.training.classifier.data import ClassifierData
from cellcount.training.classifier.sampling import Balance
from cellcount.training.classifier.settings import ClassifierTraining

# From "better than any other two together" up; above, most cells would go to review.
_THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))


def calibrated(
    card: ClassifierCard,
    logits: NDArray[np.float32],
    truth: NDArray[np.int64],
    data: ClassifierData,
    settings: ClassifierTraining,
) -> ClassifierCard:
    """The card with temperature, prior and review threshold.

    Args:
        card: of the model that gave the logits.
        logits, truth: of the held-out cells.
        data: of the training, whose mixture the network takes for granted.
        settings: name the prior and the accuracy that accepted cells shall have.
    """
    ids = [t.id for t in card.types]
    trained = trained_mixture(data, settings)
    prior = profile_prior(data.taxonomy, ids) if settings.prior == "profile" else None
    fitted = fit_calibration(
        logits,
        truth,
        prior="uniform" if prior is None else prior,
        source_prior=trained,
    )
    probs = calibrated_probs(logits, fitted)
    training = {
        **card.training,
        "calibration": {
            "cells": fitted.cells,
            "nll_before": round(fitted.nll_before, 4),
            "nll_after": round(fitted.nll_after, 4),
            "ece": _ece_at_own_mixture(logits, truth, fitted),
        },
    }
    return dataclasses.replace(
        card,
        temperature=round(fitted.temperature, 4),
        prior=dict(zip(ids, fitted.prior, strict=True)),
        trained_prior=dict(zip(ids, fitted.source_prior, strict=True)),
        review_below=review_threshold(probs, truth, settings.accepted_accuracy),
        training=training,
    )


def trained_mixture(data: ClassifierData, settings: ClassifierTraining) -> NDArray[np.float64]:
    """Shares (K,) of the types that training showed or weighed, with a sum of 1."""
    size = len(data.types)
    if Balance.parse(settings.balance).kind != "none" or settings.scheme == "ovr":
        return np.full(size, 1 / size)
    counts = np.bincount(data.train.labels, minlength=size)
    return np.asarray(counts / counts.sum(), np.float64)


def review_threshold(
    probs: NDArray[np.float64], truth: NDArray[np.int64], accuracy: float
) -> float:
    """The lowest probability from which that share of the accepted cells is labelled right.

    Where none reaches it, the one that comes nearest.
    """
    best, right = probs.max(axis=1), probs.argmax(axis=1) == truth
    reached = [float(right[best >= t].mean()) if (best >= t).any() else 0.0 for t in _THRESHOLDS]
    for threshold, share in zip(_THRESHOLDS, reached, strict=True):
        if share >= accuracy:
            return threshold
    return _THRESHOLDS[int(np.argmax(reached))]


def _ece_at_own_mixture(
    logits: NDArray[np.float32], truth: NDArray[np.int64], fitted: Calibration
) -> dict[str, float | None]:
    """Calibration error of the held-out cells before and after, at the mixture trained on."""
    plain = dataclasses.replace(fitted, temperature=1.0, prior=fitted.source_prior)
    after = dataclasses.replace(fitted, prior=fitted.source_prior)
    return {
        name: expected_calibration_error(truth, calibrated_probs(logits, c))
        for name, c in (("before", plain), ("after", after))
    }


# Percent of the nucleated cells. Blood: mid-range of adults (Dacie & Lewis, Practical Haematology).
# Marrow: mean of healthy adults (Bain 1996, Br J Haematol 94:206), rounded.
_SHARES: dict[str, dict[str, float]] = {
    "peripheral-blood": {
        "segmented_neutrophils": 56, "band_forms": 3, "lymphocytes": 31, "monocytes": 6.5,
        "eosinophils": 2.5, "basophils": 0.5,
    },
    "bone-marrow": {
        "erythroblasts": 28, "segmented_neutrophils": 21, "band_forms": 12, "lymphocytes": 13,
        "promyelocytes": 8, "myelocytes": 8, "metamyelocytes": 4, "eosinophils": 2,
        "blasts": 1.5, "monocytes": 1.5, "plasma_cells": 0.6,
    },
}  # fmt: skip
_LEAST = 0.3  # percent of any other type: rare, and never ruled out


def profile_prior(taxonomy: Taxonomy, ids: Sequence[str]) -> NDArray[np.float64]:
    """Shares (K,) of the types ``ids`` in the taxonomy's kind of smear, with a sum of 1.

    Types that fill the same row of a differential divide its share equally.
    """
    rows_of = {t.id: t.rows for t in taxonomy.types if t.id in ids}
    sharing = Counter(row for rows in rows_of.values() for row in rows)
    shares = _SHARES[taxonomy.profile]
    percent = [
        max(_LEAST, sum(shares.get(row, 0.0) / sharing[row] for row in rows_of[i])) for i in ids
    ]
    return np.asarray(percent, np.float64) / sum(percent)
