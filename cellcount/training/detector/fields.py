"""Training fields: every image brought to the model's scale, jittered, cropped and composed.

An item is a pure function of (seed, epoch, index), so results do not depend on worker count and a
resumed training sees exactly what an uninterrupted one would have seen.

Shapes: images uint8 (3, S, S); boxes float32 (R, 4) xyxy in the crop; labels int64 (R,) from 1 on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F  # noqa: N812 -- torchvision's own idiom

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import LabelledImage
from cellcount.datasets.pixels import read_pixels
from cellcount.images.colour_balance import measure_balance
from cellcount.images.white_balance import GLASS_WHITE
from cellcount.models.detector_card import Preprocessing
from cellcount.training.augment import (
    ColourSettings,
    camera_transform,
    chance,
    hardened,
    lens_transform,
    uniform,
)
from cellcount.training.detector.white_cells import (
    with_heap,
    with_pale_surroundings,
    with_plain_cells,
    with_small_copy,
)

_MAX_PIXELS = 200_000_000
#: Windows drawn in search of one without white cells.
_TRIES = 8
#: Share of the crops whose red cells are brought to one hue, where the card asks for it: a field
#: without red cells keeps its own.
_BALANCED_HUE = 0.75
_DEFAULTS = Preprocessing()


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Geometry and colour of training crops.

    Attributes:
        size_px: side of the square crop at the model's scale.
        scale_range: outermost scale jitter around the model's scale.
        scale_core: jitter of the larger part of the crops.
        core_share: share of crops drawn from ``scale_core``.
        mosaic: probability that a field is composed of several images even where one would do.
        shear_deg: largest shear.
        shear_share: share of sheared images.
        aspect: half range of the log stretch along each axis.
        min_visible: a cell cut by the crop keeps its box from this visible share on.
        colour: photometric strength, None leaves colours as they are.
        settled_plain: share of the crops of settling epochs whose colours are left alone.
        small_copies: mean number of white cells that are copied, smaller, within their image.
        plain_cells: share of the images whose white cells become paler and lose their texture.
        heaps: share of the images that get a heap of red cells.
        pale_red: share of the images whose red cells become nearly as pale as the glass.
        no_white: share of the windows that avoid white cells where they can, since sets of labelled
            fields show one in nearly every field, and few fields of a slide have any.
    """

    size_px: int = 384
    scale_range: tuple[float, float] = (0.4, 2.5)
    scale_core: tuple[float, float] = (0.75, 1.35)
    core_share: float = 0.6
    mosaic: float = 0.4
    shear_deg: float = 8.0
    shear_share: float = 0.15
    min_visible: float = 0.2
    aspect: float = 0.06
    colour: ColourSettings | None = field(default_factory=ColourSettings)
    settled_plain: float = 0.5
    small_copies: float = 0.0
    plain_cells: float = 0.0
    heaps: float = 0.0
    pale_red: float = 0.0
    no_white: float = 0.0

    def hardened(self) -> AugmentSettings:
        """Return these settings with worse focus and light."""
        return replace(self, colour=self.colour and hardened(self.colour))


