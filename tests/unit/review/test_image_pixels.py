"""Tiles of the review page: a whole slide is never held, and a pyramid gives its coarse tiles."""

from __future__ import annotations

import io
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef
from cellcount.images.tiff_windows import Rect
from cellcount.review.page import image_pixels
from cellcount.review.page.image_pixels import TILE_PX, ImagePixels
from tests.pyramids import LEVELS, SIDE_PX, write_pyramid

TALLEST = 6


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("slide") / "slide.tif")


def pixels_of(path: Path) -> ImagePixels:
    ref = ImageRef(path, path.name, "")
    return ImagePixels([ref], lambda _: (SIDE_PX, SIDE_PX), 500_000_000)


def decoded(tile: bytes | str | None) -> Image.Image:
    assert isinstance(tile, bytes)
    return Image.open(io.BytesIO(tile))


def test_coarse_tiles_come_at_once_from_the_copies_in_the_file(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_overview(*_: object) -> None:
        pytest.fail("a view of the whole slide is made, though the file has one")

    monkeypatch.setattr(image_pixels, "_Overview", no_overview)
    pixels = pixels_of(slide)
    for level in range(2, TALLEST + 1):
        last = (SIDE_PX - 1) // (TILE_PX << level)
        shown = decoded(pixels.tile(0, level, last, last))
        left = SIDE_PX - last * (TILE_PX << level)
        assert shown.size == (-(-left // (1 << level)),) * 2
        factor = max(f for f in LEVELS if f <= 1 << level)
        away = np.abs(np.asarray(shown).astype(int) - LEVELS[factor]).max()
        assert away <= 6, f"level {level} is not made of the copy reduced by {factor}"
        assert pixels.tile(0, level, last + 1, 0) is None


def test_every_tile_of_a_slide_takes_little_memory(slide: Path) -> None:
    pixels = pixels_of(slide)
    pixels.tile(0, TALLEST, 0, 0)
    tracemalloc.start()
    try:
        for level in range(3, TALLEST + 1):
            count = -(-SIDE_PX // (TILE_PX << level))
            for place in range(count):
                assert isinstance(pixels.tile(0, level, place, place), bytes)
        assert isinstance(pixels.tile(0, 0, 3, 3), bytes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000, "the slide as a whole would be 1,200 MB"


def test_a_crop_of_a_whole_slide_is_the_crop_of_its_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 250, (60, 80, 3)).astype(np.uint8)
    large = np.kron(pixels, np.ones((10, 10, 1), np.uint8))
    tifffile.imwrite(tmp_path / "slide.tif", large, tile=(64, 64), photometric="rgb")
    ref = ImageRef(tmp_path / "slide.tif", "slide.tif", "")
    whole, windowed = (
        ImagePixels([ref], lambda _: (800, 600), most) for most in (10_000_000, 100_000)
    )
    for box in ((0.0, 0.0, 40.5, 30.0), (300.5, 200.0, 360.0, 270.0), (780.0, 590.0, 800.0, 600.0)):
        shown = windowed.crop(0, box)
        assert shown is not None
        assert shown == whole.crop(0, box)


class _SlowSlide:
    """A tall source whose windows are given one by one."""

    size_px = (64, 64 * 50)

    def __init__(self) -> None:
        self.reads, self.begun, self.may_go_on = 0, threading.Event(), threading.Event()

    def read(self, rect: Rect) -> NDArray[np.uint8]:
        self.reads += 1
        self.begun.set()
        assert self.may_go_on.wait(10)
        return np.zeros((rect.height, rect.width, 3), np.uint8)


def test_a_view_of_the_whole_that_is_not_kept_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_pixels, "_READ_PX", 64)
    slide: Any = _SlowSlide()
    before = set(threading.enumerate())
    overview = image_pixels._Overview(slide)
    assert slide.begun.wait(10)
    made_by = set(threading.enumerate()) - before
    del overview
    slide.may_go_on.set()
    for thread in made_by:
        thread.join(10)
    assert slide.reads == 1
