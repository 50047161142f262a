"""Places of cells in a field: apart, touching, or in clusters that overlap a little.

Shapes: masks bool (h, w); the ground of a field bool (H, W), with a margin around the field, so
that its border cuts cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tools.marrow.contours import Mask
from tools.marrow.cuts import Cut

_TRIES = 6
_SLIDE_PX = 3


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell at its place: ``x`` and ``y`` of its patch in the field, which may be negative."""

    cut: Cut
    x: int
    y: int


@dataclass(slots=True)
class Ground:
    """Room of a field that cells take.

    Attributes:
        height, width: of the field.
        margin: beyond its border, where cells may lie in part.
        taken: pixels of cells, with the margin.
        cells: those that lie there, in the order in which they came.
    """

    height: int
    width: int
    margin: int
    taken: Mask = field(init=False)
    cells: list[Placed] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.height + 2 * self.margin, self.width + 2 * self.margin)
        self.taken = np.zeros(shape, bool)

    def covered(self) -> float:
        """Share of the field that cells take."""
        m = self.margin
        return float(self.taken[m : m + self.height, m : m + self.width].mean())

    def overlap(self, mask: Mask, x: int, y: int) -> float:
        """Share of a cell at a place that others have taken; 1 where it leaves the ground."""
        top, left = y + self.margin, x + self.margin
        h, w = mask.shape
        if top < 0 or left < 0 or top + h > len(self.taken) or left + w > self.taken.shape[1]:
            return 1.0
        covered = int(np.count_nonzero(self.taken[top : top + h, left : left + w] & mask))
        return covered / max(int(np.count_nonzero(mask)), 1)

    def put(self, cut: Cut, x: int, y: int) -> None:
        """Lay a cell down."""
        h, w = cut.alpha.shape
        top, left = y + self.margin, x + self.margin
        self.taken[top : top + h, left : left + w] |= cut.mask
        self.cells.append(Placed(cut, x, y))

    def put_apart(self, cut: Cut, random: np.random.Generator, most: float) -> bool:
        """Lay a cell where others have at most a share of its place; False where none was found."""
        (h, w), mask = cut.alpha.shape, cut.mask
        for _ in range(_TRIES):
            x = int(random.integers(-w // 2, self.width - w // 2))
            y = int(random.integers(-h // 2, self.height - h // 2))
            if self.overlap(mask, x, y) <= most:
                self.put(cut, x, y)
                return True
        return False

    def put_touching(self, cut: Cut, random: np.random.Generator, most: float) -> bool:
        """Slide a cell towards one that lies there until they touch, or overlap a little."""
        if not self.cells:
            return self.put_apart(cut, random, 0.0)
        for _ in range(_TRIES):
            other = self.cells[int(random.integers(len(self.cells)))]
            place = self._slid(cut, other, float(random.uniform(0, 2 * np.pi)), most)
            if place is not None and self._shows(cut, *place):
                self.put(cut, *place)
                return True
        return False

    def _slid(self, cut: Cut, other: Placed, angle: float, most: float) -> tuple[int, int] | None:
        """The last place on the way to another cell where little enough of it is taken."""
        h, w = cut.alpha.shape
        middle = np.array([other.x, other.y]) + np.array(other.cut.alpha.shape[::-1]) / 2
        way = np.array([np.cos(angle), np.sin(angle)])
        mask, last = cut.mask, None
        far = (max(h, w) + max(other.cut.alpha.shape)) // 2 + 2
        for distance in range(far, 0, -_SLIDE_PX):
            x, y = np.round(middle + way * distance - [w / 2, h / 2]).astype(int)
            if self.overlap(mask, x, y) > most:
                break
            last = (int(x), int(y))
        return last

    def _shows(self, cut: Cut, x: int, y: int) -> bool:
        """Return whether a good part of a cell at a place lies in the field."""
        h, w = cut.alpha.shape
        across = min(x + w, self.width) - max(x, 0)
        down = min(y + h, self.height) - max(y, 0)
        return bool(across > 0.3 * w and down > 0.3 * h)


def box_in_field(placed: Placed, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The box (4,) of a cell's mask, as far as the field holds it."""
    rows, columns = np.where(placed.cut.mask)
    low = np.array([columns.min() + placed.x, rows.min() + placed.y])
    high = np.array([columns.max() + 1 + placed.x, rows.max() + 1 + placed.y])
    limits = np.array([shape[1], shape[0]])
    return np.concatenate([np.clip(low, 0, limits), np.clip(high, 0, limits)]).astype(np.float32)
