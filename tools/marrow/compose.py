"""Composing fields: cells pasted on glass or on a whole picture, then seen through one camera.

All cells of a field are of one laboratory and of nearly the same stain. What they absorb is pasted,
not their colour, so that every field has the light of the picture that it rests on. Blur, noise and
JPEG come last and over everything: no edge tells what was pasted.

Shapes: pixels uint8 (H, W, 3) RGB; density float32 (H, W, 3); boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.core.blood import RBC, WBC
from tools.marrow.contours import Floats, Mask
from tools.marrow.cuts import Cut, Seen, own_cells, restained
from tools.marrow.glass import glass_field
from tools.marrow.layout import Ground, Placed, box_in_field

#: Cells of a field are drawn from so many whose stain is nearest to that of its picture.
_NEAREST = 60
#: What shines through a nucleated cell of what lies below, and a red cell's density over others.
_THROUGH, _ADDED = 0.1, 0.85
#: A cell has a box if so much of it is in sight.
_IN_SIGHT, _HIDDEN = 0.2, 0.45
_MOST_CELLS, _FAILURES = 400, 3
#: Spread of the logarithm of red cells' sizes, of fields and within them.
_ANISOCYTOSIS = 0.05
#: Uneven light, blur in px, noise, and what a cell's own density may differ by.
_LIGHT, _BLUR_PX, _NOISE, _STRENGTH = 0.06, 0.9, 2.5, 0.08


@dataclass(frozen=True, slots=True)
class Stock:
    """Cells to compose fields of: of one part of the pictures.

    Attributes:
        nucleated: cells of one laboratory.
        red: of any laboratory; they take the stain of the field's picture.
        platelets: of one laboratory.
    """

    nucleated: Sequence[Cut]
    red: Sequence[Cut]
    platelets: Sequence[Cut]


@dataclass(frozen=True, slots=True)
class Plan:
    """Composition of a field that is to be drawn.

    Attributes:
        size: height and width; None for the whole picture with its own cells.
        nucleated: share of the field that nucleated cells cover, at most.
        touching: share of them that touch another one.
        overlap: share of a cell that others may cover.
        red: share of the field that red cells cover.
        platelets: how many.
    """

    size: tuple[int, int] | None
    nucleated: float
    touching: float
    overlap: float
    red: float
    platelets: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A field with its boxes.

    Attributes:
        pixels: the field.
        boxes: of its cells, in ``labels``' order.
        labels: class ids.
        sources: names of all pictures that it is made of.
    """

    pixels: NDArray[np.uint8]
    boxes: Floats
    labels: tuple[str, ...]
    sources: tuple[str, ...]


def draw_plan(random: np.random.Generator, *, whole: bool) -> Plan:
    """Draw a plan, from a sparse field to a packed one."""
    sparse = random.random() < 0.3
    size = None if whole else (int(random.integers(400, 600)), int(random.integers(440, 680)))
    nucleated = float(random.uniform(0.02, 0.15) if sparse else random.uniform(0.15, 0.75))
    return Plan(
        size=size,
        nucleated=nucleated if not whole else nucleated * float(random.random() < 0.8),
        touching=float(random.uniform(0.2, 0.95)),
        overlap=float(random.uniform(0.0, 0.08)),
        red=0.0 if whole else float(random.uniform(0.12, 0.6)) * (1 - nucleated),
        platelets=int(random.integers(0, 9)),
    )


