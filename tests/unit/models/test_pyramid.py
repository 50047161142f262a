"""Pyramids and the trunk: shapes of each kind, and FPN against a computation by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cellcount.errors import UsageError
from cellcount.models.detector_card import Architecture, levels_read
from cellcount.models.pyramid import BottomUp, TopDown, Trunk, build_pyramid

CHANNELS, STRIDES, OUT = (5, 7, 9), (8, 16, 32), 6


@pytest.fixture
def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    sizes = [(96 // s, 160 // s) for s in STRIDES]
    return [torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize(
    ("kind", "strides"), [("none", (16,)), ("fpn", STRIDES), ("bottom-up", STRIDES)]
)
def test_shapes(kind: str, strides: tuple[int, ...], maps: list[torch.Tensor]) -> None:
    assert levels_read(kind, STRIDES) == strides
    read = [i for i, stride in enumerate(STRIDES) if stride in strides]
    pyramid = build_pyramid(kind, [CHANNELS[i] for i in read], strides, OUT)
    assert tuple(pyramid.strides) == strides
    assert [tuple(m.shape) for m in pyramid([maps[i] for i in read])] == [
        (2, OUT, 96 // s, 160 // s) for s in strides
    ]


def test_fpn_is_lateral_plus_upsampled_then_smoothed(maps: list[torch.Tensor]) -> None:
    pyramid = build_pyramid("fpn", CHANNELS, STRIDES, OUT)
    assert isinstance(pyramid, TopDown)
    state = {k.replace(".0.", "."): v for k, v in pyramid.fpn.state_dict().items()}

    def conv(kind: str, level: int, value: torch.Tensor, padding: int) -> torch.Tensor:
        name = f"{kind}_blocks.{level}"
        return nn.functional.conv2d(
            value, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding
        )

    merged = [conv("inner", i, m, 0) for i, m in enumerate(maps)]
    for fine in (1, 0):  # nearest neighbour, as in the paper: every value four times
        merged[fine] = merged[fine] + merged[fine + 1].repeat_interleave(2, 2).repeat_interleave(
            2, 3
        )
    expected = [conv("layer", i, m, 1) for i, m in enumerate(merged)]
    for own, value in zip(pyramid(maps), expected, strict=True):
        torch.testing.assert_close(own, value)


def test_bottom_up_carries_fine_detail_to_coarse_levels(maps: list[torch.Tensor]) -> None:
    pyramid = build_pyramid("bottom-up", CHANNELS, STRIDES, OUT)
    assert isinstance(pyramid, BottomUp)
    levels = pyramid.top_down(maps)
    middle = pyramid.fuse[0](nn.functional.relu(pyramid.down[0](levels[0]) + levels[1]))
    own = pyramid(maps)
    torch.testing.assert_close(own[0], levels[0])
    torch.testing.assert_close(own[1], middle)
    torch.testing.assert_close(
        own[2], pyramid.fuse[1](nn.functional.relu(pyramid.down[1](middle) + levels[2]))
    )


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="pyramid is 'bifpn', expected one of none, fpn, bottom"):
        build_pyramid("bifpn", CHANNELS, STRIDES, OUT)


@pytest.mark.parametrize(
    ("kind", "given"),
    [("none", (16,)), ("none", STRIDES), ("fpn", STRIDES), ("bottom-up", STRIDES)],
)
def test_the_trunk_is_built_from_the_architecture(kind: str, given: tuple[int, ...]) -> None:
    strides = levels_read(kind, given)
    architecture = Architecture(
        backbone="timm/test_resnet",
        strides=given,
        pyramid=kind,
        pyramid_channels=16,
        anchor_sizes_px=((8.0,),) * len(strides),
    )
    trunk = Trunk(architecture)
    assert (tuple(trunk.strides), trunk.channels) == (strides, 16)
    maps = trunk(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 16, 64 // s, 96 // s) for s in strides]
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None for p in trunk.parameters()), "every parameter is used"
