"""Regions pooled by sums of rows are those that torchvision pools."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from cellcount.engines.region_pooling import can_sum_rows, pooled_by_rows

SIDE, STRIDE = 7, 4


def maps(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_regions_inside_across_and_outside_the_border_are_pooled_as_torchvision_does(
    samples: int,
) -> None:
    regions = torch.tensor(
        [
            [0, 10.0, 12.0, 60.0, 50.0],
            [1, 33.3, 21.7, 40.1, 90.2],
            [0, -9.0, -30.0, 20.0, 25.0],  # beyond the upper left
            [1, 100.0, 70.0, 140.0, 111.0],  # beyond the lower right
            [1, 200.0, 200.0, 220.0, 230.0],  # nowhere
            [0, 126.5, 94.5, 128.0, 96.0],  # less than a place, in the last corner
            [1, 50.0, 50.0, 50.0, 50.0],  # of no size
        ]
    )
    own = maps(2, 16, 24, 32)
    expected = roi_align(own, regions, (SIDE, SIDE), 1 / STRIDE, samples, aligned=True)
    first = torch.zeros(len(regions), dtype=torch.int64)
    seen = pooled_by_rows([own], [STRIDE], regions, first, SIDE, samples)
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)


def test_a_map_of_one_place_is_pooled() -> None:
    regions, own = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]]), maps(1, 8, 1, 1)
    expected = roi_align(own, regions, (SIDE, SIDE), 1 / STRIDE, 2, aligned=True)
    seen = pooled_by_rows([own], [STRIDE], regions, torch.tensor([0]), SIDE, 2)
    torch.testing.assert_close(seen, expected)


def test_each_region_is_pooled_from_its_own_level() -> None:
    levels, strides = [maps(2, 8, 24, 32), maps(2, 8, 12, 16), maps(2, 8, 3, 5)], [4, 8, 32]
    torch.manual_seed(1)
    corners = torch.rand(40, 2) * 100
    regions = torch.cat(
        [torch.randint(0, 2, (40, 1)), corners, corners + 5 + torch.rand(40, 2) * 60], 1
    )
    level = torch.arange(40) % 3
    seen = pooled_by_rows(levels, strides, regions, level, SIDE, 2)
    for number, (own, stride) in enumerate(zip(levels, strides, strict=True)):
        expected = roi_align(own, regions, (SIDE, SIDE), 1 / stride, 2, aligned=True)
        is_own = level == number
        torch.testing.assert_close(seen[is_own], expected[is_own], rtol=1e-4, atol=1e-4)


def test_training_and_half_precision_pool_with_torchvision() -> None:
    own = maps(1, 8, 4, 4)
    assert not can_sum_rows(own), "gradients are wanted"
    with torch.inference_mode():
        assert can_sum_rows(own)
        assert not can_sum_rows(own.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert not can_sum_rows(own)
