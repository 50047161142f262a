"""Windows about cells: as the classifier is served, and with margin for augmentation.

All cells are cut once and kept in uint8 files, so that an epoch decodes nothing.

Shapes: N cells; served windows uint8 (N, P, P, 3); canvases uint8 (N, C, C, 3), whose middle P/C
is the window, at a little more pixels; rims float32 (N, 4), the part of each canvas that the
picture fills, as x_min, y_min, x_max, y_max in 0–1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.engines.cell_typer import field_crops
from cellcount.engines.classifier_input import prepare_picture
from cellcount.images.read import read_image
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.images.windows import BALANCE_SIDES, surroundings, window
from cellcount.models.classifier_card import (
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.taxonomy import load_taxonomy
from tools.types.cells import Cell
from tools.types.negatives import STAINS

Pixels = NDArray[np.uint8]
#: Sides of a canvas per side of the window, and its pixels per pixel of the window.
CANVAS_SIDES, CANVAS_DENSITY = 1.7, 1.25
WINDOW_RBC = 3.2
_MAX_PIXELS = 200_000_000


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """Windows that were cut; the arrays may lie on disk.

    Attributes:
        cells: in the order of the arrays.
        served: windows as the classifier gets them in use.
        canvases: windows with margin.
        rims: what of each canvas the picture fills.
        key: of these cells and the way they are cut.
    """

    cells: tuple[Cell, ...]
    served: Pixels
    canvases: Pixels
    rims: NDArray[np.float32]
    key: str

    @property
    def kept_name(self) -> str:
        """File name for what a network says of these cells: positions mean no others'."""
        return f"unlearned-{self.key}.npz"


def serving_card(input_px: int, name: str = "cell-types") -> ClassifierCard:
    """The card whose rules make the windows."""
    taxonomy = load_taxonomy("cells-14")
    return ClassifierCard(
        name=name,
        version="0",
        types=types_of(taxonomy),
        taxonomy=taxonomy.name,
        license="Apache-2.0",
        crop=CropRule(WINDOW_RBC, 70.0),
        preprocessing=ClassifierPreprocessing(
            input_px=(input_px, input_px), mean=(0.5,) * 3, std=(0.5,) * 3
        ),
    )


def cut(cells: Sequence[Cell], input_px: int, cache: Path) -> Windows:
    """The windows of cells, from the cache where it holds exactly these.

    Args:
        cells: of one picture side by side, which saves decoding.
        input_px: side of the classifier's input.
        cache: folder for the arrays.
    """
    ordered = tuple(sorted(cells, key=lambda c: (c.path.as_posix(), c.stain)))
    text = json.dumps([dataclasses.astuple(c) for c in ordered], default=str)
    text = f"{input_px} {CANVAS_SIDES} {CANVAS_DENSITY} {text}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = cache / key
    names = [folder / f"{part}.npy" for part in ("served", "canvases", "rims")]
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(ordered, input_px, names)
        (folder / "done").touch()
    served, canvases, rims = (np.load(name, mmap_mode="r") for name in names)
    return Windows(ordered, served, canvases, rims, key)


def _write(cells: Sequence[Cell], input_px: int, names: Sequence[Path]) -> None:
    side = round(input_px * CANVAS_SIDES * CANVAS_DENSITY)
    card = serving_card(input_px)
    size = len(cells)
    shapes = [(size, input_px, input_px, 3), (size, side, side, 3), (size, 4)]
    kinds = [np.uint8, np.uint8, np.float32]
    arrays = [
        np.lib.format.open_memmap(name, "w+", kind, shape)
        for name, kind, shape in zip(names, kinds, shapes, strict=True)
    ]
    position = 0
    for (path, stain), group in groupby(cells, key=lambda c: (c.path, c.stain)):
        picture = ImageRef(path, path.name, "")
        pixels = read_image(picture, max_pixels=_MAX_PIXELS).pixels
        if stain:
            pixels = STAINS[stain](apply_gains(pixels, white_balance_gains(pixels)))
        for cell in group:
            arrays[0][position] = served_window(pixels, cell, card)
            arrays[1][position], arrays[2][position] = _canvas(pixels, cell, side)
            position += 1


def served_window(pixels: Pixels, cell: Cell, card: ClassifierCard) -> Pixels:
    """The classifier's input for a cell, by the functions that serve it in use."""
    if cell.box is None:
        return prepare_picture(pixels, card, cell.rbc_px)
    boxes = np.asarray([cell.box], np.float64)
    return field_crops(pixels, boxes, card, card.crop.window_rbc * cell.rbc_px)[0]


def _canvas(pixels: Pixels, cell: Cell, side: int) -> tuple[Pixels, NDArray[np.float32]]:
    """A cell's window with margin, and what of it the picture fills."""
    extent = WINDOW_RBC * cell.rbc_px
    if cell.box is None:
        around, place = pixels, (pixels.shape[1] / 2, pixels.shape[0] / 2)
    else:
        b = cell.box
        middle = ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
        around, place = surroundings(pixels, middle, extent, sides=BALANCE_SIDES)
    gains = white_balance_gains(around)
    reach = CANVAS_SIDES * extent
    canvas = window(apply_gains(around, gains), place, reach, (side, side))
    height, width = around.shape[:2]
    low = [0.5 - place[0] / reach, 0.5 - place[1] / reach]
    high = [0.5 + (width - place[0]) / reach, 0.5 + (height - place[1]) / reach]
    return canvas, np.clip(np.array([*low, *high], np.float32), 0, 1)
