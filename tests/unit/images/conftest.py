"""Pictures that every image test starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, Picture
from cellcount.images.read import read_image

MAX_PIXELS = 1_000_000

Read = Callable[..., Picture]


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    """A small field (37, 53, 3): odd sizes, smooth enough for JPEG, no symmetry."""
    y, x = np.mgrid[0:37, 0:53].astype(np.float64)
    channels = [200 - 2 * y, 90 + 2 * x, 120 + y + x]
    picture = np.stack(channels, axis=2)
    picture[8:18, 10:22] = (180, 60, 140)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture
def read() -> Read:
    """Reads a file (one page of it) with a limit of a million pixels."""

    def read_path(path: Path, page: int = 0, max_pixels: int = MAX_PIXELS) -> Picture:
        return read_image(ImageRef(path, path.name, "s", page=page), max_pixels=max_pixels)

    return read_path
