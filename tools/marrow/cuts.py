"""Cells cut out of pictures: what they absorb, a soft mask, and the stain they come from.

Shapes: pixels uint8 (H, W, 3) RGB; density float32 (h, w, 3); alpha float32 (h, w); boxes (N, 4)
xyxy in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.core.blood import PLATELET, RBC, WBC
from tools.marrow.contours import (
    Contour,
    Floats,
    best_contour,
    glass_colour,
    middle_contour,
    nuclei_of,
    optical_density,
    own_nucleus,
)

#: Width of the soft edge to either side of a contour, in red cells.
_FEATHER = 0.016
#: A contour is used if so many of its rays end clearly, and if its box is the detector's.
_SURE, _AGREES = 0.75, 0.62
#: Least side over a red cell's, and largest.
_SIDES = (0.55, 2.9)
#: Area of nuclei without a box, in squares of a red cell, from which a picture is left out.
_UNKNOWN = 0.03
#: Red cells and platelets are cut where other boxes cover no more of theirs.
_COVERED = 0.08
_SCORE = {RBC: 0.7, PLATELET: 0.5, WBC: 0.3}
#: Density of a red cell's pixel, and shares of its box for what is inside for certain and at most.
_STAINED, _CORE, _REACH = 0.05, 0.5, 1.12
#: A red cell absorbs at most such a share of the red light that nuclei absorb.
_PALER = 0.5
#: A red cell is left out if parts of it absorb so many times what all of it does.
_UNEVEN = 2.0
_RIM_PX = 8
#: Exponent of a red cell's thickness where it takes another stain.
_EVENED = 0.75


@dataclass(frozen=True)
class Seen:
    """A picture of a single cell, and what a detector saw there.

    Attributes:
        name: of the picture, with its data set.
        pixels: of the picture.
        rbc_px: diameter of the laboratory's red cells.
        boxes, labels, scores: detections of any score; labels are class ids.
    """

    name: str
    pixels: NDArray[np.uint8]
    rbc_px: float
    boxes: Floats
    labels: NDArray[np.str_]
    scores: Floats

    def of(self, label: str, floor: float | None = None) -> Floats:
        """Boxes of a class from a score on."""
        least = _SCORE[label] if floor is None else floor
        boxes: Floats = self.boxes[(self.labels == label) & (self.scores >= least)]
        return boxes

    @cached_property
    def glass(self) -> Floats:
        """Colour of the empty glass."""
        return glass_colour(self.pixels)

    @cached_property
    def density(self) -> Floats:
        """Optical density of each pixel."""
        return optical_density(self.pixels, self.glass)

    @cached_property
    def stain(self) -> Floats:
        """Median densities of nuclei and of red cells, not a number for what it does not show."""
        nuclei = nuclei_of(self.density)
        reds = [
            np.median(self.density[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1], axis=(0, 1))
            for x0, y0, x1, y1 in np.maximum(self.of(RBC), 0)
        ]
        nucleus = np.median(self.density[nuclei], axis=0) if nuclei.any() else np.full(3, np.nan)
        # A detector may take a dark nucleus for a red cell: those absorb much red light.
        reds = [red for red in reds if not red[0] > _PALER * nucleus[0]]
        red = np.median(reds, axis=0) if reds else np.full(3, np.nan)
        return np.concatenate([nucleus, red]).astype(np.float32)

    @property
    def laboratory(self) -> str:
        """Data set of the picture."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Cut:
    """A cell cut out of its picture.

    Attributes:
        source: name of the picture.
        label: class id.
        density: what it absorbs beyond its picture's glass.
        alpha: 1 on the cell, 0 beside it.
        stain: six numbers that tell stains apart: density of nuclei and of red cells.
        rbc_px: diameter of its laboratory's red cells.
    """

    source: str
    label: str
    density: Floats
    alpha: Floats
    stain: Floats
    rbc_px: float

    def turned(self, quarters: int, *, mirrored: bool) -> Cut:
        """The cell turned by right angles, which leaves its pixels as sharp as they were."""
        density, alpha = np.rot90(self.density, quarters), np.rot90(self.alpha, quarters)
        if mirrored:
            density, alpha = density[:, ::-1], alpha[:, ::-1]
        return replace(self, density=density, alpha=alpha)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that are of the cell by more than a half."""
        return self.alpha >= 0.5


def middle_cell(seen: Seen) -> Cut | None:
    """The nucleated cell in the middle; None where contour and detector do not agree on it."""
    contour = clear_contour(seen)
    return None if contour is None else _cut(seen, contour, WBC)


def clear_contour(seen: Seen) -> Contour | None:
    """Contour of the middle cell if it is whole, clear, and about what a detector found there."""
    height, width = seen.pixels.shape[:2]
    contour = middle_contour(seen.density, seen.of(RBC, 0.5), seen.rbc_px)
    if contour is None or contour.sure < _SURE:
        return None
    x0, y0, x1, y1 = contour.box
    sides = np.array([x1 - x0, y1 - y0]) / seen.rbc_px
    if min(x0, y0) < 1 or x1 > width - 1 or y1 > height - 1:
        return None
    if sides.min() < _SIDES[0] or sides.max() > _SIDES[1]:
        return None
    agreed = overlaps(contour.box, seen.of(WBC))
    return contour if agreed.size and agreed.max() >= _AGREES else None


def own_cells(seen: Seen) -> tuple[Floats, list[str]]:
    """Boxes and labels of the cells that a picture shows itself; none where not all are known.

    A nucleus without a box, or a middle cell without a clear contour, leaves the picture out.
    """
    contour = clear_contour(seen)
    white, red = seen.of(WBC, 0.5), seen.of(RBC, 0.5)
    nuclei = nuclei_of(ndimage.gaussian_filter(seen.density, (1, 1, 0)))
    _, others = own_nucleus(nuclei, seen.rbc_px)
    for x0, y0, x1, y1 in np.maximum(white, 0).astype(int):
        others[y0 : y1 + 1, x0 : x1 + 1] = False
    if contour is None or others.sum() > _UNKNOWN * seen.rbc_px**2:
        return np.zeros((0, 4), np.float32), []
    white = white[overlaps(contour.box, white) < 0.4]
    red = red[shares_of_others(contour.box, red) < 0.5]
    boxes = np.concatenate([contour.box[None], white, red])
    return boxes, [WBC] * (1 + len(white)) + [RBC] * len(red)


def small_cells(seen: Seen, label: str) -> Iterator[Cut]:
    """Red cells or platelets of a picture that are whole and lie apart from others."""
    height, width = seen.pixels.shape[:2]
    everything = seen.boxes[seen.scores >= 0.2]
    density = seen.density.mean(-1)
    for box in seen.of(label):
        x0, y0, x1, y1 = box
        if min(x0, y0) < 2 or x1 > width - 2 or y1 > height - 2:
            continue
        if (shares_covered(box, everything) > _COVERED).sum() > 1:
            continue
        contour = disc_contour(density, box)
        if overlaps(contour.box, box[None])[0] < 0.7 or contour.sure < 0.6:
            continue
        cut = _cut(seen, contour, label)
        if label != RBC or _is_even(cut):
            yield cut


def _is_even(cut: Cut) -> bool:
    """Return whether nothing on a red cell absorbs far more red light than all of it does."""
    red = cut.density[..., 0][cut.mask]
    return bool(np.quantile(red, 0.99) < _UNEVEN * np.median(red) + _STAINED)


def restained(cut: Cut, stain: Floats, zoom: float) -> Cut:
    """A red cell in the red-cell colour of another stain, at another scale.

    How thick it is stays, somewhat evened out; it absorbs as that stain's red cells do.
    """
    own = np.nanmedian(cut.density[cut.mask], axis=0)
    thickness = cut.density @ own / max(float(own @ own), 1e-6)
    thickness = np.clip(thickness, 0, None) ** _EVENED
    density = thickness[..., None] * stain[3:]
    if zoom != 1:
        density = ndimage.zoom(density, (zoom, zoom, 1), order=1)
    alpha = ndimage.zoom(cut.alpha, zoom, order=1) if zoom != 1 else cut.alpha
    return replace(cut, density=density.astype(np.float32), alpha=alpha, stain=stain)


def disc_contour(density: Floats, box: Floats) -> Contour:
    """The contour of a cell without nucleus that a box surrounds."""
    left, top = np.maximum(box[:2] - _RIM_PX, 0).astype(int)
    right, bottom = np.ceil(box[2:] + _RIM_PX).astype(int)
    density = density[top:bottom, left:right]
    y, x = np.mgrid[: density.shape[0], : density.shape[1]] + 0.5
    centre, half = (box[:2] + box[2:]) / 2 - [left, top], (box[2:] - box[:2]) / 2
    away = np.hypot((x - centre[0]) / half[0], (y - centre[1]) / half[1])
    inside = np.tanh(density / _STAINED - 1)
    inside = np.where(away > _REACH, -1, inside).astype(np.float32)
    found = best_contour(inside, density, away < _CORE, float(2 * half.mean()))
    return replace(found, x=found.x + left, y=found.y + top)


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of a box with others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / (areas - shared), np.float32)


def shares_covered(box: Floats, boxes: Floats) -> Floats:
    """Share of a box that each of others covers."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return np.asarray(shared / (box[2:] - box[:2]).prod(), np.float32)


def shares_of_others(box: Floats, boxes: Floats) -> Floats:
    """Share of each of the others that a box covers."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return np.asarray(shared / (boxes[:, 2:] - boxes[:, :2]).prod(1), np.float32)


def _cut(seen: Seen, contour: Contour, label: str) -> Cut:
    """Cut a cell out along a contour."""
    feather = max(0.7, _FEATHER * seen.rbc_px)
    alpha = contour.alpha(seen.pixels.shape[:2], feather)
    rows, columns = ndimage.find_objects((alpha > 0).astype(np.int8))[0]
    density = seen.density[rows, columns]
    return Cut(seen.name, label, density, alpha[rows, columns], seen.stain, seen.rbc_px)
