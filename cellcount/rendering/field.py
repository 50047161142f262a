"""Rendered blood smear fields with exact truth, of any size and without torch.

A slide is an endless plane of cells decided by one seed; a field is a window on it, and
``render_window`` gives the same pixels and cells wherever the window's borders lie. Colour works
by absorbance, so overlapping cells darken as they do under a microscope.

Shapes: H, W size of the picture, N cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.core.blood import BLOOD_CLASSES
from cellcount.rendering.layout import Plane, RenderedCell
from cellcount.rendering.paint import Brush, Canvas, texture_bank
from cellcount.rendering.spec import (
    SAMPLE_SEEDS,
    FieldSpec,
    Illumination,
    RedCells,
    Rgb,
    Stain,
    random_spec,
    random_stain,
)

__all__ = [
    "LABELS",
    "SAMPLE_SEEDS",
    "FieldSpec",
    "Illumination",
    "RedCells",
    "RenderedField",
    "Stain",
    "random_spec",
    "random_stain",
    "render_field",
    "render_window",
]

Floats = NDArray[np.float32]
LABELS = BLOOD_CLASSES
MIN_VISIBLE = 0.1
"""A cell cut by the window's edge is in the truth if at least this share of its area is inside."""


@dataclass(frozen=True, eq=False, slots=True)
class RenderedField:
    """A rendered picture and everything that is on it.

    Attributes:
        pixels: uint8 ``(H, W, 3)`` RGB.
        boxes_xyxy: float32 ``(N, 4)`` extent of the part of each cell inside the picture.
        labels: ``rbc``, ``wbc`` or ``platelet`` per cell.
        kinds: type of each white cell (``neutrophil`` ...), "" for others.
        spec: what it was rendered from.
    """

    pixels: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    spec: FieldSpec

    def __len__(self) -> int:
        return len(self.labels)


def render_field(spec: FieldSpec) -> RenderedField:
    """Render the whole field of a spec."""
    return render_window(spec, 0, 0, spec.width_px, spec.height_px)


def render_window(spec: FieldSpec, x: int, y: int, width: int, height: int) -> RenderedField:
    """Render the window with upper left corner (x, y) of the spec's slide, all in pixels.

    Boxes are in pixels of the window.
    """
    plane = Plane(spec)
    margin = int(np.ceil(4 * spec.focus_sigma_px)) + 1
    canvas = Canvas.blank(x - margin, y - margin, width + 2 * margin, height + 2 * margin)
    cells = plane.cells_in(canvas.x, canvas.y, width + 2 * margin, height + 2 * margin)
    brush = Brush(spec)
    for cell in cells:
        brush.draw(canvas, cell)
    light = _develop(spec, canvas, brush)[:, margin : margin + height, margin : margin + width]
    boxes, labels, kinds = window_truth(cells, x, y, width, height)
    return RenderedField(_expose(spec, light, x, y), boxes, labels, kinds, spec)


def _develop(spec: FieldSpec, canvas: Canvas, brush: Brush) -> Floats:
    """Absorbances to focused light, float32 ``(3, H, W)`` in 0–255."""
    extra = canvas.red_sum - canvas.red_max
    red = canvas.red_max + spec.red_cells.translucency * extra
    red *= 1 - canvas.cover
    light = canvas.color
    light += red * brush.red
    np.negative(light, out=light)
    np.exp(light, out=light)
    light *= _planes(spec.stain.background)
    if spec.focus_sigma_px > 0.2:
        for plane in light:
            ndimage.gaussian_filter(plane, spec.focus_sigma_px, output=plane)
    return light


