"""Anchors against a table computed by hand; pooling against torchvision's own operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

from cellcount.engines.torchvision import AlignedPooler, UnroundedAnchors, build_rpn
from cellcount.models.detector_card import Architecture, Inference

STRIDES = (8, 16, 32)


def test_anchors_are_those_of_a_table_and_not_rounded() -> None:
    anchors = UnroundedAnchors(sizes=((18.3,),), aspect_ratios=((0.5, 1.0, 2.0),))
    base = anchors.generate_anchors([18.3, 31.0], [0.5, 1.0, 2.0])  # type: ignore[list-item]
    table = []
    for ratio in (0.5, 1.0, 2.0):
        for size in (18.3, 31.0):  # of equal area, height / width = ratio
            width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
            table.append([-width / 2, -height / 2, width / 2, height / 2])
    np.testing.assert_allclose(base.numpy(), table, rtol=1e-6)
    assert (base != base.round()).any()


def test_anchors_sit_on_the_corner_of_their_place() -> None:
    """torchvision's and Detectron2's offset 0: place (row, column) at (column, row) x stride."""
    anchors = UnroundedAnchors(sizes=((10.0,), (20.0,)), aspect_ratios=((1.0,), (1.0,)))
    images = ImageList(torch.zeros(1, 3, 32, 48), [(32, 48)])
    maps = [torch.zeros(1, 4, 4, 6), torch.zeros(1, 4, 2, 3)]
    placed = anchors(images, maps)[0].numpy()
    fine = [[8 * c - 5, 8 * r - 5, 8 * c + 5, 8 * r + 5] for r in range(4) for c in range(6)]
    coarse = [
        [16 * c - 10, 16 * r - 10, 16 * c + 10, 16 * r + 10] for r in range(2) for c in range(3)
    ]
    np.testing.assert_array_equal(placed, fine + coarse)


def test_anchors_are_kept_for_batches_of_the_same_shape_alone() -> None:
    anchors = UnroundedAnchors(sizes=((10.0,),), aspect_ratios=((1.0,),))

    def placed(height: int, width: int) -> torch.Tensor:
        images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        own: torch.Tensor = anchors(images, [torch.zeros(1, 4, height // 8, width // 8)])[0]
        return own

    with torch.inference_mode():
        wide, again, high = placed(32, 48), placed(32, 48), placed(48, 32)
    assert again is wide
    trained_on = placed(48, 32)
    assert not trained_on.is_inference(), "gradients could not be computed with it"
    assert torch.equal(trained_on, high)
    assert not torch.equal(wide, high)


def test_proposals_use_the_cards_anchors() -> None:
    architecture = Architecture(anchor_sizes_px=((7.5, 9.25), (30.0, 50.0), (70.0, 90.0)))
    rpn = build_rpn(architecture, Inference(), 8)
    assert rpn.anchor_generator.sizes == architecture.anchor_sizes_px
    assert rpn.anchor_generator.num_anchors_per_location() == [6, 6, 6]
    assert rpn.head.cls_logits.out_channels == 6


@pytest.fixture
def boxes() -> torch.Tensor:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 200, (300, 2))
    side = np.exp(rng.uniform(0, np.log(400), (300, 2)))
    sides = np.concatenate([side, np.tile([[112, 112], [224, 224], [448, 448], [0, 5]], (1, 1))])
    start = np.concatenate([start, np.zeros((4, 2))])
    return torch.from_numpy(np.concatenate([start, start + sides], 1)).float()


def test_levels_are_those_of_torchvision(boxes: torch.Tensor) -> None:
    expected = LevelMapper(k_min=3, k_max=5)([boxes])
    levels = AlignedPooler(STRIDES, 7).level_of(boxes)
    assert levels.tolist() == expected.tolist()
    assert set(levels.tolist()) == {0, 1, 2}
    assert set(AlignedPooler((16,), 7).level_of(boxes).tolist()) == {0}


def test_pooling_is_roi_align_aligned_at_the_level_of_each_box(boxes: torch.Tensor) -> None:
    torch.manual_seed(0)
    maps = {str(i): torch.randn(2, 5, 512 // s, 512 // s) for i, s in enumerate(STRIDES)}
    pooler = AlignedPooler(STRIDES, 5)
    parts = [boxes[:150], boxes[150:]]
    pooled = pooler(maps, parts, [(512, 512)] * 2)
    level = pooler.level_of(boxes)
    for index, box in enumerate(boxes):
        which = int(level[index])
        roi = torch.cat([torch.tensor([float(index >= 150)]), box])[None]
        expected = roi_align(
            maps[str(which)], roi, 5, 1 / STRIDES[which], sampling_ratio=2, aligned=True
        )
        torch.testing.assert_close(pooled[index], expected[0])


def test_pooling_differs_from_the_stock_pooler_by_half_a_pixel(boxes: torch.Tensor) -> None:
    """torchvision's pooler is not aligned: its boxes moved by half a pixel of the level agree."""
    torch.manual_seed(0)
    maps = {str(i): torch.randn(1, 3, 512 // s, 512 // s) for i, s in enumerate(STRIDES)}
    pooler = AlignedPooler(STRIDES, 7)
    large = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1).values > 40]
    stride = torch.tensor(STRIDES)[pooler.level_of(large)][:, None]
    stock = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    stock(maps, [large], [(512, 512)])  # infers its scales from the maps
    moved = stock(maps, [large - stride / 2], [(512, 512)])
    torch.testing.assert_close(pooler(maps, [large], [(512, 512)]), moved, rtol=1e-4, atol=1e-4)


def test_no_boxes_at_all() -> None:
    maps = {str(i): torch.zeros(1, 3, 64 // s, 64 // s) for i, s in enumerate(STRIDES)}
    assert AlignedPooler(STRIDES, 7)(maps, [torch.zeros(0, 4)], [(64, 64)]).shape == (0, 3, 7, 7)
