"""Real small image files for the readers to find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

MakeImage = Callable[..., Path]


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """``make_image("images/a.jpg", (width, height), orientation)`` below ``tmp_path``."""

    def make(name: str, size: tuple[int, int] = (100, 50), orientation: int = 1) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size, (200, 120, 140))
        kind = {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}.get(path.suffix.lower(), "JPEG")
        exif = Image.Exif()
        if orientation != 1:
            exif[0x0112] = orientation
        image.save(path, kind, exif=exif) if kind in ("JPEG", "TIFF") else image.save(path, kind)
        return path

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """``write("labels/a.txt", text)`` below ``tmp_path``."""

    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
