"""Folding batch norms into convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cellcount.models.backbone import create_backbone
from cellcount.models.folding import folded


class Backwards(nn.Module):
    """Registers a batch norm behind a convolution, but calls it before."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map."""
        maps: Tensor = self.convolution(self.norm(images))
        return [maps]


def with_statistics(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, its batch norms far from doing nothing."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 2)
    return module.eval()


def norms(module: nn.Module) -> int:
    """Number of batch norms in a module."""
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/mobilenetv2_035", "timm/cs3darknet_s"])
def test_a_folded_backbone_has_no_batch_norm_left_and_gives_the_same_maps(name: str) -> None:
    backbone = with_statistics(create_backbone(name))
    assert norms(backbone) > 0
    small = folded(backbone)
    assert norms(small) == 0
    images = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        for own, other in zip(backbone(images), small(images), strict=True):
            assert torch.allclose(own, other, rtol=1e-4, atol=1e-4 * float(own.abs().max()))


def test_a_backbone_that_calls_its_batch_norm_first_stays_as_it_is() -> None:
    backbone = with_statistics(Backwards())
    assert folded(backbone) is backbone


def test_the_backbone_that_is_folded_keeps_its_own_weights() -> None:
    backbone = with_statistics(create_backbone("timm/resnet10t"))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    folded(backbone)
    assert before.keys() == backbone.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_a_backbone_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        folded(create_backbone("timm/resnet10t").train())


def test_a_backbone_with_numbers_that_are_none_stays_as_it_is() -> None:
    backbone = with_statistics(create_backbone("timm/mobilenetv2_035"))
    next(iter(backbone.parameters())).data.fill_(torch.nan)
    assert folded(backbone) is backbone
