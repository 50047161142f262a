"""Temperature and prior against a grid search, against SciPy and against Bayes worked out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cellcount.errors import UsageError
from cellcount.evaluation.calibration import (
    TEMPERATURES,
    Calibration,
    calibrated_probs,
    fit_calibration,
)
from cellcount.evaluation.classification import expected_calibration_error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def overconfident(
    seed: int, temperature: float, count: int = 4000, types: int = 4
) -> tuple[Floats, Ints]:
    """Logits that are ``temperature`` times too large for the labels drawn from them."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(scale=1.5, size=(count, types))
    true = np.array([rng.choice(types, p=p) for p in softmax(honest, axis=1)])
    return honest * temperature, true


def nll(logits: Floats, true: Ints, temperature: float, shift: Floats | float = 0.0) -> float:
    scores = log_softmax(logits / temperature + shift, axis=1)
    return float(-scores[np.arange(len(true)), true].mean())


def own_mixture(true: Ints, types: int) -> Floats:
    """Shift from a uniform source to the mixture of the cells themselves."""
    return np.asarray(np.log(np.bincount(true, minlength=types) / len(true)) - np.log(1 / types))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_one_a_grid_search_finds(temperature: float) -> None:
    logits, true = overconfident(0, temperature)
    fitted = fit_calibration(logits, true)
    shift = own_mixture(true, 4)
    grid = np.geomspace(0.2, 5, 2001)
    best = grid[np.argmin([nll(logits, true, t, shift) for t in grid])]
    assert fitted.temperature == pytest.approx(best, rel=0.002)
    exact = minimize_scalar(
        lambda t: nll(logits, true, t, shift), bounds=(0.2, 5), options={"xatol": 1e-9}
    )
    assert fitted.temperature == pytest.approx(exact.x, rel=1e-5)
    assert fitted.nll_after == pytest.approx(exact.fun, abs=1e-9)
    assert fitted.temperature == pytest.approx(temperature, rel=0.1)


def test_likelihood_and_calibration_error_fall() -> None:
    logits, true = overconfident(1, 3.0)
    fitted = fit_calibration(logits[:2000], true[:2000])
    assert fitted.nll_after < fitted.nll_before - 0.1
    held_out = logits[2000:], true[2000:]
    before = expected_calibration_error(held_out[1], softmax(held_out[0], axis=1))
    after = expected_calibration_error(held_out[1], calibrated_probs(held_out[0], fitted))
    assert before is not None
    assert after is not None
    assert after < 0.04 < 0.15 < before


def test_the_most_probable_type_stays_where_priors_do() -> None:
    logits, true = overconfident(2, 2.0)
    probs = calibrated_probs(logits, fit_calibration(logits, true))
    np.testing.assert_array_equal(probs.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(probs.sum(axis=1), 1)


MEANS = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]])
BLOOD = np.array([0.7, 0.25, 0.05])


