"""Augmentations of fields with white cells: smaller and paler copies, and heaps of red cells.

Where white cells are always larger than red ones, a model learns their size, and overlooks the
small lymphocytes of another laboratory. A copy from the same field has the field's own colours
(Ghiasi et al. 2021, arXiv:2012.07177). Where they always show a dark, patterned nucleus, it
learns that, and takes the smooth, paler discs that a poorer lens makes of them for red cells.
Where red cells always lie apart, it takes a heap of them for a white one.

Shapes: pixels uint8 (3, H, W); boxes float32 (R, 4) xyxy; labels int64 (R,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812 -- torchvision's own idiom

from cellcount.training.augment import uniform

_SHRINK = (0.45, 0.9)
_SMALLEST_PX = 12
_FEATHER = 0.12
_TRIES = 8
#: A cell that the copy covers beyond this share is gone.
_COVERED = 0.5
#: Points across a cell that are left of its texture.
_GRAIN = (3, 14)
#: What is left of its contrast against the empty glass.
_CONTRAST = (0.4, 1.0)
#: What is left of the contrast of pale surroundings.
_PALE = (0.3, 0.9)
_GLASS_QUANTILE = 0.95
#: Red cells of a heap, and the distance from one to the next in their diameters.
_HEAP, _HEAP_STEP = (3, 11), (0.3, 0.9)
_FEWEST_RED = 3


def with_small_copy(
    pixels: Tensor, boxes: Tensor, labels: Tensor, copied: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the field with one more cell of class ``copied``; unchanged without one, or room.

    The copy never covers another cell of its class.
    """
    height, width = pixels.shape[-2:]
    candidates = _whole_cells(pixels, boxes, labels, copied)
    if not len(candidates):
        return pixels, boxes, labels
    source = candidates[int(torch.randint(len(candidates), ()))]
    cell = pixels[:, source[1] : source[3], source[0] : source[2]]
    shrink = uniform(*_SHRINK)
    h, w = round(cell.shape[1] * shrink), round(cell.shape[2] * shrink)
    if min(h, w) < _SMALLEST_PX or h >= height or w >= width:
        return pixels, boxes, labels
    for _ in range(_TRIES):
        x, y = int(uniform(0, width - w)), int(uniform(0, height - h))
        place = torch.tensor([x, y, x + w, y + h], dtype=boxes.dtype)
        covered = _covered(boxes, place)
        if (covered[labels == copied] > 0.02).any():
            continue
        copy = F.resize(cell, [h, w], antialias=True).rot90(2 * int(torch.randint(2, ())), (1, 2))
        pixels = pixels.clone()
        window = pixels[:, y : y + h, x : x + w]
        mask = _ellipse(h, w)
        pixels[:, y : y + h, x : x + w] = (
            (window * (1 - mask) + copy * mask).round().to(torch.uint8)
        )
        kept = covered < _COVERED
        own = torch.tensor([copied], dtype=labels.dtype)
        return pixels, torch.cat([boxes[kept], place[None]]), torch.cat([labels[kept], own])
    return pixels, boxes, labels


def with_plain_cells(pixels: Tensor, boxes: Tensor, labels: Tensor, made_plain: int) -> Tensor:
    """The field with the whole cells of class ``made_plain`` paler and without their texture."""
    cells = _whole_cells(pixels, boxes, labels, made_plain)
    if not len(cells):
        return pixels
    pixels = pixels.clone()
    glass = _glass_of(pixels)
    for x0, y0, x1, y1 in _widened(cells, pixels).tolist():
        cell = pixels[:, y0:y1, x0:x1].float()
        size = list(cell.shape[1:])
        if min(size) < _SMALLEST_PX:
            continue
        grain = int(torch.randint(*_GRAIN, ()))
        plain = F.resize(F.resize(cell, [grain, grain], antialias=True), size, antialias=False)
        plain = glass - (glass - plain) * uniform(*_CONTRAST)
        mask = _ellipse(*cell.shape[1:])
        mixed = cell * (1 - mask) + plain * mask
        pixels[:, y0:y1, x0:x1] = mixed.round().clamp(0, 255).to(torch.uint8)
    return pixels


