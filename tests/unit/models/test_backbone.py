"""Backbones: the contract over several families, plugins, local pretrained files, messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from cellcount.errors import PluginError, UsageError
from cellcount.models.backbone import (
    TimmBackbone,
    create_backbone,
    load_pretrained,
    timm_backbone,
)
from cellcount.testing import check_backbone

PLUGIN = """
from torch import nn
class Net(nn.Module):
    channels, strides, mean, std = (4, 6), {strides}, (0.5,) * 3, (0.25,) * 3
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 6, 2, 2)
    def forward(self, images):
        first = self.a(images)
        return [first, self.b(first)]
def build_backbone(strides=(8, 16), **options):
    if options:
        raise ValueError("no options here")
    return Net()
"""


@pytest.mark.parametrize(
    "model", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "mobilevit_xxs"]
)
def test_timm_models_keep_the_contract(model: str) -> None:
    assert check_backbone(f"timm/{model}", strides=(8, 16, 32)) == []


@pytest.mark.parametrize("strides", [(4,), (8, 16), (16,), (4, 8, 16, 32)])
def test_the_levels_asked_for_come_out(strides: tuple[int, ...]) -> None:
    backbone = TimmBackbone("test_resnet", strides)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert backbone.strides == strides
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, strides, strict=True)
    ]


def test_statistics_are_those_of_the_model() -> None:
    backbone = TimmBackbone("test_efficientnet", (8, 16, 32))
    config: Any = timm.create_model("test_efficientnet").pretrained_cfg
    assert (backbone.mean, backbone.std) == (config["mean"], config["std"])


def test_unused_deeper_stages_are_not_built() -> None:
    shallow = create_backbone("timm/test_resnet", strides=(8,))
    assert not any(name.startswith("body.layer4") for name, _ in shallow.named_parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnt18", "did you mean timm/resnet18"),
        ("timm/", "timm has no model ''"),
        ("timm", "timm has no model ''"),
        ("timm/hf-hub:someone/model", "timm has no model 'hf-hub:someone/model'"),
        ("timm/local-dir:/tmp", "timm has no model 'local-dir:/tmp'"),
        ("timm/test_vit", r"has strides \[16, 16, 16\], not \[8, 32\]"),
    ],
)
def test_a_wrong_timm_name_says_what_to_do(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_backbone(name)


def test_a_stride_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"strides \[2, 4, 8, 16, 32\], not \[64\]"):
        create_backbone("timm/test_resnet", strides=(8, 64))


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg_overlay"])
def test_options_of_a_card_never_load_or_download(option: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are not allowed"):
        timm_backbone("test_resnet", (8,), **{option: str(tmp_path / "model.pth")})


def test_an_unknown_option_is_a_message() -> None:
    with pytest.raises(UsageError, match="cannot build a feature backbone"):
        create_backbone("timm/test_resnet", colour="red")


def test_a_plugin_of_a_folder_is_built(tmp_path: Path) -> None:
    (tmp_path / "foldernet.py").write_text(PLUGIN.format(strides="(8, 16)"))
    backbone = create_backbone("foldernet", strides=(8, 16), plugin_folder=tmp_path)
    assert [tuple(m.shape) for m in backbone(torch.zeros(1, 3, 32, 64))] == [
        (1, 4, 4, 8),
        (1, 6, 2, 4),
    ]


def test_what_a_plugin_does_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "badnet.py").write_text(PLUGIN.format(strides="(8, 32)"))
    with pytest.raises(PluginError, match=r"states strides \(8, 32\), asked for \(8, 16\)"):
        create_backbone("badnet", strides=(8, 16), plugin_folder=tmp_path)
    with pytest.raises(PluginError, match="cannot be built: ValueError: no options here"):
        create_backbone("badnet", strides=(8, 16), plugin_folder=tmp_path, depth=3)
    (tmp_path / "fewnet.py").write_text(PLUGIN.format(strides="(8,)"))
    with pytest.raises(PluginError, match="one channel count per stride"):
        create_backbone("fewnet", strides=(8, 16), plugin_folder=tmp_path)
    (tmp_path / "nonet.py").write_text("def build_backbone(strides): return 3")
    with pytest.raises(PluginError, match="built a int, expected a torch.nn.Module"):
        create_backbone("nonet", plugin_folder=tmp_path)
    with pytest.raises(PluginError, match="no backbone 'othernet'"):
        create_backbone("othernet", plugin_folder=tmp_path)


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_a_local_timm_file_gives_timm_features(model: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    reference: Any = timm.create_model(model).eval()
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    backbone = create_backbone(f"timm/{model}", strides=(16, 32)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_intermediates(images, intermediates_only=True)[-2:]
        before = backbone(images)
        untouched = load_pretrained(backbone, tmp_path / "model.safetensors")
        after = backbone(images)
    assert untouched == []
    for own, first, timms in zip(after, before, expected, strict=True):
        torch.testing.assert_close(own, timms)
        assert not torch.allclose(own, first)


def test_files_that_are_no_pretrained_weights_are_refused(tmp_path: Path) -> None:
    backbone = create_backbone("timm/test_resnet")
    with pytest.raises(UsageError, match="expected a timm .safetensors file"):
        load_pretrained(backbone, tmp_path / "model.pth")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(3)}, foreign)
    with pytest.raises(UsageError, match="no tensor fits this backbone"):
        load_pretrained(backbone, foreign)
    foreign.write_bytes(foreign.read_bytes()[:20])
    with pytest.raises(UsageError, match="cannot be read as safetensors"):
        load_pretrained(backbone, foreign)