def _expose(spec: FieldSpec, light: Floats, x: int, y: int) -> NDArray[np.uint8]:
    """Illumination, camera curve and noise: uint8 ``(H, W, 3)``."""
    lamp = spec.illumination
    _, height, width = light.shape
    u = ((np.arange(x, x + width) + 0.5) / spec.width_px).astype(np.float32)
    v = ((np.arange(y, y + height) + 0.5) / spec.height_px).astype(np.float32)[:, None]
    cx, cy = lamp.center
    farthest = max(cx, 1 - cx) ** 2 + max(cy, 1 - cy) ** 2
    falloff = ((u - cx) ** 2 + (v - cy) ** 2) / farthest
    a, b, c = np.random.default_rng((spec.seed, 78)).uniform(0, 6.28, 3).tolist()
    slow = 1 + lamp.unevenness * (np.sin(5 * u + a) * np.sin(4 * v + b) + 0.5 * np.sin(9 * u + c))
    shade = slow * (1 - falloff * _planes(lamp.vignette))  # (3, H, W)
    light = light * shade * (_planes(lamp.cast) * np.float32(lamp.gain / 255))
    if lamp.gamma != 1:
        np.clip(light, 0, 1, out=light)
        np.power(light, np.float32(lamp.gamma), out=light)
    light *= np.float32(255)
    _add_noise(spec, light, x, y)
    light += np.float32(0.5)
    np.clip(light, 0, 255, out=light)
    return np.ascontiguousarray(light.astype(np.uint8).transpose(1, 2, 0))


def _planes(values: Rgb) -> Floats:
    return np.asarray(values, np.float32)[:, None, None]


@cache
def _noise_tile() -> Floats:
    """Periodic camera noise ``(3, 512, 512)``: part per channel, part common, fine and soft."""
    fine, soft = texture_bank()[:2]
    channels = [np.roll(fine, (101 * c, 57 * c), (0, 1)) for c in range(3)]
    return np.asarray(0.8 * np.stack(channels) + 0.6 * soft, np.float32)


def _add_noise(spec: FieldSpec, light: Floats, x: int, y: int) -> None:
    """Add noise that is tied to the plane, so that it is the same in every window."""
    tile, amount = _noise_tile(), np.float32(spec.noise)
    side = tile.shape[1]
    down, right = np.random.default_rng((spec.seed, 79)).integers(0, side, 2).tolist()
    _, height, width = light.shape
    for top in range(-((y + down) % side), height, side):
        for left in range(-((x + right) % side), width, side):
            part = light[:, max(top, 0) : top + side, max(left, 0) : left + side]
            y0, x0 = max(-top, 0), max(-left, 0)
            part += amount * tile[:, y0 : y0 + part.shape[1], x0 : x0 + part.shape[2]]


def window_truth(
    cells: list[RenderedCell], x: int, y: int, width: int, height: int
) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]]:
    """Boxes ``(N, 4)`` in window pixels, labels and kinds of the cells inside the window."""
    boxes, labels, kinds = [], [], []
    for cell in cells:
        if not cell.label:
            continue
        polygon = cell.polygon() - (x, y)
        visible = _clip(polygon, width, height)
        if len(visible) < 3 or _area(visible) < MIN_VISIBLE * _area(polygon):
            continue
        visible = visible.clip(0, (width, height))  # Crossings are off by a rounding error.
        boxes.append([*visible.min(0), *visible.max(0)])
        labels.append(cell.label)
        kinds.append(cell.kind)
    return np.array(boxes, np.float32).reshape(-1, 4), tuple(labels), tuple(kinds)


def _clip(polygon: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Part of a polygon inside the window (Sutherland–Hodgman), float64 ``(M, 2)``."""
    for axis, sign, limit in ((0, 1, 0), (0, -1, -width), (1, 1, 0), (1, -1, -height)):
        depth = sign * polygon[:, axis] - limit
        if (depth >= 0).all():
            continue
        if (depth < 0).all():
            return np.zeros((0, 2))
        following, ahead = np.roll(polygon, -1, 0), np.roll(depth, -1)
        crossing = (depth < 0) != (ahead < 0)
        share = np.where(crossing, depth / np.where(crossing, depth - ahead, 1), 0)
        cut = polygon + share[:, None] * (following - polygon)
        pairs = np.stack([polygon, cut], 1)
        keep = np.stack([depth >= 0, crossing], 1)
        polygon = pairs[keep]
    return polygon


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)
