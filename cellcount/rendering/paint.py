"""Draws single cells of a rendered smear as absorbance, each in a small patch of its own.

Shapes: H, W size of the canvas, n side of a patch, T angles of an outline.
Red cells go to two grey canvases (sum and maximum, so that overlaps can saturate), all else to a
colour canvas of absorbances ``(3, H, W)``: planes first, which numpy multiplies far faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.core.blood import PLATELET, RBC, WBC
from cellcount.rendering.layout import N_ANGLES, RenderedCell
from cellcount.rendering.spec import FieldSpec, Rgb

Floats = NDArray[np.float32]
_EOSIN = np.array([0.04, 0.32, 0.26], np.float32)[:, None, None]
_GREY = np.ones((3, 1, 1), np.float32)
_BANK_PX = 512
_STEPS = 256  # Resolution of a radial profile between centre and edge.
_BEYOND = 1.3  # Patches and profiles reach this share of the outline's radius.


@cache
def texture_bank() -> Floats:
    """Periodic noise of four grain sizes, float32 ``(4, 512, 512)``, unit variance."""
    rng = np.random.default_rng(20240229)
    layers = []
    for sigma in (0.0, 1.4, 3.2, 8.0):
        noise = rng.normal(size=(_BANK_PX, _BANK_PX))
        noise = ndimage.gaussian_filter(noise, sigma, mode="wrap") if sigma else noise
        layers.append((noise - noise.mean()) / noise.std())
    return np.asarray(layers, np.float32)


@cache
def _polar(half: int) -> tuple[Floats, NDArray[np.intp]]:
    """Distance to the centre and index of the angle for a patch of side ``2 * half``."""
    axis = np.arange(-half, half) + 0.5
    x, y = np.meshgrid(axis, axis)
    turn = np.arctan2(y, x) / (2 * np.pi) * N_ANGLES
    return np.hypot(x, y).astype(np.float32), np.round(turn).astype(np.intp) % N_ANGLES


def _polar_patch(half: int) -> tuple[Floats, NDArray[np.intp]]:
    full = 64
    while full < half:
        full *= 2
    distance, angle = _polar(full)
    inner = slice(full - half, full + half)
    return distance[inner, inner], angle[inner, inner]


def _smooth(values: NDArray[np.floating]) -> Floats:
    """Smoothstep from 0 (at 0 and below) to 1 (at 1 and above), float32."""
    t = np.clip(values, 0, 1).astype(np.float32, copy=False)
    return np.asarray(t * t * (3 - 2 * t))


def absorbance(color: Rgb, background: Rgb) -> Floats:
    """Absorbance per channel that turns the background into the colour, float32 ``(3, 1, 1)``."""
    share = np.clip(np.array(color) / np.maximum(background, 1), 0.03, 1.0)
    return np.asarray(-np.log(share), np.float32)[:, None, None]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Absorbances of one window.

    Attributes:
        x, y: upper left corner on the plane.
        red_sum, red_max: float32 ``(H, W)`` red-cell absorbance, added and strongest.
        cover: float32 ``(H, W)`` how far white cells and platelets hide what lies below.
        color: float32 ``(3, H, W)`` absorbance of everything else.
    """

    x: int
    y: int
    red_sum: Floats
    red_max: Floats
    cover: Floats
    color: Floats

    @classmethod
    def blank(cls, x: int, y: int, width: int, height: int) -> Canvas:
        """Make an empty canvas."""
        flat = (height, width)
        return cls(
            x,
            y,
            np.zeros(flat, np.float32),
            np.zeros(flat, np.float32),
            np.zeros(flat, np.float32),
            np.zeros((3, *flat), np.float32),
        )

    def place(
        self, cell: RenderedCell, half: int
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the slices of a patch of side ``2 * half``: on the canvas, in the patch."""
        height, width = self.red_sum.shape
        left, top = cell.x - half - self.x, cell.y - half - self.y
        x0, x1 = max(left, 0), max(min(left + 2 * half, width), 0)
        y0, y1 = max(top, 0), max(min(top + 2 * half, height), 0)
        x0, y0 = min(x0, x1), min(y0, y1)
        return (
            (slice(y0, y1), slice(x0, x1)),
            (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
        )


class Brush:
    """Draws the cells of one spec; holds its colours as absorbances."""

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec
        stain = spec.stain
        self.nucleus = absorbance(stain.nucleus, stain.background)
        self.cytoplasm = absorbance(stain.cytoplasm, stain.background)
        self.red = absorbance(stain.red_cell, stain.background)
        # Eosin-loving granules: the red cell's hue, more saturated.
        self.eosin = self.red * 0.8 + _EOSIN
        self.step = 100.0 / spec.rbc_diameter_px

    def draw(self, canvas: Canvas, cell: RenderedCell) -> None:
        """Add one cell or distractor to the canvas."""
        rng = np.random.default_rng(cell.seed)
        half = int(np.ceil(cell.reach * _BEYOND)) + 1
        target, patch = canvas.place(cell, half)
        if target[0].start == target[0].stop or target[1].start == target[1].stop:
            return
        distance, angle = _polar_patch(half)
        radial = distance * np.reciprocal(cell.outline)[angle]  # (n, n), 1 at the outline
        if cell.label == RBC:
            body = self._red_cell(rng, cell, radial)[patch]
            if rng.random() < 0.02:  # A young, bluish (polychromatic) red cell.
                canvas.color[:, *target] += np.clip(body, 0, 1) * (0.5 * self.cytoplasm)
            canvas.red_sum[target] += body
            np.maximum(canvas.red_max[target], body, out=canvas.red_max[target])
            return
        soft = 1.6 + (rng.gamma(1.0, 0.03) * cell.radius if cell.label == WBC else 0.0)
        edge = _smooth((1 - radial) * cell.radius / soft + 0.5)
        if cell.label == WBC:
            color, cover = self._white_cell(rng, cell, edge)
        elif cell.label == PLATELET:
            color, cover = self._platelet(rng, edge, radial)
        else:
            color, cover = self._debris(rng, cell, radial), np.float32(0) * edge
        canvas.color[:, *target] += color[:, *patch]
        np.maximum(canvas.cover[target], cover[patch], out=canvas.cover[target])

    def _grain(self, rng: np.random.Generator, layer: int, side: int) -> Floats:
        """A patch of texture at the spec's scale, float32 ``(n, n)``."""
        steps = np.arange(side) * self.step
        rows = (steps + rng.integers(_BANK_PX)).astype(np.intp) % _BANK_PX
        columns = (steps + rng.integers(_BANK_PX)).astype(np.intp) % _BANK_PX
        return np.asarray(texture_bank()[layer][rows[:, None], columns[None, :]])

    def _red_cell(self, rng: np.random.Generator, cell: RenderedCell, radial: Floats) -> Floats:
        look = self.spec.red_cells
        rho = np.arange(int(_STEPS * (_BEYOND + 0.2))) / _STEPS
        pallor = np.clip(look.pallor * rng.normal(1, 0.3), 0, 1) * (rng.random() > 0.06)
        size = look.pallor_size * rng.normal(1, 0.15)
        sharp = rng.uniform(2.0, 4.5)
        profile = 1 - pallor * np.exp(-((rho / max(size, 0.1)) ** sharp))
        if rng.random() < 0.03:  # Target cell.
            profile += 0.6 * pallor * np.exp(-((rho / (0.45 * size)) ** 2))
        profile = look.body * profile + look.rim * np.exp(-(((rho - 0.93) / 0.07) ** 2))
        soft = 1.6 / cell.radius
        profile *= _smooth((1 - rho) / soft + 0.5)
        profile -= look.halo * np.exp(-(((rho - 1.05 - soft / 2) / 0.05) ** 2))
        profile[rho >= _BEYOND - 0.02] = 0
        profile *= rng.normal(1, 0.07)
        # The pallor lies a little off centre: shift the inner part, keep the edge.
        n = radial.shape[0]
        axis = (np.arange(n, dtype=np.float32) - n / 2) / cell.radius
        lean = rng.normal(0, 0.1, 2)
        inner = np.clip(1 - radial, 0, 1)
        shifted = radial + inner * (axis * lean[0] + axis[:, None] * lean[1]).astype(np.float32)
        index = np.minimum(np.abs(shifted) * _STEPS, len(profile) - 1).astype(np.intp)
        return np.asarray(profile.astype(np.float32)[index])

    def _white_cell(
        self, rng: np.random.Generator, cell: RenderedCell, edge: Floats
    ) -> tuple[Floats, Floats]:
        """Absorbance ``(3, n, n)`` and cover ``(n, n)`` of a nucleated cell."""
        n = len(edge)
        fine, coarse, slow = (self._grain(rng, layer, n) for layer in (1, 2, 3))
        axis = ((np.arange(n) + 0.5 - n / 2) / cell.radius).astype(np.float32)
        distance = _nucleus(rng, cell.kind, axis) + (0.02 * coarse + 0.03 * slow)
        inside = _smooth(-distance * cell.radius / 2.0 + 0.5) * edge
        rim = np.exp(-((distance / 0.06) ** 2)).astype(np.float32)
        depth = 0.9 + 0.10 * coarse + 0.07 * fine + 0.08 * slow + 0.12 * rim
        nucleus = np.clip(depth * rng.normal(1, 0.08), 0.3, 1.6) * self.nucleus
        plasma = self._plasma(rng, cell.kind, (fine, coarse, slow))
        body = nucleus * inside + plasma * (edge * (1 - inside))
        if cell.kind == "basophil":
            grains = _smooth((0.7 * coarse + fine + 0.2) * 0.6) * edge
            body = body * 0.75 + (rng.uniform(0.5, 0.8) * grains) * self.nucleus
        if cell.kind == "monocyte" and rng.random() < 0.5:
            holes = _smooth((slow + 0.5 * coarse - 1.75) * 4) * edge
            body *= 1 - 0.8 * holes
        return body.astype(np.float32), (0.85 * edge).astype(np.float32)

    def _plasma(
        self, rng: np.random.Generator, kind: str, grains: tuple[Floats, Floats, Floats]
    ) -> Floats:
        """Cytoplasm absorbance ``(3, n, n)`` before it is cut to the cell's outline."""
        fine, coarse, slow = grains
        base = np.clip(0.9 + 0.12 * slow + 0.10 * fine, 0.1, 2) * self.cytoplasm
        base = base * rng.uniform(0.6, 1.2)
        if kind == "neutrophil":
            dots = _smooth((fine - 0.9) * 1.5)
            return np.asarray(base * 0.8 + dots * (0.25 * self.eosin + 0.08 * self.nucleus))
        if kind == "eosinophil":
            dots = _smooth((fine + 0.4 * coarse + 1.2) * 0.4)
            return np.asarray(base * 0.45 + (0.3 + 0.55 * dots) * self.eosin)
        if kind == "lymphocyte":
            return np.asarray(base * rng.uniform(1.0, 2.2) + 0.08 * self.nucleus)
        if kind == "erythroblast":
            return np.asarray(base * 0.8 + rng.uniform(0.3, 0.8) * self.red)
        if kind == "monocyte":
            return np.asarray(base * 1.2 + 0.06 * np.clip(coarse, 0, 2) * self.nucleus)
        return base

    def _platelet(
        self, rng: np.random.Generator, edge: Floats, radial: Floats
    ) -> tuple[Floats, Floats]:
        n = len(edge)
        fine, coarse = self._grain(rng, 1, n), self._grain(rng, 2, n)
        core = _smooth((1.0 - radial) * 2.2) * _smooth((coarse + 0.5 * fine + 1.1) * 0.7)
        strength = rng.uniform(0.35, 0.9)
        color = (edge * 0.5) * self.cytoplasm
        color = color + (strength * (0.18 * edge + 0.9 * core * edge)) * self.nucleus
        return color.astype(np.float32), (0.45 * edge).astype(np.float32)

    def _debris(self, rng: np.random.Generator, cell: RenderedCell, radial: Floats) -> Floats:
        """Absorbance ``(3, n, n)`` of things that are no cells."""
        dark = rng.uniform(0.3, 1.2)
        edge = _smooth((1 - radial) * cell.radius / 1.6 + 0.5)
        if cell.kind == "speck":
            color = rng.uniform(0.3, 1) * self.nucleus + rng.uniform(0, 0.5)
            return np.asarray(dark * edge * color, np.float32)
        if cell.kind == "precipitate":
            dots = _smooth((self._grain(rng, 1, len(edge)) - 1.1) * 2)
            return np.asarray((dark * dots * _smooth(1.2 - radial)) * self.nucleus)
        if cell.kind == "ghost":
            ring = 0.12 * edge + 0.1 * np.exp(-(((radial - 0.95) / 0.08) ** 2))
            return np.asarray(ring * self.red, np.float32)
        if cell.kind == "bubble":
            ring = 0.7 * np.exp(-(((radial - 0.95) / 0.12) ** 2)) - 0.15 * edge
            return np.asarray((dark * ring * (radial < 1.28)) * _GREY, np.float32)
        soft = _smooth((1.15 - radial) * 1.0)
        return np.asarray(rng.uniform(-0.08, 0.14) * soft * (self.cytoplasm + 0.4), np.float32)


def _nucleus(rng: np.random.Generator, kind: str, axis: Floats) -> Floats:
    """Signed distance ``(n, n)`` to the nucleus in cell radii, negative inside."""
    discs, bridge = _lobes(rng, kind)
    x, y = axis[None, :], axis[:, None]
    distance = np.full((len(axis), len(axis)), 9, np.float32)
    for cx, cy, radius in discs:
        distance = _smooth_min(distance, np.hypot(x - cx, y - cy) - radius, 0.05)
    for (ax, ay, _), (bx, by, _) in pairwise(discs):
        dx, dy = bx - ax, by - ay
        along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)
        along = np.clip(along, 0, 1)
        strand = np.hypot(x - ax - along * dx, y - ay - along * dy) - bridge
        distance = _smooth_min(distance, strand, 0.05)
    return distance.astype(np.float32)