def gaussians(seed: int, shares: Floats, count: int) -> tuple[Floats, Ints]:
    """Cells of three types as points; their log densities are perfect logits at equal shares."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, count, p=shares)
    points = MEANS[true] + rng.normal(size=(count, 2))
    return -0.5 * ((points[:, None] - MEANS) ** 2).sum(axis=2), true


def test_probabilities_at_another_prior_are_those_of_bayes() -> None:
    logits, _ = gaussians(0, np.full(3, 1 / 3), 500)
    calibration = Calibration(1.0, (1 / 3,) * 3, tuple(BLOOD), 0, 0.0, 0.0)
    density = np.exp(logits) * BLOOD
    expected = density / density.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrated_probs(logits, calibration), expected, atol=1e-12)


def test_a_prior_makes_probabilities_true_on_such_a_mixture() -> None:
    balanced, true = gaussians(1, np.full(3, 1 / 3), 3000)
    fitted = fit_calibration(2 * balanced, true, prior=BLOOD)
    assert fitted.temperature == pytest.approx(2, rel=0.1)
    blood, true = gaussians(2, BLOOD, 6000)
    at_blood = calibrated_probs(2 * blood, fitted)
    np.testing.assert_allclose(at_blood.mean(axis=0), BLOOD, atol=0.015)
    at_uniform = calibrated_probs(2 * blood, fit_calibration(2 * balanced, true[:3000]))
    error = expected_calibration_error(true, at_blood)
    naive = expected_calibration_error(true, at_uniform)
    assert error is not None
    assert naive is not None
    assert error < 0.025 < naive


def test_the_mixture_of_the_cells_fitted_on_does_not_bend_the_temperature() -> None:
    """One classifier, fitted on a balanced and on a very unbalanced set of cells."""
    temperatures = []
    for shares in (np.full(3, 1 / 3), np.array([0.9, 0.05, 0.05])):
        logits, true = gaussians(3, shares, 8000)
        temperatures.append(fit_calibration(1.7 * logits, true).temperature)
    assert temperatures == pytest.approx([1.7, 1.7], rel=0.06)


def test_a_network_trained_on_an_unbalanced_set_states_its_source_prior() -> None:
    logits, true = gaussians(4, BLOOD, 4000)
    learned = logits + np.log(BLOOD)  # what such a network gives
    fitted = fit_calibration(learned, true, source_prior=BLOOD, prior=BLOOD)
    assert fitted.temperature == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(
        calibrated_probs(learned, Calibration(1.0, tuple(BLOOD), (1 / 3,) * 3, 0, 0, 0)),
        softmax(logits, axis=1),
        atol=1e-12,
    )


def test_a_type_without_cells_does_not_disturb() -> None:
    logits, true = overconfident(5, 2.0, types=3)
    wider = np.concatenate([logits, np.full((len(true), 1), 30.0)], axis=1)
    assert fit_calibration(wider, true).temperature == pytest.approx(
        fit_calibration(logits, true).temperature, rel=1e-6
    )


def test_the_temperature_is_bounded() -> None:
    true = np.array([0, 1] * 50)
    separable = np.eye(2)[true]
    assert fit_calibration(separable, true).temperature == pytest.approx(TEMPERATURES[0], rel=0.01)
    wrong = np.eye(2)[1 - true]
    assert fit_calibration(wrong, true).temperature == pytest.approx(TEMPERATURES[1], rel=0.01)


def test_extreme_logits_stay_finite() -> None:
    calibration = Calibration(0.05, (0.5, 0.5), (0.999, 0.001), 0, 0.0, 0.0)
    probs = calibrated_probs(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), calibration)
    np.testing.assert_allclose(probs, [[1, 0], [0, 1]], atol=1e-12)
    assert calibrated_probs(np.zeros((0, 2)), calibration).shape == (0, 2)


def test_priors_are_brought_to_sum_one() -> None:
    logits, true = overconfident(6, 1.0, count=50)
    assert fit_calibration(logits, true, prior=np.array([2, 1, 1, 4])).prior == (
        0.25, 0.125, 0.125, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("prior", [[1, 1], [1, 1, 1, 0], [1, 1, 1, -1], [1, 1, 1, np.nan]])
def test_a_prior_that_does_not_fit(prior: list[float]) -> None:
    logits, true = overconfident(6, 1.0, count=50)
    with pytest.raises(UsageError, match=r"the prior is \[.*\], expected 4 shares, one per type"):
        fit_calibration(logits, true, prior=np.array(prior))


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(UsageError, match="no cells to calibrate on; set a part of train apart"):
        fit_calibration(np.zeros((0, 3)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="logits must be finite"):
        fit_calibration(np.array([[np.nan, 0]]), np.array([0]))
    with pytest.raises(ValueError, match=r"true must have shape \(1,\)"):
        fit_calibration(np.zeros((1, 2)), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"logits must have shape \(N, 2\)"):
        calibrated_probs(np.zeros((1, 3)), Calibration(1, (0.5, 0.5), (0.5, 0.5), 1, 0, 0))
