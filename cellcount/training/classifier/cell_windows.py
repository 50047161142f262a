"""Training crops of single cells: each read once, then another window of it in every epoch.

An item is a pure function of (seed, epoch, cell, copy), so results do not depend on worker count
and a resumed training sees exactly what an uninterrupted one would have seen.

Of every cell a canvas is kept in memory: the window and as much around it as augmentation may show,
at little more than the resolution of the network's input. Decoding costs more than augmentation.

Shapes: canvas uint8 (3, C, C); items uint8 (3, H, W) with the class index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cellcount.core.records import ImageRef
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.errors import AnnotationError, ImageError
from cellcount.images.read import read_image
from cellcount.images.tiff_windows import Rect
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.images.whole_slide import WholeSlide, open_whole_slide
from cellcount.images.windows import (
    BALANCE_SIDES,
    Interpolation,
    contour_crop,
    surroundings,
    window,
)
from cellcount.training.classifier.sampling import Draw
from cellcount.training.classifier.window_augment import CropAugment, CropTransform

_MAX_PIXELS = 200_000_000
_BEYOND_PX = 64  # read about a window of a whole slide, more than any filter reaches
_CANVAS = 1.6  # sides of the canvas per side of the window, at most
_DENSITY = 1.25  # canvas pixels per input pixel, at most
_MEMORY_BYTES = 3_000_000_000  # above, canvases are read anew each time


@dataclass(frozen=True, slots=True)
class CropWindow:
    """Part of a picture that a classifier looks at, and the size that it is brought to.

    Attributes:
        input_px: height and width of the network's input.
        window_rbc: side of the window in red-cell diameters; 0: the whole picture, or the box.
        rbc_px: red-cell diameter in pixels of the pictures that do not say it themselves, None
            where unknown.
        contour: crop to the centre-most contour first.
        white_balance: bring the background to a fixed white first: that of a whole picture of one
            cell, or that around a box.
    """

    input_px: tuple[int, int]
    window_rbc: float = 3.2
    rbc_px: float | None = None
    contour: bool = False
    white_balance: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class PlacedCell:
    """A cell in its picture.

    Attributes:
        pixels: the picture, or what lies around a box, white-balanced if asked for.
        centre_xy: centre of the window.
        side_px: side of the window in the picture.
    """

    pixels: NDArray[np.uint8]
    centre_xy: tuple[float, float]
    side_px: float

    @property
    def sides_shown(self) -> float:
        """Side of the smallest square about the centre that shows the picture, in windows."""
        (x, y), (height, width) = self.centre_xy, self.pixels.shape[:2]
        return float(2 * max(x, width - x, y, height - y) / self.side_px)

    def crop(
        self,
        out_px: tuple[int, int],
        interpolation: Interpolation = "bilinear",
        *,
        sides: float = 1.0,
    ) -> NDArray[np.uint8]:
        """The window, enlarged to ``sides`` times its side, as uint8 (h, w, 3)."""
        return window(self.pixels, self.centre_xy, self.side_px * sides, out_px, interpolation)


def placed_cells(
    items: Sequence[LabelledCrop], look: CropWindow
) -> Iterator[PlacedCell | ImageError]:
    """Each item's cell in its picture, or why the picture cannot be read.

    Neighbouring items of one picture share its decoding; of a whole slide, what lies about each box
    is read alone.

    Raises:
        AnnotationError: boxes need a window of known size, and the red-cell diameter is missing.
    """
    for path, group in groupby(items, key=lambda item: item.path):
        ref, cells = ImageRef(path, path.name, ""), list(group)
        try:
            is_boxed = all(cell.box_xyxy is not None for cell in cells)
            slide = open_whole_slide(ref, max_pixels=_MAX_PIXELS) if is_boxed else None
            pixels = None if slide else read_image(ref, max_pixels=_MAX_PIXELS).pixels
        except ImageError as error:
            yield from (error for _ in cells)
            continue
        for item in cells:
            if slide is not None:
                yield _placed_on_slide(slide, item, look)
            elif pixels is not None:
                yield _placed(pixels, item, look)


def _placed_on_slide(
    slide: WholeSlide, item: LabelledCrop, look: CropWindow
) -> PlacedCell | ImageError:
    assert item.box_xyxy is not None, "a slide as a whole is no cell"
    x0, y0, x1, y1 = item.box_xyxy
    side = look.window_rbc * (item.rbc_px or look.rbc_px or 0.0) or max(x1 - x0, y1 - y0)
    reach = ceil(BALANCE_SIDES / 2 * side) + _BEYOND_PX
    x, y, (width, height) = floor((x0 + x1) / 2), floor((y0 + y1) / 2), slide.size_px
    left, top = max(0, x - reach), max(0, y - reach)
    right, bottom = min(width, x + reach), min(height, y + reach)
    try:
        pixels = slide.read(Rect(left, top, right - left, bottom - top))
    except ImageError as error:
        return error
    moved = (x0 - left, y0 - top, x1 - left, y1 - top)
    return _placed(pixels, dataclasses.replace(item, box_xyxy=moved), look)


def _placed(pixels: NDArray[np.uint8], item: LabelledCrop, look: CropWindow) -> PlacedCell:
    rbc_px = item.rbc_px or look.rbc_px
    side = look.window_rbc * rbc_px if rbc_px else 0.0
    if item.box_xyxy is None:
        pixels = _balanced(pixels, look)
        if look.contour:
            pixels = contour_crop(pixels)
        height, width = pixels.shape[:2]
        return PlacedCell(pixels, (width / 2, height / 2), side or max(height, width))
    x0, y0, x1, y1 = item.box_xyxy
    if not side and look.window_rbc:
        raise AnnotationError(
            f"{item.path.name} has boxes, and a window of {look.window_rbc:g} red-cell diameters "
            "about each needs the size of red cells; state it in pixels with --rbc-px, or use the "
            "boxes themselves with --window 0"
        )
    side = side or max(x1 - x0, y1 - y0)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    near, centre = surroundings(pixels, middle, side, sides=BALANCE_SIDES)
    return PlacedCell(_balanced(near, look), centre, side)


def _balanced(pixels: NDArray[np.uint8], look: CropWindow) -> NDArray[np.uint8]:
    return apply_gains(pixels, white_balance_gains(pixels)) if look.white_balance else pixels


class CropDataset(Dataset[tuple[Tensor, int]]):
    """Windows of labelled cells, as many and as often as ``start_epoch`` says.

    The cells' pictures are read now, all of them if they fit in memory.

    Args:
        items: the cells.
        labels: class index of each.
        look: what of a picture is looked at.
        seed: of everything random.
    """

    def __init__(
        self,
        items: Sequence[LabelledCrop],
        labels: Sequence[int],
        look: CropWindow,
        seed: int,
    ) -> None:
        self._items, self._labels, self._look, self._seed = list(items), list(labels), look, seed
        self._augment: CropAugment | None = None
        self._transform = CropTransform(None, look.input_px, white_balance=look.white_balance)
        self._epoch = 0
        self._draws = [Draw(i, 0) for i in range(len(self._items))]
        self._canvases: list[tuple[Tensor, float]] = []
        size = next(self._read(self._items))[0].nbytes if items else 0
        if size * len(self._items) <= _MEMORY_BYTES:
            self._canvases = list(self._read(self._items))

    def __len__(self) -> int:
        return len(self._draws)

    def start_epoch(self, epoch: int, draws: Sequence[Draw], augment: CropAugment | None) -> None:
        """Set the draws of an epoch, and the strength of the changes of its cells."""
        self._epoch, self._draws = epoch, list(draws)
        if augment != self._augment:
            self._augment = augment
            self._transform = CropTransform(
                augment, self._look.input_px, white_balance=self._look.white_balance
            )

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        draw = self._draws[position]
        canvas, side = (
            self._canvases[draw.index]
            if self._canvases
            else next(self._read([self._items[draw.index]]))
        )
        plain = self._augment is None or (self._augment.first_plain and draw.copy == 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_item_seed(self._seed, self._epoch, draw))
            return self._transform(canvas, side, plain=plain), self._labels[draw.index]

    def _read(self, items: Sequence[LabelledCrop]) -> Iterator[tuple[Tensor, float]]:
        """Canvas of each cell and the side of the window in it."""
        for item, cell in zip(items, placed_cells(items, self._look), strict=True):
            if isinstance(cell, ImageError):
                raise AnnotationError(f"{item.path} cannot be read any more: {cell}")
            density = min(_DENSITY, max(cell.side_px / max(self._look.input_px), 0.25))
            sides = min(_CANVAS, cell.sides_shown)
            pixels = max(8, round(sides * density * max(self._look.input_px)))
            canvas = cell.crop((pixels, pixels), sides=sides)
            yield torch.from_numpy(canvas.copy()).permute(2, 0, 1).contiguous(), pixels / sides


def _item_seed(seed: int, epoch: int, draw: Draw) -> int:
    return int(np.random.SeedSequence([seed, epoch, draw.index, draw.copy]).generate_state(1)[0])
