"""Padding by the size of the input becomes part of the kernels, and sums stay as they were."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import load_classifier
from cellcount.models.classifier import build_classifier
from cellcount.models.fixed_padding import fix_padding_in
from cellcount.models.same_output import with_changes
from cellcount.models.weights import read_classifier_weights, resolve


class Conv2dSame(nn.Conv2d):
    """TensorFlow's padding: what is odd of it goes behind."""

    mode = "constant"

    def forward(self, input: Tensor) -> Tensor:
        padding = list[int]()
        for axis in (1, 0):
            side, stride = input.shape[2 + axis], self.stride[axis]
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            total = max((-(-side // stride) - 1) * stride + reach - side, 0)
            padding += [total // 2, total - total // 2]
        padded = functional.pad(input, padding, mode=self.mode)
        return functional.conv2d(
            padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class Reflecting(Conv2dSame):
    """Pads with a mirror image, which no kernel can."""

    mode = "reflect"


Reflecting.__name__ = "Conv2dSame"


def fixed_padding(
    network: nn.Module, side_px: tuple[int, int], *others_px: tuple[int, int]
) -> nn.Module:
    return with_changes(network, [partial(fix_padding_in, side_px=side_px)], [side_px, *others_px])


def network(convolution: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(convolution, nn.Flatten(), nn.LazyLinear(3)).eval()


@pytest.mark.parametrize("side_px", [(16, 16), (17, 16), (9, 12)])
@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 2, 1), (5, 2, 4), (3, 1, 4), (2, 2, 1)]
)
def test_sums_stay_as_they_were(
    side_px: tuple[int, int], kernel: int, stride: int, groups: int
) -> None:
    torch.manual_seed(1)
    own = nn.Sequential(nn.Conv2d(3, 4, 1), Conv2dSame(4, 8, kernel, stride, groups=groups))
    before = network(own)
    images = torch.randn(2, 3, *side_px)
    before(images)
    after = fixed_padding(before, side_px)
    assert not any(isinstance(module, Conv2dSame) for module in after.modules())
    torch.testing.assert_close(after(images), before(images), rtol=1e-5, atol=1e-5)


def test_a_convolution_that_pads_otherwise_stays() -> None:
    before = network(Reflecting(3, 4, 3, 2))
    before(torch.randn(1, 3, 16, 16))
    assert fixed_padding(before, (16, 16)) is before


def test_a_network_that_pads_otherwise_at_another_size_stays() -> None:
    before = nn.Sequential(Conv2dSame(3, 4, 3, 2), Conv2dSame(4, 4, 3, 2)).eval()
    assert fixed_padding(before, (4, 4), (8, 12)) is not before
    assert fixed_padding(before, (4, 4), (6, 10)) is before


def test_a_network_without_such_convolutions_stays() -> None:
    before = network(nn.Conv2d(3, 4, 3))
    before(torch.randn(1, 3, 16, 16))
    assert fixed_padding(before, (16, 16)) is before


def test_the_packaged_classifier_copies_no_feature_map_for_padding() -> None:
    weights = resolve("cell-types")
    classifier = load_classifier(weights, EngineOptions("cpu", "fp32"))
    kinds = {type(module).__name__ for module in classifier.network.modules()}
    assert kinds & {"Conv2d", "FusedConvolution"}
    assert "Conv2dSame" not in kinds
    card, state = read_classifier_weights(weights)
    plain = build_classifier(card)
    assert isinstance(plain, nn.Module)
    plain.load_state_dict(state)
    images = torch.randn(1, 3, *card.preprocessing.input_px)
    with torch.inference_mode():
        expected = plain.eval()(images)
        torch.testing.assert_close(classifier.network(images), expected, rtol=1e-3, atol=1e-3)
