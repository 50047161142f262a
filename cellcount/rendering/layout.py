"""Layout of a rendered smear: an endless plane of cells, filled block by block from one seed.

A window sees the same cells whatever its size, because a block depends only on the seed and on
blocks close by: blocks are coloured like a 2x2 chessboard and filled colour by colour, each one
minding the neighbours of earlier colours (random sequential adsorption in four passes).

Shapes: N cells, T angles of an outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.core.blood import PLATELET, RBC, WBC
from cellcount.rendering.spec import FieldSpec

N_ANGLES = 256
ANGLES = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
_COS, _SIN = np.cos(ANGLES), np.sin(ANGLES)
_HARMONICS = np.arange(2, 9)

# Kind: share among nucleated cells, smallest and largest diameter in red-cell diameters.
WHITE_KINDS: dict[str, tuple[float, float, float]] = {
    "neutrophil": (0.44, 1.45, 2.0),
    "lymphocyte": (0.26, 1.15, 1.75),
    "monocyte": (0.12, 1.75, 2.5),
    "eosinophil": (0.10, 1.55, 2.1),
    "basophil": (0.05, 1.4, 1.9),
    "erythroblast": (0.03, 1.1, 1.45),
}
DEBRIS_KINDS = {"speck": 0.5, "precipitate": 0.15, "blob": 0.15, "ghost": 0.1, "bubble": 0.1}
_BLOCK_DIAMETERS = 2.2  # More than any two cells that mind each other can be apart.
_MARGIN_DIAMETERS = {"debris": 0.9, RBC: 1.3, WBC: 1.9, PLATELET: 0.5}
_REACH = 1.6  # Farthest anything of a cell is drawn, in its radii.
_OFFSET = 1 << 31  # SeedSequence takes no negative numbers.


@dataclass(frozen=True, slots=True)
class Shape:
    """Outline of a cell: amplitude of low harmonics, ratio of the axes, height of spikes."""

    irregularity: float
    elongation: float
    crenation: float = 0.0


class RenderedCell:
    """One object on the plane: a cell, or a distractor where ``label`` is empty.

    Attributes:
        x, y: centre in pixels of the plane (whole numbers: pixel corners).
        radius: radius of the circle of about the same area.
        shape: how its outline departs from that circle.
        seed: decides its outline and everything inside.
    """

    __slots__ = ("_outline", "kind", "label", "radius", "seed", "shape", "x", "y")

    def __init__(
        self, xy: tuple[float, float], radius: float, shape: Shape, label: str, kind: str, seed: int
    ) -> None:
        # Floor, not round: the centre must stay in the block that owns it.
        self.x, self.y = int(xy[0] // 1), int(xy[1] // 1)
        self.radius, self.shape = radius, shape
        self.label, self.kind, self.seed = label, kind, seed
        self._outline: NDArray[np.float32] | None = None

    @property
    def outline(self) -> NDArray[np.float32]:
        """Distance from the centre to the edge per angle, float32 ``(T,)``."""
        if self._outline is None:  # Most cells are only placed to find their neighbours' places.
            rng = np.random.default_rng((self.seed, 1))
            self._outline = _draw_outline(rng, self.radius, self.shape)
        return self._outline

    @property
    def reach(self) -> float:
        """Distance from the centre to the farthest point of the outline."""
        return float(self.outline.max())

    def polygon(self) -> NDArray[np.float64]:
        """Outline as float64 ``(T, 2)`` xy on the plane."""
        return np.stack([self.x + self.outline * _COS, self.y + self.outline * _SIN], 1)


def _draw_outline(rng: np.random.Generator, radius: float, shape: Shape) -> NDArray[np.float32]:
    """A harmonic-perturbed ellipse of the area of a circle of that radius, float32 ``(T,)``."""
    stretch = np.sqrt(shape.elongation)
    turned = ANGLES - rng.uniform(0, np.pi)
    ellipse = 1 / np.hypot(np.cos(turned) / stretch, np.sin(turned) * stretch)
    amplitude = rng.normal(0, shape.irregularity, len(_HARMONICS)) * (2 / _HARMONICS) ** 1.6
    phase = rng.uniform(0, 2 * np.pi, len(_HARMONICS))
    outline = ellipse * (1 + amplitude @ np.cos(_HARMONICS[:, None] * ANGLES + phase[:, None]))
    if shape.crenation:
        spikes = rng.integers(9, 16)
        wave = np.cos(spikes * ANGLES + rng.uniform(0, 6.28) + 0.8 * np.sin(2 * ANGLES))
        outline *= 1 + shape.crenation * wave
    outline *= radius / np.sqrt(np.mean(outline**2))
    return np.asarray(outline, np.float32)


class Plane:
    """The endless smear of one spec; remembers the blocks it has filled."""

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec
        self.block_px = round(_BLOCK_DIAMETERS * spec.rbc_diameter_px)
        self._blocks: dict[tuple[str, int, int], list[RenderedCell]] = {}
        phase = np.random.default_rng((spec.seed, 77)).uniform(0, 2 * np.pi, 4)
        self._thickness_phase = phase

    def cells_in(self, x: int, y: int, width: int, height: int) -> list[RenderedCell]:
        """Everything whose outline may touch the window, in drawing order."""
        return [
            cell
            for layer in ("debris", RBC, WBC, PLATELET)
            for by, bx in self._blocks_under(layer, x, y, width, height)
            for cell in self._block(layer, by, bx)
            if x - cell.radius * _REACH < cell.x < x + width + cell.radius * _REACH
            and y - cell.radius * _REACH < cell.y < y + height + cell.radius * _REACH
        ]

    def _blocks_under(
        self, layer: str, x: int, y: int, width: int, height: int
    ) -> list[tuple[int, int]]:
        """Blocks (row, column) whose cells of that layer may touch the window."""
        margin = int(_MARGIN_DIAMETERS[layer] * self.spec.rbc_diameter_px) + 1
        size = self.block_px
        return [
            (by, bx)
            for by in range((y - margin) // size, (y + height + margin) // size + 1)
            for bx in range((x - margin) // size, (x + width + margin) // size + 1)
        ]

    def _block(self, layer: str, by: int, bx: int) -> list[RenderedCell]:
        key = (layer, by, bx)
        if key not in self._blocks:
            number = ("debris", WBC, RBC, PLATELET).index(layer)
            rng = np.random.default_rng((self.spec.seed, number, by + _OFFSET, bx + _OFFSET))
            fill = {
                "debris": self._fill_debris,
                WBC: self._fill_white,
                RBC: self._fill_red,
                PLATELET: self._fill_platelets,
            }[layer]
            self._blocks[key] = fill(rng, by, bx)
        return self._blocks[key]

    def _around(self, layer: str, by: int, bx: int, *, earlier_only: bool) -> list[RenderedCell]:
        """Cells of the 3x3 blocks around, or only of those filled before this one."""
        own = (by & 1) * 2 + (bx & 1)
        return [
            cell
            for y in (by - 1, by, by + 1)
            for x in (bx - 1, bx, bx + 1)
            if not earlier_only or (y & 1) * 2 + (x & 1) < own
            for cell in self._block(layer, y, x)
        ]

    def _expected(self, whole_field: float) -> float:
        area = self.spec.width_px * self.spec.height_px
        return whole_field * self.block_px**2 / area

    def _thickness(self, by: int, bx: int) -> float:
        """Slow change of the smear's thickness, mean 1."""
        a, b, c, d = self._thickness_phase
        wave = np.sin(0.9 * bx + 0.35 * by + a) * np.sin(0.8 * by + b)
        return float(1 + 0.3 * wave + 0.15 * np.sin(0.31 * bx + c) * np.sin(0.27 * by + d))

    def _spot(self, rng: np.random.Generator, by: int, bx: int) -> tuple[float, float]:
        return (bx + rng.random()) * self.block_px, (by + rng.random()) * self.block_px

    def _owns(self, x: float, y: float, by: int, bx: int) -> bool:
        return int(y // self.block_px) == by and int(x // self.block_px) == bx

    def _fill_debris(self, rng: np.random.Generator, by: int, bx: int) -> list[RenderedCell]:
        diameter = self.spec.rbc_diameter_px
        mean = self.spec.debris / 100 * self.block_px**2 / (0.785 * diameter**2)
        found = []
        for _ in range(rng.poisson(mean)):
            x, y = self._spot(rng, by, bx)
            kind = str(rng.choice(list(DEBRIS_KINDS), p=list(DEBRIS_KINDS.values())))
            low, high = {
                "speck": (0.01, 0.045),
                "precipitate": (0.08, 0.3),
                "blob": (0.2, 1.1),
                "ghost": (0.4, 0.55),
                "bubble": (0.04, 0.2),
            }[kind]
            radius = max(0.7, rng.uniform(low, high) * diameter)
            shape = Shape(0.08, rng.uniform(1, 1.3))
            found.append(RenderedCell((x, y), radius, shape, "", kind, _seed(rng)))
        return found

    def _fill_white(self, rng: np.random.Generator, by: int, bx: int) -> list[RenderedCell]:
        found: list[RenderedCell] = []
        count = rng.poisson(self._expected(self.spec.n_wbc))
        taken = _Taken(self._around(WBC, by, bx, earlier_only=True) if count else [])
        for _ in range(count):
            kind = str(
                rng.choice(list(WHITE_KINDS), p=[share for share, _, _ in WHITE_KINDS.values()])
            )
            _, low, high = WHITE_KINDS[kind]
            radius = rng.uniform(low, high) * self.spec.rbc_diameter_px / 2
            shape = Shape(rng.uniform(0.01, 0.04), 1 + 0.25 * rng.beta(1, 2))
            for _attempt in range(8):
                x, y = self._spot(rng, by, bx)
                if taken.allows(x, y, radius, 0.95):
                    found.append(RenderedCell((x, y), radius, shape, WBC, kind, _seed(rng)))
                    taken.add(found[-1])
                    break
        return found

    def _fill_red(self, rng: np.random.Generator, by: int, bx: int) -> list[RenderedCell]:
        spec, look = self.spec, self.spec.red_cells
        white = _Taken(self._around(WBC, by, bx, earlier_only=False))
        taken = _Taken(self._around(RBC, by, bx, earlier_only=True))
        mean_area = 0.785 * spec.rbc_diameter_px**2
        wanted = spec.density * self._thickness(by, bx) * self.block_px**2 / mean_area
        found: list[RenderedCell] = []
        for _ in range(int(wanted + rng.random())):
            radius = spec.rbc_diameter_px / 2 * min(max(rng.normal(1, look.size_cv), 0.6), 1.5)
            for attempt in range(24):
                # Where room is short, cells lie deeper in each other.
                depth = 1.0 if attempt > 12 else rng.random() if rng.random() < 0.6 else 0.05
                share = 1 - look.overlap * depth
                x, y = self._propose(rng, (by, bx), taken, radius * share, found)
                if not self._owns(x, y, by, bx):
                    continue
                if taken.allows(x, y, radius, share - 0.01) and white.allows(x, y, radius, 0.93):
                    shape = _red_shape(rng, spec)
                    found.append(RenderedCell((x, y), radius, shape, RBC, "", _seed(rng)))
                    taken.add(found[-1])
                    break
        return found

    def _propose(
        self,
        rng: np.random.Generator,
        block: tuple[int, int],
        taken: _Taken,
        radius: float,
        found: list[RenderedCell],
    ) -> tuple[float, float]:
        """Propose a free spot, or one that touches a cell that is already there."""
        look = self.spec.red_cells
        if not len(taken) or rng.random() > look.stickiness:
            return self._spot(rng, *block)
        angle = rng.uniform(0, 2 * np.pi)
        if len(found) > 1 and rng.random() < look.rouleaux:
            last, before = found[-1], found[-2]
            angle = np.arctan2(last.y - before.y, last.x - before.x) + rng.normal(0, 0.35)
            return (
                last.x + (last.radius + radius) * np.cos(angle),
                last.y + (last.radius + radius) * np.sin(angle),
            )
        x, y, other = taken.one(rng)
        return x + (other + radius) * np.cos(angle), y + (other + radius) * np.sin(angle)

    def _fill_platelets(self, rng: np.random.Generator, by: int, bx: int) -> list[RenderedCell]:
        found: list[RenderedCell] = []
        count = rng.poisson(self._expected(self.spec.n_platelets))
        if not count:
            return found
        white = _Taken(self._around(WBC, by, bx, earlier_only=False))
        red = _Taken(self._around(RBC, by, bx, earlier_only=False))
        taken = _Taken(self._around(PLATELET, by, bx, earlier_only=True))
        for _ in range(count):
            radius = self.spec.rbc_diameter_px / 2 * rng.triangular(0.2, 0.3, 0.5)
            shape = Shape(rng.uniform(0.03, 0.1), 1 + 0.6 * rng.beta(1, 2.5))
            on_red = rng.random() < 0.12
            clumped = bool(found) and rng.random() < 0.15
            for _attempt in range(10):
                x, y = self._spot(rng, by, bx)
                if clumped:
                    angle = rng.uniform(0, 2 * np.pi)
                    x = found[-1].x + 1.1 * (radius + found[-1].radius) * np.cos(angle)
                    y = found[-1].y + 1.1 * (radius + found[-1].radius) * np.sin(angle)
                if (
                    self._owns(x, y, by, bx)
                    and taken.allows(x, y, radius, 1.05)
                    and white.allows(x, y, radius, 1.0)
                    and (on_red or red.allows(x, y, radius, 1.0))
                ):
                    found.append(RenderedCell((x, y), radius, shape, PLATELET, "", _seed(rng)))
                    taken.add(found[-1])
                    break
        return found


class _Taken:
    """Centres and radii that a new cell must respect."""

    def __init__(self, cells: list[RenderedCell]) -> None:
        self._n = len(cells)
        self._xyr = np.zeros((3, self._n + 64))
        self._xyr[:, : self._n] = np.array([(c.x, c.y, c.radius) for c in cells]).reshape(-1, 3).T

    def __len__(self) -> int:
        return self._n

    def add(self, cell: RenderedCell) -> None:
        if self._n == self._xyr.shape[1]:
            self._xyr = np.concatenate([self._xyr, np.zeros_like(self._xyr)], 1)
        self._xyr[:, self._n] = cell.x, cell.y, cell.radius
        self._n += 1

    def allows(self, x: float, y: float, radius: float, share: float) -> bool:
        """Return whether every distance is at least ``share`` of the sum of both radii."""
        xs, ys, radii = self._xyr[:, : self._n]
        needed = share * (radii + radius)
        return not bool(((xs - x) ** 2 + (ys - y) ** 2 < needed * needed).any())

    def one(self, rng: np.random.Generator) -> tuple[float, float, float]:
        x, y, radius = self._xyr[:, rng.integers(self._n)].tolist()
        return x, y, radius


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))


def _red_shape(rng: np.random.Generator, spec: FieldSpec) -> Shape:
    look = spec.red_cells
    elongation = 1 + abs(rng.normal(0, 0.07))
    if rng.random() < 0.03:  # An elliptocyte.
        elongation += rng.uniform(0.2, 0.6)
    crenated = rng.random() < look.crenation
    return Shape(look.irregularity, elongation, rng.uniform(0.015, 0.045) if crenated else 0.0)
