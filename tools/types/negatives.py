"""Places of fields that are no white cell: red cells, heaps, glass, and a detector's false finds.

Shapes: boxes (x_min, y_min, x_max, y_max); pixels uint8 (H, W, 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef
from cellcount.engines.base import Engine
from cellcount.images.read import read_image
from cellcount.images.scale import resize
from cellcount.images.white_balance import apply_gains, white_balance_gains
from tools.types.cells import NOT_WHITE, Box, Cell, Field

Pixels = NDArray[np.uint8]
_MAX_PIXELS = 200_000_000
_WHITE = 235.0
_LEAST_SCORE = 0.1
_PLATELET_SHARE = 0.6
#: A place counts as beside a white cell from so many red cells off the edge of its box.
_CLEARANCE = 0.35


def _mixed(pixels: Pixels, matrix: Sequence[Sequence[float]]) -> Pixels:
    """Optical densities of the stain, above those of empty glass, mixed between the channels."""
    density = np.log(_WHITE + 1) - np.log(pixels.astype(np.float32) + 1)
    changed = density @ np.asarray(matrix, np.float32).T
    return np.asarray(np.clip((_WHITE + 1) * np.exp(-changed) - 0.5, 0, 255), np.uint8)


#: Stains under which red cells look like something else.
STAINS: dict[str, Callable[[Pixels], Pixels]] = {
    "": lambda pixels: pixels,
    "grey": lambda pixels: _mixed(pixels, [[0.45, 0.4, 0.35]] * 3),
    "dark": lambda pixels: _mixed(pixels, [[1.9, 0.2, 0.0], [0.0, 1.8, 0.0], [0.0, 0.2, 1.6]]),
    "green": lambda pixels: _mixed(pixels, [[0.6, 0.7, 0.0], [0.0, 0.5, 0.1], [0.0, 0.6, 0.6]]),
}


def stained(pixels: Pixels, stain: str) -> Pixels:
    """White-balanced pixels under another stain."""
    return STAINS[stain](pixels)


def balanced(path: Path) -> Pixels:
    """A field with its background brought to white."""
    pixels = read_image(ImageRef(path, path.name, ""), max_pixels=_MAX_PIXELS).pixels
    return apply_gains(pixels, white_balance_gains(pixels))


def drawn_negatives(fields: Iterable[Field], seed: int) -> list[Cell]:
    """Red cells, heaps of them, glass and platelets of fields whose white cells are all known.

    Args:
        fields: of the train split.
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    found: list[Cell] = []
    for field in fields:
        if field.rbc_px is None:
            continue
        whites = field.of("wbc")
        reds = [b for b in field.of("rbc") if _is_clear(_middle(b), whites, field.rbc_px)]
        places = [reds[i] for i in rng.permutation(len(reds))[:2]]
        places += _heaps(reds, field.rbc_px)[:1] if rng.random() < 0.7 else []
        if field.complete:
            places += _anywhere(field, whites, rng)
        found += [_cell(field, NOT_WHITE, box) for box in places]
        platelets = [b for b in field.of("platelet") if _is_clear(_middle(b), whites, field.rbc_px)]
        if platelets and rng.random() < _PLATELET_SHARE:
            found.append(_cell(field, "platelet", platelets[int(rng.integers(len(platelets)))]))
    return found


def false_finds(fields: Sequence[Field], engine: Engine, stains: Sequence[str]) -> list[Cell]:
    """Return the places that the detector wrongly takes for white cells, under each stain.

    Args:
        fields: of the train split, every white cell known.
        engine: the packaged detector.
        stains: names in ``STAINS``; field i is seen under stain i modulo their number.
    """
    label = [c.id for c in engine.card.classes].index("wbc")
    target = engine.card.rbc_diameter_px
    found: list[Cell] = []
    for number, field in enumerate(fields):
        if field.rbc_px is None:
            continue
        stain = stains[number % len(stains)]
        factor = target / field.rbc_px
        pixels = stained(balanced(field.path), stain)
        seen = engine.detect([resize(pixels, factor)])[0]
        chosen = seen.boxes_xyxy[(seen.labels == label) & (seen.scores >= _LEAST_SCORE)] / factor
        for box in chosen.tolist():
            if _is_clear(_middle(box), field.of("wbc"), field.rbc_px):
                name = "platelet" if _is_on(_middle(box), field.of("platelet")) else NOT_WHITE
                found.append(replace(_cell(field, name, tuple(box)), stain=stain))
    return found


def _cell(field: Field, label: str, box: Box) -> Cell:
    assert field.rbc_px is not None
    return Cell(field.path, field.laboratory, label, "train", field.rbc_px, box)


def _middle(box: Sequence[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _is_on(place: tuple[float, float], boxes: Iterable[Box]) -> bool:
    x, y = place
    return any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes)


def _is_clear(place: tuple[float, float], whites: Iterable[Box], rbc_px: float) -> bool:
    """Return whether a place lies well beside every white cell."""
    x, y = place
    reach = _CLEARANCE * rbc_px
    return not any(
        math.hypot(max(b[0] - x, 0, x - b[2]), max(b[1] - y, 0, y - b[3])) < reach for b in whites
    )


def _heaps(reds: Sequence[Box], rbc_px: float) -> list[Box]:
    """Between two red cells that overlap."""
    heaps = []
    for i, a in enumerate(reds):
        for b in reds[i + 1 :]:
            (ax, ay), (bx, by) = _middle(a), _middle(b)
            if 0.2 * rbc_px < math.hypot(ax - bx, ay - by) < 0.9 * rbc_px:
                x, y, half = (ax + bx) / 2, (ay + by) / 2, rbc_px * 0.7
                heaps.append((x - half, y - half, x + half, y + half))
    return heaps


def _anywhere(field: Field, whites: Sequence[Box], rng: np.random.Generator) -> list[Box]:
    """One place of glass, dirt, the rim of a cell or of the field."""
    assert field.rbc_px is not None
    with Image.open(field.path) as picture:
        width, height = picture.size
    for _ in range(8):
        x, y, half = rng.uniform(0, width), rng.uniform(0, height), field.rbc_px / 2
        if _is_clear((x, y), whites, field.rbc_px):
            return [(x - half, y - half, x + half, y + half)]
    return []
