"""Pictures of whole slides: little is read about a large box, and nobody waits in vain."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images.tiff_windows import Rect
from cellcount.review.page import image_pixels
from cellcount.review.page.image_pixels import ImagePixels

SIDE = 100_000


class Slide:
    """A whole slide of one colour that remembers how much of it was read at a time."""

    picture = None
    size_px = (SIDE, SIDE)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.largest_px = 0

    def read(self, rect: Rect) -> NDArray[np.uint8]:
        if self.error is not None:
            raise self.error
        self.largest_px = max(self.largest_px, rect.width * rect.height)
        return np.full((rect.height, rect.width, 3), 200, np.uint8)


def pixels_of(slide: Slide, monkeypatch: pytest.MonkeyPatch, images: int = 1) -> ImagePixels:
    monkeypatch.setattr(image_pixels, "open_source", lambda *_args, **_more: slide)
    refs = [ImageRef(Path(f"{n}.tif"), f"{n}.tif", "slide") for n in range(images)]
    return ImagePixels(refs, lambda _image: slide.size_px, 10**8)


def test_a_box_about_the_whole_slide_reads_no_whole_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = Slide()
    jpeg = pixels_of(slide, monkeypatch).crop(0, (0, 0, SIDE, SIDE))
    assert jpeg is not None
    assert jpeg[:2] == b"\xff\xd8"
    assert 0 < slide.largest_px <= 6000**2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [ImageError("damaged"), OSError("gone"), MemoryError()])
def test_an_overview_that_cannot_be_made_is_no_tile(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pixels = pixels_of(Slide(error), monkeypatch)
    end = time.monotonic() + 5
    while pixels.tile(0, 5, 0, 0) == "later":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert pixels.tile(0, 5, 0, 0) is None


def test_overviews_of_many_slides_are_not_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pixels._Overview, "_make", lambda _self: None)
    monkeypatch.setattr(image_pixels, "_PICTURES_BYTES", 10**6)
    slide = Slide()
    slide.size_px = (4000, 4000)
    pixels = pixels_of(slide, monkeypatch, images=9)
    for image in range(9):
        assert pixels.tile(image, 3, 0, 0) == "later"
    assert len(pixels._overviews._kept) == 1
