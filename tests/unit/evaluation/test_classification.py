"""Scores of a classifier against scikit-learn, against hand-worked numbers and against loops."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from cellcount.evaluation.classification import (
    ECE_BINS,
    ClassificationReport,
    Scores,
    evaluate_classification,
    expected_calibration_error,
    wilson_limits,
)

TYPES = ("blast", "promyelocyte", "myelocyte", "monocyte", "other")
NEAR = ((1,), (0, 2), (1,), (), ())

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def cells(seed: int, count: int = 300, types: int = 5) -> tuple[Ints, Floats]:
    """Unbalanced true types and probabilities that are right more often than not."""
    rng = np.random.default_rng(seed)
    true = rng.choice(types, count, p=rng.dirichlet(np.full(types, 1.5)))
    logits = rng.normal(size=(count, types)) + 1.5 * np.eye(types)[true]
    odds = np.exp(logits)
    return true, odds / odds.sum(axis=1, keepdims=True)


def certain(labels: list[int], types: int) -> Floats:
    return np.eye(types)[labels]


@pytest.mark.parametrize("seed", range(4))
def test_every_score_equals_scikit_learn_s(seed: int) -> None:
    true, probs = cells(seed)
    given = probs.argmax(axis=1)
    scores = evaluate_classification(true, probs, TYPES).strict
    macro = metrics.precision_recall_fscore_support(true, given, average="macro", zero_division=0)
    weighted = metrics.precision_recall_fscore_support(
        true, given, average="weighted", zero_division=0
    )
    expected = {
        "accuracy": metrics.accuracy_score(true, given),
        "weighted_recall": weighted[1],
        "balanced_accuracy": metrics.balanced_accuracy_score(true, given),
        "macro_precision": macro[0],
        "macro_recall": macro[1],
        "macro_f1": macro[2],
        "weighted_precision": weighted[0],
        "weighted_f1": weighted[2],
        "mcc": metrics.matthews_corrcoef(true, given),
        "kappa": metrics.cohen_kappa_score(true, given),
    }
    assert {name: getattr(scores, name) for name in expected} == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_confusion_per_type_and_top_2_equal_scikit_learn_s(seed: int) -> None:
    true, probs = cells(seed)
    given = probs.argmax(axis=1)
    report = evaluate_classification(true, probs, TYPES)
    np.testing.assert_array_equal(
        report.confusion, metrics.confusion_matrix(true, given, labels=range(5))
    )
    table = metrics.classification_report(
        true, given, labels=range(5), target_names=TYPES, output_dict=True, zero_division=np.nan
    )
    for scores in report.per_type:
        theirs = table[scores.name]
        assert scores.support == theirs["support"]
        for ours, name in ((scores.precision, "precision"), (scores.recall, "recall")):
            value = np.nan if ours is None else ours
            assert value == pytest.approx(theirs[name], nan_ok=True)
        assert scores.f1 == pytest.approx(theirs["f1-score"])
    assert report.top_2 == pytest.approx(
        metrics.top_k_accuracy_score(true, probs, k=2, labels=range(5))
    )


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_equals_a_loop_over_bins(seed: int) -> None:
    true, probs = cells(seed)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == true
    expected = 0.0
    for low in np.arange(ECE_BINS) / ECE_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / ECE_BINS)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert evaluate_classification(true, probs, TYPES).ece == pytest.approx(expected, abs=1e-6)
    assert expected_calibration_error(true, probs) == pytest.approx(expected, abs=1e-6)


def test_neighbours_count_as_right_in_the_tolerant_scores_only() -> None:
    #  blast called promyelocyte, promyelocyte called myelocyte: near; blast called myelocyte: far
    true = np.array([0, 0, 1, 1, 0, 3])
    probs = certain([0, 1, 2, 1, 2, 4], 5)
    report = evaluate_classification(true, probs, TYPES, neighbours=NEAR)
    assert report.strict.accuracy == pytest.approx(2 / 6)
    assert report.tolerant.accuracy == pytest.approx(4 / 6)
    assert [t.tolerant_right for t in report.per_type] == [2, 2, 0, 0, 0]
    assert report.per_type[0].recall == pytest.approx(1 / 3)
    assert report.per_type[0].tolerant_recall == pytest.approx(2 / 3)
    forgiven = np.array([0, 0, 1, 1, 2, 4])
    assert report.tolerant.macro_f1 == pytest.approx(
        metrics.f1_score(true, forgiven, average="macro"), abs=1e-6
    )
    assert report.tolerant.kappa == pytest.approx(
        metrics.cohen_kappa_score(true, forgiven), abs=1e-6
    )


def test_without_neighbours_tolerant_is_strict() -> None:
    report = evaluate_classification(*cells(0), TYPES)
    assert report.tolerant == report.strict


def test_what_is_undefined_is_none() -> None:
    # Type 1 is never given, type 2 has no cells, type 3 neither.
    report = evaluate_classification(np.array([0, 0, 1]), certain([0, 2, 0], 4), "abcd")
    a, b, c, d = report.per_type
    assert (a.precision, a.recall) == (0.5, 0.5)
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert (c.precision, c.recall, c.f1) == (0.0, None, 0.0)
    assert (d.precision, d.recall, d.f1, d.tolerant_recall) == (None, None, None, None)
    assert report.strict.macro_f1 == pytest.approx(0.5 / 3)  # d takes no part
    assert report.strict.balanced_accuracy == pytest.approx(0.25)


def test_correlations_need_something_that_varies() -> None:
    one_label = evaluate_classification(np.array([0, 1]), certain([0, 0], 2), "ab").strict
    assert (one_label.mcc, one_label.kappa) == (None, 0.0)
    one_type = evaluate_classification(np.array([0, 0]), certain([0, 0], 2), "ab").strict
    assert (one_type.accuracy, one_type.mcc, one_type.kappa) == (1.0, None, None)


def test_no_cells_give_no_numbers_and_no_crash() -> None:
    report = evaluate_classification(np.zeros(0, np.int64), np.zeros((0, 5)), TYPES)
    assert report.strict == Scores(*[None] * 9)
    assert report.strict.weighted_recall is None
    assert (report.top_2, report.ece, report.accuracy_wilson) == (None, None, None)
    assert (report.accuracy_bootstrap, report.macro_f1_bootstrap) == (None, None)
    assert report.confusion.sum() == 0
    json.dumps(report.to_dict())


def test_wilson_limits_are_the_printed_ones() -> None:
    """20 % is 13.3–28.9 on 100 cells, 16.7–23.7 on 500 and 17.6–22.6 on 1,000."""
    printed = {100: (13.3, 28.9), 500: (16.7, 23.7), 1000: (17.6, 22.6)}
    for count, expected in printed.items():
        limits = wilson_limits(count // 5, count)
        assert limits is not None
        assert tuple(round(100 * limit, 1) for limit in limits) == expected


def bootstrap_by_hand(true: Ints, given: Ints, seed: int) -> dict[str, tuple[float, float]]:
    """Draws cells, type by type, and scores each draw with scikit-learn."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(true == k) for k in np.unique(true)]
    accuracy, f1 = [], []
    for _ in range(400):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        accuracy.append(float((true[drawn] == given[drawn]).mean()))
        f1.append(metrics.f1_score(true[drawn], given[drawn], average="macro", zero_division=0))
    return {
        "accuracy": tuple(np.quantile(accuracy, [0.025, 0.975])),
        "f1": tuple(np.quantile(f1, [0.025, 0.975])),
    }


