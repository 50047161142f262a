"""Classifiers by name and from cards: the contract, the options, one against the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from cellcount.errors import PluginError, UsageError, WeightsError
from cellcount.models.backbone import load_pretrained
from cellcount.models.classifier import (
    OneVersusRest,
    TimmClassifier,
    build_classifier,
    create_classifier,
)
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    types_of,
)
from cellcount.models.taxonomy import load_taxonomy
from cellcount.testing import check_classifier

PLUGIN = """
from torch import nn
class Net(nn.Module):
    input_size, mean, std, interpolation = {size}, (0.5,) * 3, (0.25,) * 3, {interpolation!r}
    def __init__(self, outputs):
        super().__init__()
        self.last = nn.Linear(3, outputs)
    def forward(self, images):
        return self.last(images.mean((2, 3)))
def build_classifier(num_classes, **options):
    if options:
        raise ValueError("no options here")
    return Net(num_classes)
"""


def card(name: str, side: int = 32, **options: Any) -> ClassifierCard:  # noqa: ANN401
    scheme = options.pop("scheme", "softmax")
    return ClassifierCard(
        name="c",
        version="1",
        types=types_of(load_taxonomy("wbc-5")),
        taxonomy="wbc-5",
        license="MIT",
        architecture=ClassifierArchitecture(name, options, scheme),
        preprocessing=ClassifierPreprocessing(input_px=(side, side)),
    )


@pytest.mark.parametrize(
    ("model", "side"),
    [("test_resnet", 32), ("test_efficientnet", 48), ("test_vit", 64), ("mobilevit_xxs", 64)],
)
def test_timm_models_keep_the_contract(model: str, side: int) -> None:
    assert check_classifier(f"timm/{model}", input_px=side) == []


def test_statistics_and_size_are_those_of_the_model() -> None:
    module = create_classifier("timm/mobilevit_xxs", 5)
    config: Any = timm.create_model("mobilevit_xxs").pretrained_cfg
    assert module.input_size == config["input_size"][-2:] == (256, 256)
    assert (module.mean, module.std) == (config["mean"], config["std"])
    assert module.interpolation == config["interpolation"] == "bicubic"


def test_the_input_size_reaches_position_embeddings() -> None:
    module = create_classifier("timm/test_vit", 3, input_px=[64, 96])
    assert module.input_size == (64, 96)
    assert module(torch.zeros(2, 3, 64, 96)).shape == (2, 3)


def test_the_numbers_are_those_of_timm() -> None:
    torch.manual_seed(0)
    module = create_classifier("timm/test_resnet", 4).eval()
    theirs = timm.create_model("test_resnet", num_classes=4).eval()
    theirs.load_state_dict(cast(nn.Module, module.body).state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(module(images), theirs(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/mobilevit_xx", "did you mean timm/mobilevit_xxs"),
        ("timm", "timm has no model ''"),
        ("timm/hf-hub:someone/model", "timm has no model 'hf-hub:someone/model'"),
    ],
)
def test_a_wrong_timm_name_says_what_to_do(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_classifier(name, 5)


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg_overlay"])
def test_options_never_load_or_download(option: str) -> None:
    asked: dict[str, Any] = {option: "model.pth"}
    with pytest.raises(UsageError, match="are not allowed"):
        create_classifier("timm/test_resnet", 5, **asked)
    with pytest.raises(WeightsError, match="are not allowed"):
        build_classifier(card("anything", **asked))


def test_an_unknown_option_is_a_message() -> None:
    with pytest.raises(UsageError, match="cannot build a classifier from 'test_resnet'"):
        create_classifier("timm/test_resnet", 5, colour="red")


def test_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match="0 classes was asked for"):
        create_classifier("timm/test_resnet", 0)


def test_a_plugin_of_a_folder_is_built(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(size=(20, 24), interpolation="bilinear"))
    module = create_classifier("mine", 7, plugin_folder=tmp_path)
    assert module(torch.zeros(2, 3, 20, 24)).shape == (2, 7)
    with pytest.raises(PluginError, match="ValueError: no options here"):
        create_classifier("mine", 7, plugin_folder=tmp_path, width=3)


def test_a_plugin_that_breaks_the_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "nearest.py").write_text(PLUGIN.format(size=(20, 20), interpolation="nearest"))
    with pytest.raises(PluginError, match="states interpolation 'nearest', expected bilinear or"):
        create_classifier("nearest", 2, plugin_folder=tmp_path)
    (tmp_path / "number.py").write_text("def build_classifier(num_classes): return num_classes\n")
    with pytest.raises(PluginError, match="built a int"):
        create_classifier("number", 2, plugin_folder=tmp_path)
    (tmp_path / "bare.py").write_text(
        "from torch import nn\ndef build_classifier(num_classes): return nn.Linear(1, 1)\n"
    )
    with pytest.raises(PluginError, match="has no attribute 'input_size'"):
        create_classifier("bare", 2, plugin_folder=tmp_path)


def test_local_timm_weights_are_loaded_without_their_last_layer(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", num_classes=11)
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    module = TimmClassifier("test_resnet", 4)
    untouched = load_pretrained(module, tmp_path / "timm.safetensors")
    assert untouched == ["body.fc.bias", "body.fc.weight"]
    own = module.body.state_dict()
    assert all(torch.equal(own[k], v) for k, v in source.state_dict().items() if "fc" not in k)


def test_local_timm_weights_are_loaded_into_the_base_of_a_plugin(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", num_classes=11)
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    module, base = nn.Module(), timm.create_model("test_resnet", num_classes=0)
    module.base = base
    assert load_pretrained(module, tmp_path / "timm.safetensors") == []
    loaded = dict(module.named_parameters())["base.conv1.0.weight"]
    assert torch.equal(loaded, source.state_dict()["conv1.0.weight"])


class Constant(nn.Module):
    """One logit, the same for every image."""

    input_size, mean, std, interpolation = (8, 8), (0.0,) * 3, (1.0,) * 3, "bilinear"

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 1), self.logit)


def test_one_versus_rest_normalises_the_binary_probabilities() -> None:
    logits = [2.0, -1.0, 0.5]
    outputs = OneVersusRest([Constant(x) for x in logits])(torch.zeros(2, 3, 8, 8))
    binary = torch.tensor(logits).sigmoid()
    assert outputs.shape == (2, 3)
    assert torch.allclose(outputs.softmax(1), (binary / binary.sum()).expand(2, 3))


def test_a_card_of_one_versus_rest_builds_a_network_per_type() -> None:
    module = build_classifier(card("timm/test_resnet", scheme="ovr")).eval()
    assert isinstance(module, OneVersusRest)
    assert len(module.models) == 5
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_a_card_decides_the_input_size() -> None:
    assert build_classifier(card("timm/test_vit", 64)).input_size == (64, 64)
    assert build_classifier(card("timm/test_vit", 64, input_px=[64, 64])).input_size == (64, 64)


def test_a_card_and_a_network_of_different_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(size=(20, 20), interpolation="bilinear"))
    with pytest.raises(WeightsError, match=r"input_px is \(32, 32\), but mine .* takes \(20, 20\)"):
        build_classifier(card("mine"), tmp_path)
    with pytest.raises(WeightsError, match=r"takes \(64, 64\)"):
        build_classifier(card("timm/test_resnet", input_px=64))


def test_a_built_classifier_takes_its_own_weights() -> None:
    torch.manual_seed(1)
    stated = card("timm/test_resnet", scheme="ovr")
    first, second = build_classifier(stated).eval(), build_classifier(stated).eval()
    second.load_state_dict(first.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))
