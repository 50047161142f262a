"""RoIAlign as sums of weighted rows, several times faster on processors than torchvision's own.

A pooled value is the mean of a few points, and a point a weighted sum of the four places of the map
around it. With the channels of a place side by side in memory, all of that is one sum of rows,
which torch computes with vector instructions. Places and weights are torchvision's, so that nothing
but rounding changes (RoIAlign: He et al. 2017, arXiv:1703.06870).

Shapes: maps (N, C, H, W); R regions (R, 5) of image index and xyxy in pixels of the image; P pool
size, S samples per side of a pooled value; L levels of maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def can_sum_rows(maps: Tensor) -> bool:
    """Return whether regions of these maps can be pooled so: on a processor, without gradients."""
    return (
        maps.device.type == "cpu"
        and maps.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def pooled_by_rows(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    regions: Tensor,
    level: Tensor,
    side: int,
    samples: int,
) -> Tensor:
    """Pool regions to (R, C, P, P), as ``torchvision.ops.roi_align`` with ``aligned=True``.

    Args:
        levels: maps in float32, best with their channels last in memory.
        strides: pixels of the image that are a place of each level's map.
        regions: one at least.
        level: index of the level that each region is pooled from, int64 (R,).
        side: pool size P.
        samples: S.
    """
    images, channels = levels[0].shape[:2]
    rows = torch.cat([maps.permute(0, 2, 3, 1).reshape(-1, channels) for maps in levels])
    sizes = torch.tensor([maps.shape[2:] for maps in levels], dtype=torch.int32)  # (L, 2)
    areas = sizes.prod(1, dtype=torch.int32)
    height, width = sizes[level].T  # each (R,)
    first = images * (areas.cumsum(0, dtype=torch.int32) - areas)  # row of each level
    begin = first[level] + regions[:, 0].int() * areas[level]
    scales = torch.tensor([1 / stride for stride in strides])
    boxes = regions[:, 1:] * scales[level, None] - 0.5
    left, x_weights = _places(boxes[:, 0], boxes[:, 2], width, side, samples)
    top, y_weights = _places(boxes[:, 1], boxes[:, 3], height, side, samples)
    top = begin.view(-1, 1, 1) + top * width.view(-1, 1, 1)
    # (R, P, P, 2 S, 2 S): of each pooled value the places around its points, row by row.
    places = top[:, :, None, :, None] + left[:, None, :, None, :]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    per_value = 4 * samples * samples
    sums = functional.embedding_bag(
        places.reshape(-1, per_value),
        rows,
        mode="sum",
        per_sample_weights=weights.reshape(-1, per_value),
    )
    return sums.view(-1, side, side, channels).permute(0, 3, 1, 2)


def _places(
    low: Tensor, high: Tensor, length: Tensor, side: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Places along one axis that each pooled value is made of, and their weights, (R, P, 2 S).

    Args:
        low, high: ends of the regions (R,), in places of the map.
        length: of the map that each region lies on, int32 (R,).
        side: pool size P.
        samples: S.
    """
    length = length.view(-1, 1, 1)
    bin_size = ((high - low) / side).view(-1, 1, 1)
    within = (torch.arange(samples) + 0.5) * bin_size / samples  # (R, 1, S)
    points = low.view(-1, 1, 1) + torch.arange(side).view(-1, 1) * bin_size + within  # (R, P, S)
    inside = (points >= -1) & (points <= length)
    points = points.clamp(min=0).minimum(length - 1)
    before = points.floor()
    share = points - before
    after = (before + 1).minimum(length - 1)
    places = torch.stack([before, after], dim=-1).to(torch.int32)
    weights = torch.stack([1 - share, share], dim=-1) * inside[..., None] / samples
    return places.flatten(2), weights.flatten(2)
