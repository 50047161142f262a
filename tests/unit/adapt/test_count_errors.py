"""Thresholds and scale from labelled fields, each field judged by what had not seen its slide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cellcount.adapt.count_errors import CountFigures, SeenFields, dealt, figures_of
from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth

CLASSES = ("rbc", "wbc", "platelet")
OWN = {"rbc": 0.8, "wbc": 0.5, "platelet": 0.6}
Made = Callable[..., Detections]


def truth(reds: int, whites: int) -> Truth:
    labels = np.array([0] * reds + [1] * whites, np.int64)
    return Truth("f", np.zeros((len(labels), 4), np.float32), labels, 100, 100)


def found(*scores_of: list[float]) -> Detections:
    """Detections with these scores, class by class."""
    labels = np.array([c for c, scores in enumerate(scores_of) for _ in scores], np.int64)
    scores = np.array([s for scores in scores_of for s in scores], np.float32)
    return Detections(np.zeros((len(labels), 4), np.float32), scores, labels)


def strict_fields(count: int = 10, factor: float = 1.0) -> list[Detections]:
    """Fields of ten red cells, six of them above the detector's threshold; none below 0.6."""
    rng = np.random.default_rng(3)
    return [
        found(
            [factor * s for s in [0.9] * 6 + [0.7] * 4 + [0.3] * 5],
            [0.9, 0.8 + 0.1 * rng.random()],
            [0.61],
        )
        for _ in range(count)
    ]


def seen(detections: dict[float, list[Detections]], groups: list[str] | None = None) -> SeenFields:
    count = len(detections[1.0])
    slides = groups or [f"s{n}" for n in range(count)]
    return SeenFields(CLASSES, [truth(10, 2)] * count, detections, slides)


def test_a_strict_threshold_is_loosened_and_what_is_right_or_unlabelled_stays() -> None:
    figures = figures_of(seen({1.0: strict_fields()}), OWN)
    assert 0.3 < figures.thresholds["rbc"] <= 0.7
    assert figures.thresholds["wbc"] <= 0.8
    assert figures.thresholds["platelet"] == OWN["platelet"]
    assert figures.before["rbc"].bias == pytest.approx(-0.4)
    assert figures.before["rbc"].mean_error == 4
    assert figures.after["rbc"].mean_error == figures.after["wbc"].mean_error == 0
    assert "platelet" not in figures.after
    assert figures.is_better()


def test_every_field_is_judged_by_settings_that_had_not_seen_its_slide() -> None:
    """One slide scores differently: its own fields would have told, the others cannot."""
    odd = [found([0.45] * 10, [0.9, 0.9]) for _ in range(2)]
    detections = strict_fields(8) + odd
    groups = [f"s{n // 2}" for n in range(10)]
    figures = figures_of(seen({1.0: detections}, groups), OWN)
    rbc = figures.counts[:, 0]
    assert (rbc[:8, 2] == 10).all()
    # The four other slides put the threshold midway between 0.7 and 0.3.
    assert (rbc[8:, 2] == 0).all()
    assert len(set(figures.folds[8:])) == 1
    assert not set(figures.folds[8:]) & set(figures.folds[:8])


def test_another_scale_is_taken_only_where_it_gains_clearly() -> None:
    blind = [found([0.9] * 5 + [0.1] * n, [0.9, 0.9]) for n in range(10)]
    better = {1.0: blind, 0.8: strict_fields()}
    assert figures_of(seen(better), OWN).scale == 0.8
    equal = {1.0: strict_fields(), 0.8: strict_fields(), 1.25: strict_fields()}
    assert figures_of(seen(equal), OWN).scale == 1.0


def test_nothing_is_gained_where_counts_are_right_already() -> None:
    right = [found([0.9] * 10, [0.9, 0.9]) for _ in range(6)]
    figures: CountFigures = figures_of(seen({1.0: right}), OWN)
    assert not figures.is_better()


def test_folds_do_not_depend_on_the_order_of_the_fields() -> None:
    names = ["b", "a", "a", "d", "c", "e", "f", "b"]
    folds = dict(zip(names, dealt(names).tolist(), strict=True))
    back = dict(zip(names[::-1], dealt(names[::-1]).tolist(), strict=True))
    assert folds == back
    assert folds == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 0}
