"""Meanings of the numbers of boxes: corners, or a corner or centre and a size; pixels or shares.

A file states its boxes in one way, and programs mix the ways up. Whether the numbers can be meant
as their format says is seen in all boxes of a source together: they must lie inside their pictures.

Shapes: N boxes; boxes are float64 ``(N, 4)`` and frames ``(N, 2)`` width and height in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["corners", "corner and size", "centre and size"]
LAYOUTS: tuple[Layout, ...] = ("corners", "corner and size", "centre and size")

_SHARE_TOLERANCE = 0.1
_EDGE_TOLERANCE = 0.02
_EDGE_TOLERANCE_PX = 2.0
# Boxes inside their pictures: enough for the format's own layout; what another one must reach.
_ENOUGH, _OTHERWISE = 0.95, 0.99
# Below it a handful of boxes is evidence, too; with an extent, none of the others is believed.
_HOPELESS = 0.5
_HANDFUL, _MANY = 4, 10
_PERCENT_BOXES, _PERCENT_REACH, _PERCENT_SIDE_PX = 20, 90.0, 200.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Meaning:
    """Meaning of the numbers of a source's boxes.

    Attributes:
        layout: what the four numbers are.
        unit: of a share the whole (1 or 100); 0 where they are pixels.
        usable: whether the numbers can be boxes at all.
    """

    layout: Layout
    unit: float = 0.0
    usable: bool = True

    def corners(self, numbers: Array, frames: Array) -> Array:
        """Corners in pixels of their frames."""
        scaled = numbers * np.tile(frames, 2) / self.unit if self.unit else numbers
        return _corners(scaled, self.layout)

    def is_share(self, numbers: Array) -> NDArray[np.bool_]:
        """Mask of the boxes that are possible shares; all of them where the unit is the pixel."""
        if not self.unit:
            return np.ones(len(numbers), bool)
        low, high = -_SHARE_TOLERANCE * self.unit, (1 + _SHARE_TOLERANCE) * self.unit
        inside: NDArray[np.bool_] = np.all((numbers >= low) & (numbers <= high), axis=1)
        return inside


def numbers_of(corners: Array, layout: Layout) -> Array:
    """The four numbers with which a layout writes corners."""
    low, high = corners[:, :2], corners[:, 2:]
    if layout == "corners":
        return corners
    first = low if layout == "corner and size" else (low + high) / 2
    return np.concatenate([first, high - low], axis=1)


def meaning_of(numbers: Array, frames: Array, expected: Layout) -> Meaning:
    """Find the meaning of one source's boxes: as ``expected`` unless all of them speak against it.

    Args:
        numbers: as the source has them.
        frames: the sizes of their pictures, as stated or else of the files.
        expected: the format's own layout.
    """
    finite = np.isfinite(numbers).all(axis=1)
    numbers, frames = numbers[finite], frames[finite]
    if not len(numbers):
        return Meaning(expected)
    unit = _unit(numbers, frames, expected)
    possible = Meaning(expected, unit).is_share(numbers)
    numbers, frames = numbers[possible], frames[possible]
    fits = {
        layout: float(_inside(Meaning(layout, unit).corners(numbers, frames), frames).mean())
        for layout in LAYOUTS
    }
    fit, few = fits[expected], len(numbers) < _HANDFUL
    others = [o for o in LAYOUTS if o != expected and fits[o] >= _OTHERWISE]
    wrong = fit < (_ENOUGH if len(numbers) >= _MANY else _HOPELESS)
    if len(others) == 1 and wrong and not few:
        return Meaning(others[0], unit)
    corners = Meaning(expected, unit).corners(numbers, frames)
    with_extent = (corners[:, :2] < corners[:, 2:]).all(axis=1).mean()
    return Meaning(expected, unit, usable=bool(few or with_extent >= _HOPELESS))


def _unit(numbers: Array, frames: Array, expected: Layout) -> float:
    """Unit of coordinates given as shares; one odd box does not decide."""
    reach = np.abs(numbers).max(axis=1)
    if np.median(reach) <= 1 and np.median(frames) > 1:
        return 1.0
    right, lower = _corners(numbers, expected)[:, 2:].max(axis=0)
    # Boxes that end at 100 in both directions, of a picture that is larger and not square.
    is_percent = (
        len(numbers) >= _PERCENT_BOXES
        and min(right, lower) > _PERCENT_REACH
        and max(reach.max(), right, lower) <= 100 + _EDGE_TOLERANCE_PX
        and frames.min() >= _PERCENT_SIDE_PX
    )
    return 100.0 if is_percent else 0.0


def _corners(numbers: Array, layout: Layout) -> Array:
    first, second = numbers[:, :2], numbers[:, 2:]
    if layout == "corners":
        return numbers
    low = first if layout == "corner and size" else first - second / 2
    return np.concatenate([low, low + second], axis=1)


def _inside(corners: Array, frames: Array) -> NDArray[np.bool_]:
    """Mask of the boxes that have an area and lie inside their frames."""
    slack = np.maximum(_EDGE_TOLERANCE * frames, _EDGE_TOLERANCE_PX)
    low, high = corners[:, :2], corners[:, 2:]
    inside: NDArray[np.bool_] = np.all(
        (low < high) & (low >= -slack) & (high <= frames + slack), axis=1
    )
    return inside
