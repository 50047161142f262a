"""Features of a classifier's training, kept beside its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellcount.errors import WeightsError
from cellcount.models.kept_features import (
    KeptFeatures,
    features_path,
    read_kept_features,
    write_kept_features,
)

KEPT = KeptFeatures(
    np.array([[0.5, -2.0, 8.0], [0.0, 0.25, -1.0]], np.float32),
    np.array([[True, False], [True, True]]),
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weight file's path with features beside it."""
    path = tmp_path / "model.safetensors"
    write_kept_features(features_path(path), KEPT)
    return path


def test_features_come_back_as_they_were(weights: Path) -> None:
    found = read_kept_features(weights, 3, 2)
    np.testing.assert_array_equal(found.features, KEPT.features)
    np.testing.assert_array_equal(found.allowed, KEPT.allowed)
    assert found.features.dtype == np.float32
    assert found.allowed.dtype == np.bool_


def test_weights_without_features_have_none(tmp_path: Path) -> None:
    found = read_kept_features(tmp_path / "model.safetensors", 3, 2)
    assert (found.features.shape, found.allowed.shape) == ((0, 3), (0, 2))


@pytest.mark.parametrize(("features", "types"), [(4, 2), (3, 5)])
def test_features_of_another_network_are_refused(weights: Path, features: int, types: int) -> None:
    with pytest.raises(WeightsError, match=f"beside it takes {features} and gives {types}"):
        read_kept_features(weights, features, types)


def test_a_broken_file_is_refused_and_named(weights: Path) -> None:
    path = features_path(weights)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match=r"model\.features cannot be read"):
        read_kept_features(weights, 3, 2)