class FieldDataset(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Training crops of labelled images.

    Args:
        images: labelled images.
        factors: per image, the factor to the model's scale.
        classes: class ids in label order; boxes of other classes are left out.
        augment: strength of augmentation.
        seed: of everything random.
        preprocessing: of the card; a part of the crops keeps the hue of its red cells.
        settle_on: how many of the images, from the first, the settling epochs use; None for all.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        factors: Sequence[float],
        classes: Sequence[str],
        augment: AugmentSettings,
        *,
        seed: int,
        preprocessing: Preprocessing = _DEFAULTS,
        settle_on: int | None = None,
    ) -> None:
        self._images = list(images)
        self._factors = list(factors)
        self._label_of = {name: i + 1 for i, name in enumerate(classes)}
        self._mild = augment
        self._use(augment)
        self._seed = seed
        self._preprocessing = preprocessing
        self._settle_on = settle_on or len(self._images)
        self._epoch = 0
        self._settling = self._hard = False

    def __len__(self) -> int:
        return len(self._images)

    def start_epoch(self, epoch: int, *, settling: bool, hard: bool = False) -> None:
        """Draws anew.

        Args:
            epoch: decides the draws, with the seed.
            settling: mosaics are left out and scales stay near the model's.
            hard: focus and light are worse, and some white cells are copied, smaller.
        """
        self._epoch, self._settling, self._hard = epoch, settling, hard
        self._use(self._mild.hardened() if hard else self._mild)

    def _use(self, augment: AugmentSettings) -> None:
        self._augment = augment
        self._camera = camera_transform(augment.colour)
        self._lens = lens_transform(augment.colour)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_item_seed(self._seed, self._epoch, index))
            return self._make(index)

    def _make(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        a = self._augment
        if self._settling:
            index %= self._settle_on
        plain = self._settling and chance(a.settled_plain)
        jitter = self._scale_jitter()
        side = a.size_px
        grid = self._grid(index, jitter)
        canvas = torch.full((3, side, side), round(GLASS_WHITE), dtype=torch.uint8)
        boxes, labels = [], []
        edges = [round(i * side / grid) for i in range(grid + 1)]
        for row in range(grid):
            for column in range(grid):
                if row or column:
                    pool = self._settle_on if self._settling else len(self)
                    index = int(torch.randint(pool, ()))
                x, y = edges[column], edges[row]
                size = (edges[column + 1] - x, edges[row + 1] - y)
                part, part_boxes, part_labels = self._patch(index, jitter, size, plain=plain)
                canvas[:, y : y + size[1], x : x + size[0]] = part
                boxes.append(part_boxes + torch.tensor([x, y, x, y]))
                labels.append(part_labels)
        image, target = self._turned(canvas, torch.cat(boxes), torch.cat(labels))
        return (image if plain else self._lens(image)), target

    def _scale_jitter(self) -> float:
        a = self._augment
        core = chance(a.core_share) or self._settling
        low, high = a.scale_core if core else a.scale_range
        return math.exp(uniform(math.log(low), math.log(high)))

    def _grid(self, index: int, jitter: float) -> int:
        """Return the number of images across that fill the crop at this scale."""
        image = self._images[index]
        shorter = min(image.width_px, image.height_px) * self._factors[index] * jitter
        grid = round(self._augment.size_px / max(shorter, 1.0))
        if jitter < 1.2 and not self._settling and chance(self._augment.mosaic):
            grid = max(grid, 1) + int(chance(0.8))
        return max(1, min(grid, 3))

    def _patch(
        self, index: int, jitter: float, size: tuple[int, int], *, plain: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One image's part of the crop: pixels (3, h, w), boxes and labels in the patch."""
        image, (width, height) = self._images[index], size
        factor = self._factors[index] * jitter
        aspect = self._augment.aspect
        factors = [factor * math.exp(uniform(-aspect, aspect)) for _ in range(2)]
        pixels = torch.from_numpy(read_pixels(image)).permute(2, 0, 1)
        boxes = torch.from_numpy(image.boxes_xyxy.copy())
        names = [self._label_of.get(name, 0) for name in image.labels]
        labels = torch.tensor(names, dtype=torch.int64)
        white = self._label_of.get(WBC, -1)
        for _ in range(self._small_copies()):
            pixels, boxes, labels = with_small_copy(pixels, boxes, labels, white)
        if self._hard and chance(self._augment.heaps):
            red = self._label_of.get(RBC, -1)
            pixels, boxes, labels = with_heap(pixels, boxes, labels, red, white)
        if self._hard and not plain and chance(self._augment.plain_cells):
            pixels = with_plain_cells(pixels, boxes, labels, white)
        if self._hard and not plain and chance(self._augment.pale_red):
            pixels = with_pale_surroundings(pixels, boxes, labels, white)
        if chance(self._augment.shear_share):
            pixels, boxes = _shear(pixels, boxes, self._augment.shear_deg)
        (x0, w), (y0, h) = self._place(
            pixels, boxes[labels == white], (width / factors[0], height / factors[1])
        )
        out_w, out_h = min(width, round(w * factors[0])), min(height, round(h * factors[1]))
        crop = F.resize(
            pixels[:, y0 : y0 + h, x0 : x0 + w], [max(out_h, 1), max(out_w, 1)], antialias=True
        )
        crop = self._balanced(crop if plain else self._camera(crop), plain=plain)
        patch = torch.full((3, height, width), round(GLASS_WHITE), dtype=torch.uint8)
        left, top = (
            int(uniform(0, width - crop.shape[2] + 1)),
            int(uniform(0, height - crop.shape[1] + 1)),
        )
        patch[:, top : top + crop.shape[1], left : left + crop.shape[2]] = crop
        sx, sy = crop.shape[2] / w, crop.shape[1] / h
        scale, shift = torch.tensor([sx, sy, sx, sy]), torch.tensor([x0, y0, x0, y0])
        full = (boxes - shift) * scale
        kept, visible = _visible(full, crop.shape[2], crop.shape[1], self._augment.min_visible)
        keep = visible & (labels > 0)
        return patch, kept[keep] + torch.tensor([left, top, left, top]), labels[keep]

    def _place(
        self, pixels: Tensor, white: Tensor, wanted: tuple[float, float]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and length along x and y of a random window; of some, one without white cells."""
        tries = _TRIES if chance(self._augment.no_white) else 1
        for _ in range(tries):
            (x0, w), (y0, h) = (
                _window(length, part)
                for length, part in zip((pixels.shape[2], pixels.shape[1]), wanted, strict=True)
            )
            outside = (white[:, 0] >= x0 + w) | (white[:, 2] <= x0)
            if (outside | (white[:, 1] >= y0 + h) | (white[:, 3] <= y0)).all():
                break
        return (x0, w), (y0, h)

    def _small_copies(self) -> int:
        """Draw the number of white cells to copy: the mean, rounded at random."""
        whole, part = divmod(self._augment.small_copies if self._hard else 0.0, 1)
        return int(whole) + int(part > 0 and chance(part))

    def _balanced(self, crop: Tensor, *, plain: bool) -> Tensor:
        if not self._preprocessing.white_balance:
            return crop
        pixels = crop.permute(1, 2, 0).numpy()
        hue = self._preprocessing.red_cell_hue and (plain or chance(_BALANCED_HUE))
        balanced = measure_balance(pixels, red_cell_hue=hue).apply(pixels)
        return torch.from_numpy(balanced).permute(2, 0, 1)

    def _turned(
        self, image: Tensor, boxes: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Flips and right-angle turns."""
        side = image.shape[-1]
        if chance(0.5):
            image = image.flip(-1)
            boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
            boxes = boxes + torch.tensor([side, 0.0, side, 0])
        for _ in range(int(torch.randint(4, ()))):
            image = image.rot90(1, (-2, -1))
            boxes = torch.stack(
                [boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], dim=1
            )
        return image.contiguous(), {"boxes": boxes, "labels": labels}


def _item_seed(seed: int, epoch: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def _window(length: int, wanted: float) -> tuple[int, int]:
    """Start and length of a random stretch of ``wanted`` pixels, all where there are fewer."""
    size = max(1, min(length, round(wanted)))
    return int(uniform(0, length - size + 1)), size


def _visible(boxes: Tensor, width: int, height: int, min_visible: float) -> tuple[Tensor, Tensor]:
    """Boxes clipped to the crop, and which of them still show enough of their cell."""
    limits = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    clipped = torch.minimum(boxes.clamp(min=0), limits)
    sides, full = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    share = sides.prod(1) / full.prod(1).clamp(min=1e-6)
    return clipped, (share >= min_visible) & (sides > 3).all(1)


def _shear(pixels: Tensor, boxes: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """Shears along x about the centre.

    A cell is round, so its new box is that of the sheared ellipse, not of the sheared rectangle.
    """
    angle = uniform(-degrees, degrees)
    height = pixels.shape[-2]
    sheared = F.affine(
        pixels,
        angle=0.0,
        translate=[0, 0],
        scale=1.0,
        shear=[angle, 0.0],
        interpolation=F.InterpolationMode.BILINEAR,
        fill=[GLASS_WHITE] * 3,
    )
    slope = math.tan(math.radians(angle))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    x = centres[:, 0] - slope * (centres[:, 1] - height / 2)
    half_x = torch.sqrt(half[:, 0] ** 2 + (slope * half[:, 1]) ** 2)
    moved = torch.stack(
        [x - half_x, centres[:, 1] - half[:, 1], x + half_x, centres[:, 1] + half[:, 1]], dim=1
    )
    return sheared, moved.float()
