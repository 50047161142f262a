"""Damaged files of every format: one ``ImageError`` or one valid picture, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef, Picture
from cellcount.errors import ImageError
from cellcount.images.read import field_pages, probe_size

Read = Callable[..., Picture]
CASES = 60

PILLOW: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
]
TIFF: list[dict[str, Any]] = [
    {},
    {"compression": "lzw", "predictor": True},
    {"compression": "jpeg", "tile": (16, 16)},
    {"compression": "zlib", "tile": (16, 16), "bigtiff": True},
    {"compression": "jpeg2000"},
    {"compression": "packbits", "ome": True},
    {"compression": "zstd", "rowsperstrip": 4},
]


def seeds(rgb: NDArray[np.uint8]) -> list[bytes]:
    files = []
    for image_format, options in PILLOW:
        buffer = BytesIO()
        Image.fromarray(rgb).save(buffer, image_format, **options)
        files.append(buffer.getvalue())
    for options in TIFF:
        buffer = BytesIO()
        tifffile.imwrite(buffer, rgb, photometric="rgb", **options)
        files.append(buffer.getvalue())
    return files


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    how = rng.integers(3)
    if how == 0:
        return bytes(data[: rng.integers(len(data))])
    # Headers are where damage is most interesting: half of it goes there.
    reach = 400 if rng.integers(2) and len(data) > 400 else len(data)
    for at in rng.integers(0, reach, rng.integers(1, 9)):
        data[at] = rng.integers(256) if how == 1 else data[at] ^ (1 << rng.integers(8))
    return bytes(data)


@pytest.mark.parametrize("number", range(len(PILLOW) + len(TIFF)))
def test_damage_never_escapes(
    number: int, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    whole = seeds(rgb)[number]
    rng = np.random.default_rng(number)
    path = tmp_path / "a.img"
    path.write_bytes(whole)
    assert read(path).pixels.shape == rgb.shape
    reasons = []
    for _ in range(CASES):
        path.write_bytes(damaged(whole, rng))
        assert field_pages(path)
        try:
            size = probe_size(ImageRef(path, "a", "s"), max_pixels=1_000_000)
        except ImageError:
            size = None
        try:
            picture = read(path)
        except ImageError as error:
            reasons.append(str(error))
        else:
            assert (picture.width_px, picture.height_px) == size
    assert all("\n" not in reason and 0 < len(reason) < 250 for reason in reasons)
    assert len(reasons) >= CASES // 6  # truncation alone is a third of the damage
