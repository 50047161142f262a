"""An oracle that sees discs through tiles, with the small errors a detector makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.core.tiles import Tile


@dataclass(frozen=True)
class Field:
    """Discs on a field: boxes cut to the field, and classes."""

    width_px: int
    height_px: int
    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]

    def moved(self, dx: int, dy: int, *, right: int, lower: int) -> Field:
        """Field of equal discs with more background on each side."""
        return Field(
            self.width_px + dx + right,
            self.height_px + dy + lower,
            self.boxes_xyxy + np.array([dx, dy, dx, dy]),
            self.labels,
        )


class Oracle:
    """Makes fields and sees them tile by tile."""

    def discs(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        *,
        wanted: NDArray[np.float64],
        diameters: tuple[float, float],
        closeness: float,
    ) -> Field:
        """Discs at the wanted centres, each at least closeness x (sum of radii) from the others."""
        placed: list[tuple[float, float, float]] = []
        for x, y in wanted.tolist():
            radius = rng.uniform(*diameters) / 2
            if not (radius <= x <= width - radius and radius <= y <= height - radius):
                continue
            if all(np.hypot(x - u, y - v) >= closeness * (radius + r) for u, v, r in placed):
                placed.append((x, y, radius))
        x_px, y_px, r_px = np.array(placed, np.float64).reshape(-1, 3).T
        corners = np.stack([x_px - r_px, y_px - r_px, x_px + r_px, y_px + r_px], axis=1)
        return Field(width, height, corners, rng.integers(0, 3, len(placed)))

    def see(
        self,
        rng: np.random.Generator,
        field: Field,
        tile: Tile,
        *,
        least_share: float,
        jitter_px: float,
        confused: float = 0.0,
    ) -> Detections:
        """Discs with least_share of their box in the tile; a share of classes is confused."""
        start = np.array([tile.x, tile.y], np.float64)
        size = np.array([tile.width, tile.height], np.float64)
        whole = field.boxes_xyxy - np.tile(start, 2)
        visible = np.clip(whole, 0, np.tile(size, 2))
        share = np.prod(visible[:, 2:] - visible[:, :2], 1) / np.prod(
            whole[:, 2:] - whole[:, :2], 1
        )
        seen = np.flatnonzero(share >= least_share)
        noisy = visible[seen] + rng.uniform(-jitter_px, jitter_px, (len(seen), 4))
        flips = np.where(rng.random(len(seen)) < confused, rng.integers(1, 3, len(seen)), 0)
        shuffled = rng.permutation(len(seen))
        return Detections(
            np.clip(noisy, 0, np.tile(size, 2)).astype(np.float32),
            rng.uniform(0.3, 1, len(seen)).astype(np.float32),
            (field.labels[seen] + flips) % 3,
        )[shuffled]


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()