def test_bootstrap_limits_equal_those_of_drawing_cells() -> None:
    true, probs = cells(1, count=200)
    report = evaluate_classification(true, probs, TYPES, seed=5)
    by_hand = bootstrap_by_hand(true, probs.argmax(axis=1), seed=0)
    assert report.accuracy_bootstrap == pytest.approx(by_hand["accuracy"], abs=0.015)
    assert report.macro_f1_bootstrap == pytest.approx(by_hand["f1"], abs=0.025)
    low, high = report.macro_f1_bootstrap or (1, 0)
    assert low < (report.strict.macro_f1 or 0) < high


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    def limits(seed: int) -> Any:  # noqa: ANN401
        return evaluate_classification(*cells(1), TYPES, seed=seed).macro_f1_bootstrap

    assert limits(3) == limits(3)
    assert limits(3) != limits(4)


def report() -> ClassificationReport:
    return evaluate_classification(*cells(0), TYPES, neighbours=NEAR)


def test_tables() -> None:
    made = report()
    rows = made.summary_rows()
    assert [(row["metric"], row["method"]) for row in rows[:3]] == [
        ("accuracy", "Wilson"),
        ("accuracy", "bootstrap"),
        ("weighted_recall", ""),
    ]
    by_metric = {str(row["metric"]): row for row in rows}
    assert by_metric["weighted_recall"]["strict"] == made.strict.accuracy
    assert (by_metric["macro_f1"]["ci_low"], by_metric["macro_f1"]["ci_high"]) == (
        made.macro_f1_bootstrap
    )
    assert by_metric["mcc"]["tolerant"] == made.tolerant.mcc
    assert {"top_2", "ece", "kappa", "balanced_accuracy"} <= by_metric.keys()
    assert len({tuple(row) for row in rows}) == 1
    assert [row["type"] for row in made.type_rows()] == list(TYPES)
    confusion = made.confusion_rows()
    assert confusion[1]["true"] == "promyelocyte"
    assert confusion[1]["myelocyte"] == made.confusion[1, 2]
    assert json.loads(json.dumps(made.to_dict()))["ece_bins"] == ECE_BINS


@pytest.mark.parametrize(
    ("true", "probs", "types", "message"),
    [
        (np.array([0]), np.ones((1, 1)), "a", "expected two or more"),
        (np.array([0.0]), np.ones((1, 2)) / 2, "ab", "true must be whole numbers"),
        (np.array([0]), np.ones((2, 2)) / 2, "ab", r"probs must have shape \(1, 2\), got \(2, 2\)"),
        (np.array([2]), np.ones((1, 2)) / 2, "ab", "true is 2 to 2, expected 0 to 1"),
        (np.array([0]), np.ones((1, 2)), "ab", "logits are no probabilities"),
    ],
)
def test_what_does_not_fit_is_refused(true: Any, probs: Any, types: str, message: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=message):
        evaluate_classification(true, probs, types)


def test_neighbours_must_be_given_for_all_types() -> None:
    with pytest.raises(ValueError, match="neighbours has 1 entries, expected 5 or none"):
        evaluate_classification(*cells(0), TYPES, neighbours=((1,),))