def compose(seen: Seen, stock: Stock, plan: Plan, random: np.random.Generator) -> Composed:
    """Compose a field on a picture's glass, or on the whole picture with the cells it shows."""
    size = plan.size or seen.pixels.shape[:2]
    margin = 2 * max(max(c.alpha.shape) for c in (*stock.nucleated, *stock.red))
    ground = Ground(size[0], size[1], margin)
    own_boxes, own_labels = np.zeros((0, 4), np.float32), list[str]()
    if plan.size is None:
        density = seen.density
        own_boxes, own_labels = own_cells(seen)
        _take(ground, own_boxes[[label == WBC for label in own_labels]])
    else:
        density = glass_field(seen.density, size, random)
    _lay_nucleated(ground, _alike(seen, stock.nucleated), plan, random)
    nucleated = list(ground.cells)
    red = _lay_red(ground, seen, stock, plan, random)
    density = _painted(density, [*red, *nucleated], random)
    boxes, labels = _boxes([*red, *nucleated], nucleated, size)
    kept = _in_sight(own_boxes, own_labels, nucleated, size)
    pixels = through_camera(density, seen.glass, random)
    sources = {seen.name, *(p.cut.source for p in (*red, *nucleated))}
    return Composed(
        pixels,
        np.concatenate([own_boxes[kept], boxes]),
        (*(label for label, keep in zip(own_labels, kept, strict=True) if keep), *labels),
        tuple(sorted(sources)),
    )


def _take(ground: Ground, boxes: Floats) -> None:
    """Mark the ellipses that fill boxes as taken."""
    y, x = np.mgrid[: ground.taken.shape[0], : ground.taken.shape[1]] - ground.margin
    for x0, y0, x1, y1 in boxes:
        across = (x - (x0 + x1) / 2) / max((x1 - x0) / 2, 1)
        ground.taken |= across**2 + ((y - (y0 + y1) / 2) / max((y1 - y0) / 2, 1)) ** 2 < 1


def _alike(seen: Seen, cuts: Sequence[Cut]) -> list[Cut]:
    """The cells whose stain is nearest to the picture's."""
    if not cuts:
        return []
    away = np.stack([c.stain for c in cuts]) - seen.stain
    known = np.isfinite(away)
    distance = np.sqrt((np.where(known, away, 0) ** 2).sum(1) / np.maximum(known.sum(1), 1))
    distance[~known.any(1)] = np.inf
    order = np.argsort(distance, kind="stable")[:_NEAREST]
    return [cuts[i] for i in order.tolist()]


def _drawn(cuts: Sequence[Cut], random: np.random.Generator) -> Cut:
    cut = cuts[int(random.integers(len(cuts)))]
    return cut.turned(int(random.integers(4)), mirrored=bool(random.integers(2)))


def _lay_nucleated(
    ground: Ground, cuts: Sequence[Cut], plan: Plan, random: np.random.Generator
) -> None:
    failed = 0
    for _ in range(_MOST_CELLS):
        if not cuts or ground.covered() >= plan.nucleated:
            break
        cut = _drawn(cuts, random)
        if random.random() < plan.touching:
            put = ground.put_touching(cut, random, plan.overlap)
        else:
            put = ground.put_apart(cut, random, 0.01)
        failed = 0 if put or ground.put_touching(cut, random, plan.overlap) else failed + 1
        if failed > _FAILURES:
            break


def _lay_red(
    ground: Ground, seen: Seen, stock: Stock, plan: Plan, random: np.random.Generator
) -> list[Placed]:
    """Lay red cells and platelets where nucleated ones leave room; they overlap one another."""
    room = Ground(ground.height, ground.width, ground.margin)
    stain, red = seen.stain, list[Placed]()
    if not np.isfinite(stain).all():
        stain = np.nanmedian([c.stain for c in _alike(seen, stock.nucleated)], axis=0)
    size = float(np.exp(random.normal(0, _ANISOCYTOSIS)))
    failed = 0
    for _ in range(_MOST_CELLS):
        if not stock.red or room.covered() >= plan.red:
            break
        cut = _drawn(stock.red, random)
        zoom = seen.rbc_px / cut.rbc_px * size * float(np.exp(random.normal(0, _ANISOCYTOSIS)))
        cut = restained(cut, stain, zoom)
        before = len(room.cells)
        if random.random() < 0.5:
            put = room.put_touching(cut, random, float(random.uniform(0, 0.2)))
        else:
            put = room.put_apart(cut, random, float(random.choice([0.0, 0.0, 0.2])))
        failed = 0 if put else failed + 1
        if failed > _FAILURES:
            break
        for placed in room.cells[before:]:
            if ground.overlap(placed.cut.mask, placed.x, placed.y) < random.uniform(0, 0.25):
                red.append(placed)
    for _ in range(plan.platelets if stock.platelets else 0):
        cut = _drawn(stock.platelets, random)
        before = len(room.cells)
        room.put_apart(cut, random, 0.3)
        red += [p for p in room.cells[before:] if ground.overlap(p.cut.mask, p.x, p.y) < 0.05]
    return red


