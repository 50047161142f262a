"""Statistics of normalisation from unlabelled cells: the cells' own, mixed with the packaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellcount.adapt.norm_statistics import reestimated
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.errors import UsageError
from tests.integration.random_classifier import write_random_classifier

OPTIONS = EngineOptions("cpu", "fp32")
Crops = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_classifier(tmp_path_factory.mktemp("base") / "base.safetensors")


@pytest.fixture
def classifier(weights: Path) -> CropClassifier:
    return load_classifier(weights, OPTIONS, fold=False)


@pytest.fixture(scope="module")
def crops() -> Crops:
    rng = np.random.default_rng(0)
    levels = rng.integers(40, 220, (70, 1, 1, 3))
    noisy = levels + rng.normal(0, 25, (70, 32, 32, 3))
    return list(np.clip(noisy, 0, 255).astype(np.uint8))


def moments(classifier: CropClassifier, crops: Crops) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of the input of every batch norm, over all crops together."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name, layer in classifier.network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):

            def seen(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
                variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
                found[name] = (mean, variance)

            hooks.append(layer.register_forward_pre_hook(seen))
    classifier.whole_batch(crops)
    for hook in hooks:
        hook.remove()
    return found


def test_statistics_of_every_layer_are_those_of_the_cells_under_the_layers_before_it(
    weights: Path, classifier: CropClassifier, crops: Crops
) -> None:
    few = crops[:32]
    changed = load_classifier(weights, OPTIONS, reestimated(classifier, few, 1.0), fold=False)
    layers = moments(changed, few)
    state = changed.network.state_dict()
    assert len(layers) > 3
    for name, (mean, variance) in layers.items():
        torch.testing.assert_close(state[f"{name}.running_mean"], mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(state[f"{name}.running_var"], variance, rtol=1e-3, atol=1e-3)


def test_a_share_of_the_first_layers_statistics_is_that_of_all_cells_together(
    classifier: CropClassifier, crops: Crops
) -> None:
    mean, variance = next(iter(moments(classifier, crops).values()))
    name = next(iter(moments(classifier, crops)))
    before = classifier.network.state_dict()
    found = reestimated(classifier, crops, 0.3)
    expected = 0.7 * before[f"{name}.running_mean"] + 0.3 * mean
    torch.testing.assert_close(found[f"{name}.running_mean"], expected)
    expected = 0.7 * before[f"{name}.running_var"] + 0.3 * variance
    torch.testing.assert_close(found[f"{name}.running_var"], expected)


def test_the_network_is_left_as_it_was_and_a_share_of_0_changes_nothing(
    classifier: CropClassifier, crops: Crops
) -> None:
    before = {k: v.clone() for k, v in classifier.network.state_dict().items()}
    reestimated(classifier, crops, 0.7)
    after = classifier.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name, value in reestimated(classifier, crops, 0.0).items():
        torch.testing.assert_close(value, before[name])


def test_a_network_without_batch_norm_is_refused(classifier: CropClassifier, crops: Crops) -> None:
    plain = CropClassifier(nn.Sequential(nn.Flatten(), nn.Linear(1, 1)), classifier.card, OPTIONS)
    with pytest.raises(UsageError, match="no batch normalisation.*leave out --unlabelled"):
        reestimated(plain, crops, 0.3)
