"""A whole slide of 20,000 px as a pyramid, written in no time: each level has a colour."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

SIDE_PX = 20_000
#: Factor of each level → its colour.
LEVELS = {4: (40, 160, 60), 16: (60, 80, 200), 64: (200, 180, 40)}
_TILE_PX = 512


def write_pyramid(path: Path, *, as_subifds: bool = True) -> Path:
    """Write it, its levels below the first page or after it."""
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        below = len(LEVELS) if as_subifds else 0
        _write(writer, 1, (200, 60, 80), subifds=below)
        for factor, colour in LEVELS.items():
            _write(writer, factor, colour)
    return path


def _write(
    writer: tifffile.TiffWriter, factor: int, colour: tuple[int, int, int], subifds: int = 0
) -> None:
    side = -(-SIDE_PX // factor)
    writer.write(
        _tiles(side, colour, noisy=factor == 1),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(_TILE_PX, _TILE_PX),
        compression="zlib",
        predictor=False,
        photometric="rgb",
        metadata=None,
        subifds=subifds,
        subfiletype=0 if factor == 1 else 1,
    )


def _tiles(side: int, colour: tuple[int, int, int], *, noisy: bool) -> Iterator[bytes]:
    """One compressed tile over and over; not so small that it would be taken for a bomb."""
    pixels = np.full((_TILE_PX, _TILE_PX, 3), colour, np.uint8)
    if noisy:
        rng = np.random.default_rng(0)
        pixels[::32] = rng.integers(0, 255, pixels[::32].shape).astype(np.uint8)
    tile = zlib.compress(pixels.tobytes(), 1)
    for _ in range((-(-side // _TILE_PX)) ** 2):
        yield tile
