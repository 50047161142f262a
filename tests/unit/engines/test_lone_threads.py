"""Threads in which torch computes alone, and a classifier that uses them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.engines.lone_threads import lone_threads
from cellcount.models.weights import resolve
from cellcount.rendering.field import FieldSpec, render_field

OPTIONS = EngineOptions("cpu", "fp32")


@pytest.fixture
def set_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("set_threads")
@pytest.mark.parametrize("own", [1, 3])
def test_torch_computes_alone_in_each_and_as_before_elsewhere(own: int) -> None:
    torch.set_num_threads(own)
    with lone_threads(2) as pool:
        assert torch.get_num_threads() == own
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == own


@pytest.mark.usefixtures("set_threads")
def test_crops_are_typed_the_same_with_one_thread_and_with_several() -> None:
    crops = list(np.random.default_rng(0).integers(0, 256, (5, 144, 144, 3), np.uint8))
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        classifier = load_classifier(resolve("cell-types"), OPTIONS)
        assert classifier.batches_at_once == count
        found.append(classifier.probs(crops))
    np.testing.assert_array_equal(found[0].argmax(1), found[1].argmax(1))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.usefixtures("set_threads")
def test_the_network_of_a_plugin_types_one_batch_after_the_other(tiny_classifier: Path) -> None:
    torch.set_num_threads(2)
    ours = load_classifier(tiny_classifier, OPTIONS)
    card = replace(ours.card, architecture=replace(ours.card.architecture, name="mine"))
    assert CropClassifier(ours.network, card, OPTIONS).batches_at_once == 1


@pytest.mark.usefixtures("set_threads")
def test_tiles_have_the_same_cells_to_the_last_bit_whatever_the_threads() -> None:
    fields = [render_field(FieldSpec(260 + 40 * n, 200, n, 40.0, 0.4)).pixels for n in range(4)]
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        engine = load_engine("torchvision", resolve("blood"), OPTIONS)
        assert engine.tiles_at_once == count
        found.append(engine.detect(fields))
    for one, other in zip(*found, strict=True):
        assert len(one)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)