def _smooth_min(
    one: NDArray[np.floating], two: NDArray[np.floating], width: float
) -> NDArray[np.floating]:
    mix = np.clip(0.5 + 0.5 * (two - one) / width, 0, 1)
    return np.asarray(two * (1 - mix) + one * mix - width * mix * (1 - mix))


def _lobes(rng: np.random.Generator, kind: str) -> tuple[list[tuple[float, float, float]], float]:
    """Discs (x, y, radius) in cell radii along the nucleus, and the bridge's half width."""
    turn = rng.uniform(0, 2 * np.pi)
    if kind in _ROUND:
        radius = rng.uniform(*_ROUND[kind])
        off = (0.95 - radius) * rng.uniform(0, 0.7)
        x, y = off * np.cos(turn), off * np.sin(turn)
        dent = 0.0 if kind == "erythroblast" else rng.uniform(0.1, 0.3)
        second = (x + dent * np.cos(turn + 2), y + dent * np.sin(turn + 2), radius * 0.85)
        return [(x, y, radius), second], radius * 0.7
    if kind == "neutrophil" and rng.random() < 0.2:
        kind = "band"
    curve = _CURVED[kind]
    count = int(rng.choice(curve.counts))
    size = rng.uniform(*curve.size) / (np.sqrt(count) if curve.wobble else 1)
    discs = []
    for angle in turn + np.linspace(0, rng.uniform(*curve.span), count):
        x = curve.ring * np.cos(angle) + rng.normal(0, curve.wobble)
        y = curve.ring * np.sin(angle) + rng.normal(0, curve.wobble)
        discs.append((float(x), float(y), float(size * rng.normal(1, 0.05 + curve.wobble))))
    return discs, curve.bridge


@dataclass(frozen=True, slots=True)
class _Curve:
    """A nucleus bent along an arc: number of discs, their size, the arc's angle and radius."""

    counts: tuple[int, ...]
    size: tuple[float, float]
    span: tuple[float, float]
    ring: float
    bridge: float
    wobble: float = 0.0


_ROUND = {"lymphocyte": (0.72, 0.9), "erythroblast": (0.45, 0.65), "basophil": (0.55, 0.7)}
_CURVED = {
    "neutrophil": _Curve((2, 3, 3, 4, 4, 5), (0.46, 0.54), (2.4, 4.6), 0.46, 0.07, 0.07),
    "eosinophil": _Curve((2, 2, 2, 3), (0.46, 0.54), (2.0, 3.0), 0.45, 0.08, 0.07),
    "monocyte": _Curve((6,), (0.36, 0.46), (1.2, 3.2), 0.38, 0.33),
    "band": _Curve((7,), (0.2, 0.26), (2.6, 4.6), 0.48, 0.19),
}
