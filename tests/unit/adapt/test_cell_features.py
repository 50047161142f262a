"""Features of labelled cells under several statistics of one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.adapt import cell_features
from cellcount.adapt.cell_features import seen
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import load_classifier
from tests.integration.random_classifier import write_random_classifier

CELLS = 4


def test_features_of_the_first_classifier_do_not_depend_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_features, "_WINDOWS", 6 * CELLS)  # 6 views by one, 2 by each of three
    items = []
    for n in range(CELLS):
        path = tmp_path / f"{n}.png"
        noise = np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        items.append(LabelledCrop(path, "lymphocyte"))
    weights = write_random_classifier(tmp_path / "base.safetensors")
    classifier = load_classifier(weights, EngineOptions("cpu", "fp32"))
    (alone,) = seen(items, [classifier], None).features
    first, *others = seen(items, [classifier] * 3, None).features
    assert alone.shape[:2] == (CELLS, 6)
    np.testing.assert_array_equal(first, alone)
    for other in others:
        np.testing.assert_array_equal(other, alone[:, :2])
