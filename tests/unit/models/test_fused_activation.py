"""Activations become part of the convolutions before them, and values stay as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cellcount.models.fused_activation import FusedConvolution, can_fuse, fuse_in
from cellcount.models.same_output import with_changes

pytestmark = pytest.mark.skipif(not can_fuse(), reason="this torch has no fused convolution")
SIDES_PX = ((32, 32), (48, 32))


class ActivatesFirst(nn.Module):
    """Registers its parts in another order than it calls them in."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.activation = nn.ReLU6()

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.convolution(self.activation(images))
        return output


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 96, 3, 2, 1),
        nn.ReLU6(inplace=True),
        nn.Conv2d(96, 96, 5, 1, 2, groups=96),
        nn.ReLU(inplace=True),
        nn.Conv2d(96, 64, 1),
    ).eval()


def image() -> Tensor:
    torch.manual_seed(1)
    return 5 * torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)


def output_of(module: nn.Module) -> Tensor:
    with torch.inference_mode():
        output: Tensor = module(image())
    return output


def test_activations_go_into_convolutions_and_values_stay_as_they_were() -> None:
    before = network()
    after = with_changes(before, [fuse_in], SIDES_PX)
    kinds = [type(part) for part in after.children()]
    assert kinds == [FusedConvolution, nn.Identity] * 2 + [FusedConvolution]
    torch.testing.assert_close(output_of(before), output_of(after), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_network_as_it_was() -> None:
    before, gradients = network(), []
    for module in (before, with_changes(before, [fuse_in], SIDES_PX)):
        pixels = image().requires_grad_()
        module(pixels).square().sum().backward()
        gradients.append(pixels.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[0], gradients[1])


def test_half_precision_is_computed_as_before() -> None:
    before = network()
    after = with_changes(before, [fuse_in], SIDES_PX)
    with torch.autocast("cpu", torch.bfloat16):
        expected, seen = output_of(before), output_of(after)
    assert seen.dtype == torch.bfloat16
    assert torch.equal(expected, seen)


def test_a_network_that_calls_its_parts_in_another_order_stays() -> None:
    before = ActivatesFirst().eval()
    assert with_changes(before, [fuse_in], SIDES_PX) is before


def test_a_convolution_that_pads_with_a_mirror_image_stays() -> None:
    before = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU()).eval()
    assert with_changes(before, [fuse_in], SIDES_PX) is before