def _painted(density: Floats, cells: Sequence[Placed], random: np.random.Generator) -> Floats:
    """Density with the cells over it, in their order."""
    painted = density.copy()
    for placed in cells:
        cut, field, own = placed.cut, *_windows(placed, density.shape[:2])
        alpha = cut.alpha[own][..., None]
        through = _THROUGH if cut.label == WBC else _ADDED
        strength = 1 + float(random.uniform(-_STRENGTH, _STRENGTH))
        below = painted[field]
        painted[field] = below * (1 - alpha * (1 - through)) + strength * alpha * cut.density[own]
    return painted


def _windows(
    placed: Placed, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the field that a cell's patch lies on, and the part of the patch."""
    h, w = placed.cut.alpha.shape
    top, left = max(placed.y, 0), max(placed.x, 0)
    bottom = max(min(placed.y + h, shape[0]), top)
    right = max(min(placed.x + w, shape[1]), left)
    own = (slice(top - placed.y, bottom - placed.y), slice(left - placed.x, right - placed.x))
    return (slice(top, bottom), slice(left, right)), own


def _boxes(
    cells: Sequence[Placed], over: Sequence[Placed], shape: tuple[int, int]
) -> tuple[Floats, tuple[str, ...]]:
    """Boxes and labels of the nucleated and red cells that are in sight."""
    cover = _cover(over, shape)
    boxes, labels = [], []
    for placed in cells:
        if placed.cut.label not in (WBC, RBC):
            continue
        field, own = _windows(placed, shape)
        mask = placed.cut.mask[own]
        shown = mask.sum() / placed.cut.mask.sum()
        if placed.cut.label == RBC and mask.any():
            shown *= float(cover[field][mask].mean() < _HIDDEN)
        if shown >= _IN_SIGHT:
            boxes.append(box_in_field(placed, shape))
            labels.append(placed.cut.label)
    return np.array(boxes, np.float32).reshape(-1, 4), tuple(labels)


def _cover(cells: Sequence[Placed], shape: tuple[int, int]) -> Mask:
    """Pixels of a field that cells lie on."""
    cover = np.zeros(shape, bool)
    for placed in cells:
        field, own = _windows(placed, shape)
        cover[field] |= placed.cut.mask[own]
    return cover


def _in_sight(
    boxes: Floats, labels: Sequence[str], over: Sequence[Placed], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return which of a picture's own cells are not hidden below pasted ones."""
    cover = _cover(over, shape)
    kept = [
        not cover[round(y0) : round(y1), round(x0) : round(x1)].mean() > _HIDDEN
        for (x0, y0, x1, y1) in boxes.tolist()
    ]
    return np.array(kept, bool).reshape(len(labels))


def through_camera(
    density: Floats, glass: Floats, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The field as a camera sees it: uneven light, blur and noise over all of it."""
    height, width = density.shape[:2]
    tilt = random.uniform(-_LIGHT, _LIGHT, 2)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = (1 + tilt[0] * x + tilt[1] * y)[..., None]
    pixels = (glass + 1) * 10.0**-density * light - 1
    if random.random() < 0.6:
        sigma = float(random.uniform(0.2, _BLUR_PX))
        pixels = ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
    noise = random.normal(0, float(random.uniform(0, _NOISE)), pixels.shape)
    pixels = pixels + ndimage.gaussian_filter(noise, (0.5, 0.5, 0))
    return np.asarray(np.clip(np.round(pixels), 0, 255), np.uint8)