def with_pale_surroundings(pixels: Tensor, boxes: Tensor, labels: Tensor, kept: int) -> Tensor:
    """The field with all but the cells of class ``kept`` nearer to the empty glass.

    Some laboratories' red cells are hardly darker than the glass, and white cells alone stand out.
    """
    glass = _glass_of(pixels)
    stays = torch.zeros(1, *pixels.shape[1:])
    own = boxes[labels == kept].round().long()
    for x0, y0, x1, y1 in _widened(own, pixels).tolist():
        if x1 > x0 and y1 > y0:
            place = stays[:, y0:y1, x0:x1]
            torch.maximum(place, _ellipse(y1 - y0, x1 - x0), out=place)
    darkness = glass - pixels.float()
    left = stays + (1 - stays) * uniform(*_PALE)
    return (glass - darkness * left).round().clamp(0, 255).to(torch.uint8)


def with_heap(
    pixels: Tensor, boxes: Tensor, labels: Tensor, red: int, white: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The field with a heap of its own red cells, which models take for a white cell.

    Red cells are translucent, so optical densities add up where they overlap. The heap never covers
    a white cell; the field stays as it was where it has too few red cells, or no room.
    """
    cells = _whole_cells(pixels, boxes, labels, red)
    if len(cells) < _FEWEST_RED:
        return pixels, boxes, labels
    height, width = pixels.shape[-2:]
    sides = (cells[:, 2:] - cells[:, :2]).float()
    step = float(sides.mean())
    x, y = uniform(step, max(width - step, step)), uniform(step, max(height - step, step))
    glass = _glass_of(pixels)
    pixels, own = pixels.clone(), []
    for _ in range(int(torch.randint(*_HEAP, ()))):
        one = cells[int(torch.randint(len(cells), ()))]
        cell = pixels[:, one[1] : one[3], one[0] : one[2]]
        cell = cell.rot90(int(torch.randint(4, ())), (1, 2)).float()
        h, w = cell.shape[1:]
        left, top = round(x - w / 2), round(y - h / 2)
        angle, distance = uniform(0, 2 * math.pi), step * uniform(*_HEAP_STEP)
        x, y = x + distance * math.cos(angle), y + distance * math.sin(angle)
        place = torch.tensor([left, top, left + w, top + h], dtype=boxes.dtype)
        if left < 0 or top < 0 or left + w > width or top + h > height:
            continue
        if (_covered(boxes[labels == white], place) > 0.02).any():
            continue
        window = pixels[:, top : top + h, left : left + w].float()
        through = 1 - _ellipse(h, w) * (1 - (cell / glass).clamp(max=1))
        pixels[:, top : top + h, left : left + w] = (window * through).round().to(torch.uint8)
        own.append(place)
    if not own:
        return pixels, boxes, labels
    new = torch.full((len(own),), red, dtype=labels.dtype)
    return pixels, torch.cat([boxes, torch.stack(own)]), torch.cat([labels, new])


def _glass_of(pixels: Tensor) -> Tensor:
    """Colour (3, 1, 1) of the empty glass."""
    sparse = pixels[:, ::4, ::4].reshape(3, -1).float()
    return torch.quantile(sparse, _GLASS_QUANTILE, dim=1).view(3, 1, 1).clamp(min=1)


def _whole_cells(pixels: Tensor, boxes: Tensor, labels: Tensor, wanted: int) -> Tensor:
    """Boxes (N, 4) int64 of the cells of a class that the field's border does not cut."""
    limits = torch.tensor([pixels.shape[-1], pixels.shape[-2]])
    whole = (boxes[:, :2] >= 1).all(1) & (boxes[:, 2:] <= limits - 1).all(1)
    return boxes[(labels == wanted) & whole].round().long()


def _widened(cells: Tensor, pixels: Tensor) -> Tensor:
    """Boxes with a rim, so that the soft border of a mask lies outside the cell."""
    rim = (_FEATHER * 0.75 * (cells[:, 2:] - cells[:, :2])).round().long()
    limits = torch.tensor([pixels.shape[-1], pixels.shape[-2]])
    low, high = (cells[:, :2] - rim).clamp(min=0), torch.minimum(cells[:, 2:] + rim, limits)
    return torch.cat([low, high], dim=1)


def _covered(boxes: Tensor, place: Tensor) -> Tensor:
    """Share of each box that lies under the place."""
    shared = torch.minimum(boxes[:, 2:], place[2:]) - torch.maximum(boxes[:, :2], place[:2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=1e-6)
    return shared.clamp(min=0).prod(1) / area


def _ellipse(height: int, width: int) -> Tensor:
    """1 inside the largest ellipse, falling to 0 at its border, (H, W)."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    return ((1 - (x**2 + y**2).sqrt()) / _FEATHER).clamp(0, 1)
