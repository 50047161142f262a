"""ImageNet weights of packages in the registry, as files that trainings start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cellcount.errors import UsageError
from cellcount.models.backbone import create_backbone, load_pretrained, timm_model
from tools import imagenet_weights
from tools.imagenet_weights import Source

MODEL = "mobilenetv2_035"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of a package that names them in its own way; returns them under timm's names."""
    torch.manual_seed(7)
    state: dict[str, torch.Tensor] = timm_model(MODEL).state_dict()
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").touch()
    headless = list(state.values())[:-2]
    torch.save({f"layer{i}": tensor for i, tensor in enumerate(headless)}, folder / "w.pt")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = Source("some-weights", "1.0", "MIT", "w.pt")
    monkeypatch.setitem(imagenet_weights.SOURCES, MODEL, source)
    return state


def test_the_file_holds_the_weights_under_the_names_of_timm(
    package: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "start.safetensors"
    imagenet_weights.main([MODEL, str(file)])
    written = load_file(file)
    assert list(package)[-2:] == ["classifier.weight", "classifier.bias"]
    assert set(package) - set(written) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(package[name], tensor) for name, tensor in written.items())
    backbone = create_backbone(f"timm/{MODEL}")
    assert load_pretrained(backbone, file) == []
    own = backbone.state_dict()["body.conv_stem.weight"]
    assert torch.equal(own, package["conv_stem.weight"])


def test_weights_of_another_shape_and_unknown_models_are_refused(
    package: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = imagenet_weights.SOURCES[MODEL]
    monkeypatch.setitem(imagenet_weights.SOURCES, "resnet18", source)
    with pytest.raises(UsageError, match="do not fit resnet18"):
        imagenet_weights.imagenet_weights("resnet18")
    with pytest.raises(UsageError, match="known are .*tf_efficientnet_lite0"):
        imagenet_weights.imagenet_weights("vgg11")
