"""Refitting a last layer: few cells change little, and types without a cell keep working."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.adapt.choose import chosen, dealt
from cellcount.adapt.last_layer import (
    METHODS,
    Examples,
    LastLayer,
    Method,
    Refitting,
    are_right,
    log_losses,
)
from cellcount.models.kept_features import KeptFeatures

TYPES, WIDTH = 4, 24
CENTRES = np.random.default_rng(0).standard_normal((TYPES, WIDTH))
#: Another laboratory's stain: type 1 looks like type 0, and the other way round a little.
SHIFT = 0.9 * (CENTRES[0] - CENTRES[1])

BASE = LastLayer(
    CENTRES - CENTRES.mean(0), -(CENTRES**2).sum(1) / 2 / 4, 1.5, np.log([0.4, 0.3, 0.2, 0.1])
)


def cells_of(types: list[int], seed: int, shift: float = 1.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    noise = 0.35 * rng.standard_normal((len(types), WIDTH))
    return np.asarray(CENTRES[types] + noise + shift * SHIFT, np.float32)


def examples_of(types: list[int], seed: int = 1, slides: int = 5) -> Examples:
    views = [cells_of(types, seed + 100 * view) for view in range(3)]
    groups = np.arange(len(types), dtype=np.int64) % slides
    return Examples(np.stack(views, 1), np.eye(TYPES, dtype=np.bool_)[types], groups)


NONE = KeptFeatures.none(WIDTH, TYPES)
KEPT_TYPES = [0, 1, 2, 3] * 6
KEPT = KeptFeatures(cells_of(KEPT_TYPES, 7, 0.0), np.eye(TYPES, dtype=np.bool_)[KEPT_TYPES])


def share(layer: LastLayer, types: list[int], shift: float = 1.0) -> float:
    scores = layer.scores(cells_of(types, 55, shift))
    return float(are_right(scores, np.eye(TYPES, dtype=np.bool_)[types]).mean())


def adapted(examples: Examples, method: Method, kept: KeptFeatures = NONE) -> LastLayer:
    return Refitting(BASE, examples, kept).layer(method)


def test_a_laboratorys_cells_put_its_confused_types_right() -> None:
    new = [0, 1] * 100
    assert share(BASE, new) < 0.75
    examples = examples_of([0, 1] * 10)
    assert share(adapted(examples, Method("layer", 3.0)), new) > 0.95


def test_types_without_a_cell_keep_working_by_the_features_that_the_base_kept() -> None:
    """Cells of two types alone; the other two are still called as the base learned them."""
    examples, unseen = examples_of([0, 1] * 15), [2, 3] * 50
    before = share(BASE, unseen, 0.0)
    alone = adapted(examples, Method("layer", 10.0))
    with_kept = adapted(examples, Method("layer", 10.0), KEPT)
    assert share(with_kept, unseen, 0.0) >= before - 0.02
    assert share(with_kept, unseen, 0.0) >= share(alone, unseen, 0.0)
    np.testing.assert_allclose(alone.weight[2:], BASE.weight[2:])  # no cell, no kept feature


def test_less_freedom_changes_less() -> None:
    examples = examples_of([0, 1] * 10)
    distances = [
        float(np.abs(adapted(examples, Method("layer", f)).weight - BASE.weight).sum())
        for f in (0.1, 1.0, 10.0)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 0.1 * distances[2]


def test_a_calibration_changes_no_direction_of_the_layer() -> None:
    layer = adapted(examples_of([0, 1, 2, 3] * 5), Method("calibration"))
    ratio = layer.weight / BASE.weight
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert adapted(examples_of([0, 1]), Method("none")) is BASE


def test_a_coarse_label_asks_for_any_of_its_types() -> None:
    scores = np.log(np.array([[0.3, 0.3, 0.4, 1e-9], [0.1, 0.2, 0.3, 0.4]]))
    allowed = np.array([[True, True, False, False], [False, False, False, True]])
    np.testing.assert_allclose(log_losses(scores, allowed), -np.log([0.6, 0.4]), rtol=1e-6)
    assert are_right(scores, allowed).tolist() == [False, True]


def test_slides_stay_whole_but_those_that_alone_have_a_label() -> None:
    types = [0] * 12 + [1] * 6
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] + [4] * 6)
    examples = Examples(
        np.zeros((18, 1, WIDTH), np.float32), np.eye(TYPES, dtype=np.bool_)[types], groups
    )
    folds = dealt(examples, 4)
    for slide in range(4):
        assert len(set(folds[groups == slide])) == 1
    assert len(set(folds[:12])) == 4
    assert len(set(folds[12:])) == 4  # one slide has all of type 1
    order = np.random.default_rng(3).permutation(18)
    again = dealt(examples[order], 4)
    together = [(a, b) for a in range(12) for b in range(12) if folds[a] == folds[b]]
    place = {int(i): p for p, i in enumerate(order)}
    assert all(again[place[a]] == again[place[b]] for a, b in together)


def test_cross_validation_tells_a_gain_and_no_gain() -> None:
    ways, examples = (METHODS[0], METHODS[-1]), examples_of([0, 1] * 8, slides=3)
    found = chosen(BASE, examples, KEPT, ways)
    assert found.is_better(examples)
    before, after = found.right(examples)
    assert after.sum() > before.sum()
    assert found.method.kind == "layer"
    rng = np.random.default_rng(5)
    noise = examples_of(rng.integers(0, TYPES, 16).tolist(), slides=3)
    shuffled = Examples(noise.features, noise.allowed[rng.permutation(16)], noise.groups)
    assert not chosen(BASE, shuffled, KEPT, ways).is_better(shuffled)


def restated(examples: Examples, features: NDArray[np.float32]) -> Examples:
    return dataclasses.replace(examples, restated={0.3: features})


def test_a_share_of_statistics_is_used_where_it_brings_the_cells_nearer_to_the_base() -> None:
    types, way = [0, 1] * 8, (METHODS[0], METHODS[2])
    examples = examples_of(types)
    nearer = np.asarray(examples.features - 0.95 * SHIFT, np.float32)
    found = chosen(BASE, restated(examples, nearer), KEPT, way)
    assert found.method.share == 0.3
    assert found.by_share[0.3] is not None
    assert found.by_share[0.0] is not None
    assert found.by_share[0.3] < found.by_share[0.0]
    farther = np.asarray(examples.features + 0.5 * SHIFT, np.float32)
    assert chosen(BASE, restated(examples, farther), KEPT, way).method.share == 0.0


def test_a_share_that_gains_less_than_its_standard_error_is_not_used() -> None:
    types = [0, 1] * 8
    examples = examples_of(types)
    noise = 0.02 * np.random.default_rng(0).standard_normal(examples.features.shape)
    alike = np.asarray(examples.features - 0.001 * SHIFT + noise, np.float32)
    found = chosen(BASE, restated(examples, alike), KEPT, (METHODS[0], METHODS[2]))
    least = found.by_share[0.3]
    assert least is not None
    assert found.by_share[0.0] is not None
    assert least < found.by_share[0.0]
    assert found.method.share == 0.0
    plain = chosen(BASE, examples, KEPT, (METHODS[0], METHODS[2]))
    np.testing.assert_array_equal(found.after, plain.after)
    np.testing.assert_array_equal(found.layer.weight, plain.layer.weight)


def test_a_share_with_which_the_base_errs_more_is_never_used_though_a_new_layer_could_do() -> None:
    """The two types change places far apart: easy to refit, but no other type can be trusted."""
    types = [0, 1] * 8
    examples = examples_of(types)
    swapped = examples.features[:, :, :] * 0 + 4 * CENTRES[[1 - t for t in types]][:, None]
    found = chosen(BASE, restated(examples, np.asarray(swapped, np.float32)), KEPT)
    assert found.method.share == 0.0
    assert found.by_share[0.3] is None
    refit = Refitting(BASE, restated(examples, np.asarray(swapped, np.float32)), NONE, 0.3)
    scores = refit.layer(Method("layer", 3.0, 0.3)).scores(swapped[:, 0])
    assert are_right(scores, examples.allowed).all()


@pytest.mark.parametrize("cells", [2, 3])
def test_very_few_cells_do_not_break_it(cells: int) -> None:
    examples = examples_of([0, 1, 2][:cells])
    found = chosen(BASE, examples, NONE, METHODS[:2])
    assert np.isfinite(found.after).all()
