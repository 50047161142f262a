"""Stain normalization: the dyes of a field become those of a reference, in optical density.

The method is that of Macenko et al. 2009, "A method for normalizing histology slides for
quantitative analysis", ISBI, 1107-1110: dyes absorb in proportion to their amount, so the optical
densities of stained pixels lie in the plane of two dye vectors, which are found as the extreme
directions in that plane; each pixel's amounts of both dyes are kept and drawn with the vectors and
strengths of the reference.

NOTE: three things differ, because a smear is no section. What the plane does not explain is kept,
not thrown away. The change is bounded, and fades out towards empty glass, so that glass and its
noise stay as they are. Where too little is stained, only one colour is seen, or the light is so
uneven that haze would pass for stain, nothing is done.

Everything is measured on the whole field, so neither tiles nor batches have a part in it.

Shapes: pixels uint8 (H, W, 3) RGB; densities (N, 3); dye vectors (2, 3), the bluer dye first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.images.white_balance import glass_level

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]

#: Mean optical density from which a pixel counts as stained when dyes are measured.
DYED_DENSITY = 0.06
#: Less of a field stained tells nothing of its dyes.
LEAST_STAINED_PERCENT = 1.0
#: More of a field stained is haze, uneven light or a heap of cells: what is glass is not known.
MOST_STAINED_PERCENT = 85.0
#: Dyes nearer to each other than this are one colour.
LEAST_ANGLE_DEG = 8.0
#: No density is multiplied by more than this, nor divided by it.
LARGEST_GAIN = 2.0

_EXTREME_PERCENT, _STRONG_PERCENT = 1.0, 99.0
_FADES_FROM = 0.02  # mean density at which the change begins; it is whole at DYED_DENSITY
_DARKEST_GLASS = 60.0
_SAMPLES_PER_SIDE = 256
_PARTS, _PART_PERCENT, _LEAST_LIGHT = 3, 97.0, 0.8
_STRIP_PIXELS = 1 << 20


@dataclass(frozen=True, eq=False, slots=True)
class Dyes:
    """The two dyes of a stain.

    Attributes:
        vectors: density of each dye per channel, unit length, (2, 3); the bluer one first.
        strengths: amount of each dye in strongly stained pixels, (2,).
    """

    vectors: Values
    strengths: Values

    def __post_init__(self) -> None:
        if self.vectors.shape != (2, 3) or self.strengths.shape != (2,):
            raise ValueError(
                f"expected vectors (2, 3) and strengths (2,), got {self.vectors.shape} and "
                f"{self.strengths.shape}"
            )
        lengths = np.linalg.norm(self.vectors, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3) or not (self.strengths > 0).all():
            raise ValueError(f"vectors must have length 1 and strengths be above 0, got {self}")
        if _angle_deg(self.vectors) < LEAST_ANGLE_DEG:
            raise ValueError(f"the dyes are less than {LEAST_ANGLE_DEG:g} degrees apart")

    def as_json(self) -> dict[str, Any]:
        """Return the dyes as numbers for a file."""
        return {
            "vectors": np.round(self.vectors, 4).tolist(),
            "strengths": np.round(self.strengths, 4).tolist(),
        }


def measure_dyes(pixels: Pixels) -> Dyes | None:
    """The dyes of a field; None where the stain cannot be told: too little or too much of it, one
    colour only, or uneven light.
    """
    step_y = max(1, pixels.shape[0] // _SAMPLES_PER_SIDE)
    step_x = max(1, pixels.shape[1] // _SAMPLES_PER_SIDE)
    grid = pixels[::step_y, ::step_x]
    glass = glass_level(pixels)
    if glass.min() < _DARKEST_GLASS or not _is_evenly_lit(grid, glass):
        return None
    density = np.log10((glass + 1) / (grid.reshape(-1, 3) + 1.0)).clip(min=0)  # (N, 3)
    stained = density[density.mean(axis=1) > DYED_DENSITY]  # (S, 3)
    share = 100 * len(stained) / len(density)
    if len(stained) < 3 or not LEAST_STAINED_PERCENT <= share <= MOST_STAINED_PERCENT:
        return None
    vectors = _extreme_directions(stained)
    if vectors is None:
        return None
    amounts = stained @ np.linalg.pinv(vectors)  # (S, 2)
    strengths = np.percentile(amounts, _STRONG_PERCENT, axis=0)
    return Dyes(vectors, strengths) if (strengths > 1e-3).all() else None


def _is_evenly_lit(grid: Pixels, glass: Values) -> bool:
    """Return whether the brightest of every part of the field is about as bright as the glass.

    What is darker might be haze: densities against the glass elsewhere would tell nothing there.
    """
    for rows in np.array_split(grid, _PARTS, axis=0):
        for part in np.array_split(rows, _PARTS, axis=1):
            if part.size:
                brightest = np.percentile(part.reshape(-1, 3), _PART_PERCENT, axis=0)
                if (brightest < _LEAST_LIGHT * glass).any():
                    return False
    return True


def _extreme_directions(stained: Values) -> Values | None:
    """The outermost directions of densities in the plane that holds most of them, (2, 3)."""
    # Macenko's plane goes through the origin: no dye, no density.
    _, axes = np.linalg.eigh(stained.T @ stained / len(stained))
    plane = axes[:, [2, 1]].T  # (2, 3), the stronger axis first
    plane *= np.where(plane.sum(axis=1, keepdims=True) < 0, -1, 1)
    along = stained @ plane.T  # (S, 2)
    angles = np.arctan2(along[:, 1], along[:, 0])
    ends = np.percentile(angles, [_EXTREME_PERCENT, 100 - _EXTREME_PERCENT])
    vectors = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane  # (2, 3)
    vectors = vectors.clip(min=0)  # no dye makes light
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if _angle_deg(vectors) < LEAST_ANGLE_DEG:
        return None
    # A blue dye takes out red; eosin and haemoglobin take out blue.
    bluer_first = np.argsort(vectors[:, 2] - vectors[:, 0], kind="stable")
    return np.asarray(vectors[bluer_first])


def _angle_deg(vectors: Values) -> float:
    return float(np.degrees(np.arccos(np.clip(vectors[0] @ vectors[1], -1, 1))))


def density_change(found: Dyes, wanted: Dyes) -> Values:
    """The matrix (3, 3) that turns densities (N, 3) of one stain into those of another.

    What lies outside the plane of both dyes stays. No direction is stretched beyond
    ``LARGEST_GAIN``, nor squeezed beyond its inverse.
    """
    gains = np.clip(wanted.strengths / found.strengths, 1 / LARGEST_GAIN, LARGEST_GAIN)
    change = np.linalg.inv(_with_normal(found.vectors)) @ np.diag([*gains, 1.0])
    change = change @ _with_normal(wanted.vectors)
    left, stretched, right = np.linalg.svd(change)
    bounded = np.clip(stretched, 1 / LARGEST_GAIN, LARGEST_GAIN)
    return np.asarray(left @ np.diag(bounded) @ right)


def _with_normal(vectors: Values) -> Values:
    """Return both dyes and, as a third direction, their normal."""
    normal = np.cross(vectors[0], vectors[1])
    return np.stack([*vectors, normal / np.linalg.norm(normal)])


def with_dyes(pixels: Pixels, wanted: Dyes) -> tuple[Pixels, bool]:
    """The field as if it had been stained with other dyes, and whether that could be done.

    Where it could not, the pixels are the same array.
    """
    found = measure_dyes(pixels)
    if found is None:
        return pixels, False
    return _changed(pixels, density_change(found, wanted)), True


def _changed(pixels: Pixels, change: Values) -> Pixels:
    """Pixels with the matrix applied to their densities, in strips that bound the memory."""
    glass = glass_level(pixels).astype(np.float32)
    levels = np.arange(256, dtype=np.float32)
    density_of = np.log10((glass[:, None] + 1) / (levels + 1))  # (3, 256)
    difference = (change - np.eye(3)).astype(np.float32)
    out = np.empty_like(pixels)
    rows = max(1, _STRIP_PIXELS // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        strip = pixels[top : top + rows]
        density = np.stack([density_of[c][strip[..., c]] for c in range(3)], axis=-1)
        mean = density.mean(axis=-1, keepdims=True)
        weight = np.clip((mean - _FADES_FROM) / (DYED_DENSITY - _FADES_FROM), 0, 1)
        density += weight * (density @ difference)
        light = (glass + 1) * np.power(np.float32(10), -density) - 1
        out[top : top + rows] = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    return out
