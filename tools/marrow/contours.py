"""Contours of single cells in stained pictures: a closed, smooth line about a centre.

A cell's pixels absorb light otherwise than glass and red cells do. Along each of many rays from the
centre such pixels speak for a longer ray, all others for a shorter one, and a fall of absorbance
for ending there; of all closed lines whose neighbouring rays differ little, dynamic programming
finds the best. Nuclei of other cells, and all that is nearer to them, are outside.

Shapes: pixels uint8 (H, W, 3) RGB; density float32 (H, W, 3); boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellcount.images.windows import otsu

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

RAYS = 96
#: Quantile of brightness that stands for the empty glass.
_GLASS = 0.96
#: Distance in density from what red cells and glass absorb, from which a pixel is of a cell.
_FOREIGN = 0.07
#: Density from which a pixel is not glass.
_STAINED = 0.045
#: What a pixel with a red cell's colour says where no red cell was found, near the nucleus and far.
_RED_LIKE, _NEAR = 0.6, 0.7
#: A piece of nucleus belongs to the middle cell if its centre, or any of it, is so near to the
#: picture's middle, in red cells.
_OWN_NUCLEUS, _OWN_REACH = 0.72, 0.15
_SMALLEST_NUCLEUS = 0.02
#: Weight of a fall of density against pixels inside, and of a bend, per red cell.
_EDGE, _BEND = 0.5, 14.0
#: Steepest change of the radius from ray to ray, as a share of a red cell.
_STEP = 0.03
_LONGEST = 1.6
_SMOOTH_RAYS = 1.2


@dataclass(frozen=True, slots=True)
class Contour:
    """A closed line about a centre.

    Attributes:
        x, y: the centre, in pixels.
        radii: length of each of the rays, which are spread evenly from the direction of x.
        sure: how clearly the line parts inside from outside, 0–1.
    """

    x: float
    y: float
    radii: Floats
    sure: float = 1.0

    @property
    def points(self) -> Floats:
        """Ends (RAYS, 2) of the rays, x and y."""
        angles = np.arange(len(self.radii)) * (2 * np.pi / len(self.radii))
        turned = np.stack([np.cos(angles), np.sin(angles)], axis=1) * self.radii[:, None]
        return np.asarray(turned + np.array([self.x, self.y]), np.float32)

    @property
    def box(self) -> Floats:
        """The box (4,) about the line."""
        return np.concatenate([self.points.min(0), self.points.max(0)])

    def alpha(self, shape: tuple[int, int], feather_px: float = 1.0) -> Floats:
        """1 inside, 0 outside and a half on the line, over a width of ``2 * feather_px``."""
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
        x, y = x - self.x, y - self.y
        turn = np.arctan2(y, x) / (2 * np.pi) % 1 * len(self.radii)
        radii = np.append(self.radii, self.radii[0])
        line = np.interp(turn.ravel(), np.arange(len(radii)), radii).reshape(shape)
        inside = (line - np.hypot(x, y)) / (2 * feather_px) + 0.5
        return np.asarray(np.clip(inside, 0, 1), np.float32)


def glass_colour(pixels: NDArray[np.uint8]) -> Floats:
    """Colour (3,) of the empty glass: the median of the brightest pixels."""
    smooth = ndimage.uniform_filter(pixels.astype(np.float32), (5, 5, 0))
    bright = smooth.min(-1)
    colour: Floats = np.median(smooth[bright >= np.quantile(bright, _GLASS)], axis=0)
    return np.maximum(colour, 1)


def optical_density(pixels: NDArray[np.uint8] | Floats, glass: Floats) -> Floats:
    """Optical density against the glass, by channel."""
    return np.asarray(-np.log10((pixels + 1.0) / (glass + 1.0)), np.float32)


def middle_contour(density: Floats, red_boxes: Floats, rbc_px: float) -> Contour | None:
    """The contour of the nucleated cell in the middle, None where no nucleus is there.

    Args:
        density: of a picture of the cell and what is around it.
        red_boxes: red cells, whose colour is not the cell's.
        rbc_px: diameter of a red cell.
    """
    density = ndimage.gaussian_filter(density, (rbc_px / 70, rbc_px / 70, 0))
    nuclei = nuclei_of(density)
    own, others = own_nucleus(nuclei, rbc_px)
    if not own.any():
        return None
    inside = _says_inside(density, red_boxes, nuclei, own, rbc_px)
    if others.any():
        nearer = ndimage.distance_transform_edt(~others) < ndimage.distance_transform_edt(~own)
        inside = np.where(nearer, -1, inside)
    inside = np.where(own, 1, inside)
    return best_contour(inside.astype(np.float32), density.mean(-1), own, rbc_px)


def _says_inside(
    density: Floats, red_boxes: Floats, nuclei: Mask, own: Mask, rbc_px: float
) -> Floats:
    """Evidence of each pixel, -1 to 1: pale cytoplasm may have the colour of red cells."""
    inside = np.tanh(foreign(density, red_boxes, nuclei) / _FOREIGN - 1)
    stained = density.mean(-1) > _STAINED
    away = ndimage.distance_transform_edt(~own) / rbc_px
    doubtful = stained & (inside < _RED_LIKE) & ~_within(red_boxes, nuclei.shape)
    guess = np.clip(_RED_LIKE * (1 - away / _NEAR), -1, _RED_LIKE)
    return np.asarray(np.where(doubtful, np.maximum(inside, guess), inside), np.float32)


def _within(boxes: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels of the ellipses that fill boxes."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        wide, high = max(x1 - x0, 1) / 2, max(y1 - y0, 1) / 2
        covered |= ((x - (x0 + x1) / 2) / wide) ** 2 + ((y - (y0 + y1) / 2) / high) ** 2 < 1.1
    return covered


def nuclei_of(density: Floats) -> Mask:
    """Pixels of nuclei: those that absorb red light as red cells and cytoplasm do not."""
    red = density[..., 0]
    return np.asarray(ndimage.binary_fill_holes(red > max(otsu(red), 0.15)), bool)


def foreign(density: Floats, red_boxes: Floats, nuclei: Mask) -> Floats:
    """Distance of each pixel's density from all that red cells of any thickness have.

    Glass is a red cell without thickness. Without red cells the distance is the density itself.
    """
    reds = [density[rows, columns][~nuclei[rows, columns]] for rows, columns in _inner(red_boxes)]
    reds = [one for one in reds if len(one)]
    if not reds:
        return np.asarray(np.linalg.norm(density, axis=-1), np.float32)
    medians = np.stack([np.median(one, axis=0) for one in reds])
    colour = np.median(medians, axis=0)
    length = max(float(np.linalg.norm(colour)), 1e-3)
    along = density @ (colour / length)
    most = 1.3 * float(np.quantile(np.linalg.norm(medians, axis=1), 0.8))
    nearest = np.clip(along, 0, most)[..., None] * (colour / length)
    return np.asarray(np.linalg.norm(density - nearest, axis=-1), np.float32)


def _inner(boxes: Floats) -> list[tuple[slice, slice]]:
    """Rows and columns of the inner halves of boxes."""
    found = []
    for x0, y0, x1, y1 in boxes:
        w, h = (x1 - x0) / 4, (y1 - y0) / 4
        rows = slice(max(int(y0 + h), 0), max(int(y1 - h), 0))
        found.append((rows, slice(max(int(x0 + w), 0), max(int(x1 - w), 0))))
    return found


def own_nucleus(nuclei: Mask, rbc_px: float) -> tuple[Mask, Mask]:
    """Pieces of nucleus of the middle cell, and those of others.

    Touching nuclei are parted where they are narrow; lobes near the middle go together again.
    """
    depth = ndimage.gaussian_filter(
        ndimage.distance_transform_edt(nuclei).astype(np.float32), rbc_px / 25
    )
    size = 2 * round(rbc_px / 8) + 1
    peaks = (depth == ndimage.maximum_filter(depth, size)) & (depth > rbc_px / 30)
    markers, count = ndimage.label(peaks)
    if not count:
        return np.zeros_like(nuclei), np.zeros_like(nuclei)
    markers[~nuclei] = -1
    top = float(depth.max())
    height = np.round((1 - depth / top) * 60000).astype(np.uint16)
    pieces = ndimage.watershed_ift(height, markers.astype(np.int32))
    pieces = np.where(nuclei & (pieces > 0), pieces, 0)
    middle = np.array(nuclei.shape) / 2
    numbers = np.arange(1, count + 1)
    centres = np.array(ndimage.center_of_mass(nuclei, pieces, numbers))
    areas = ndimage.sum_labels(nuclei, pieces, numbers)
    away = np.hypot(*(np.nan_to_num(centres, nan=1e6) - middle).T) / rbc_px
    large = areas >= _SMALLEST_NUCLEUS * rbc_px**2
    y, x = np.mgrid[: nuclei.shape[0], : nuclei.shape[1]] - middle[:, None, None]
    reach = ndimage.minimum(np.hypot(x, y), pieces, numbers) / rbc_px
    mine = large & ((away <= _OWN_NUCLEUS) | (reach <= _OWN_REACH))
    own = np.isin(pieces, numbers[mine])
    return own, np.isin(pieces, numbers[large & ~mine])


def best_contour(inside: Floats, density: Floats, core: Mask, rbc_px: float) -> Contour:
    """The best closed line about a core, which lies inside.

    Args:
        inside: -1 to 1 per pixel, above 0 for what is of the cell.
        density: whose fall outwards marks the border.
        core: pixels that are inside for certain; the line's centre is theirs.
        rbc_px: diameter of a red cell.
    """
    y, x = (float(v) + 0.5 for v in ndimage.center_of_mass(core))
    lengths = np.arange(1, int(_LONGEST * rbc_px), dtype=np.float32)
    angles = np.arange(RAYS) * (2 * np.pi / RAYS)
    rows = y - 0.5 + np.sin(angles)[:, None] * lengths
    columns = x - 0.5 + np.cos(angles)[:, None] * lengths
    at = np.stack([rows, columns])
    speaks = ndimage.map_coordinates(inside, at, order=1, mode="constant", cval=-1.0)
    dark = ndimage.map_coordinates(density, at, order=1, mode="nearest")
    cores = ndimage.map_coordinates(core.astype(np.float32), at, order=1) > 0.5
    fall = -ndimage.gaussian_filter1d(dark, rbc_px / 40, axis=1, order=1)
    sum_inside = np.cumsum(speaks, axis=1) / rbc_px
    score = 10 * sum_inside + _EDGE * 10 * np.clip(fall, -0.05, 0.05)
    past = np.cumsum(cores[:, ::-1], axis=1)[:, ::-1] > 0
    score[past] = -1e3
    radii = lengths[_closed_line(score, max(1, round(_STEP * rbc_px)), _BEND / rbc_px)]
    smooth = ndimage.gaussian_filter1d(radii, _SMOOTH_RAYS, mode="wrap")
    return Contour(x, y, smooth.astype(np.float32), _sureness(speaks, radii))


def _closed_line(score: Floats, step: int, bend: float) -> NDArray[np.intp]:
    """Index per row of ``score`` (A, R) so that the sum is largest; neighbours differ little.

    Going round twice, the first half finds where the second one starts and ends.
    """
    twice = np.concatenate([score, score])
    shifts = np.arange(-step, step + 1)
    best = twice[0].copy()
    came = np.zeros(twice.shape, np.int8)
    for row in range(1, len(twice)):
        padded = np.pad(best, step, constant_values=-1e9)
        options = np.stack(
            [padded[step + s : step + s + len(best)] - bend * abs(s) for s in shifts]
        )
        choice = options.argmax(0)
        came[row] = shifts[choice]
        best = options.max(0) + twice[row]
    line = np.zeros(len(twice), np.intp)
    line[-1] = int(best.argmax())
    for row in range(len(twice) - 1, 0, -1):
        line[row - 1] = line[row] + came[row, line[row]]
    half = len(score) // 2
    return np.roll(line[half : half + len(score)], half)


def _sureness(speaks: Floats, radii: Floats) -> float:
    """Share of the rays that end between pixels of the cell and others."""
    far = speaks.shape[1]
    at = [int(r) for r in radii]
    within = np.array([speaks[a, max(0, r - 7) : max(1, r - 1)].mean() for a, r in enumerate(at)])
    without = np.array([speaks[a, min(r + 1, far - 1) : r + 7].mean() for a, r in enumerate(at)])
    return float(((within > 0) & (without < 0)).mean())
