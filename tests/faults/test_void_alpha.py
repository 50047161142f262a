"""An alpha channel of nothing (W31): no alpha, and said; a picture of nothing is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images.pixel_formats import VOID_ALPHA_CAUTION
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import open_whole_slide
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

Pixels = NDArray[np.uint8]
ZERO = 0


def with_alpha(rgb: Pixels, alpha: int) -> Pixels:
    return np.dstack([rgb, np.full(rgb.shape[:2], alpha, np.uint8)])


def straight_tiff(rgb: Pixels, alpha: int) -> None:
    tifffile.imwrite("f.img", with_alpha(rgb, alpha), photometric="rgb",
                     extrasamples=["unassalpha"])  # fmt: skip


def associated_tiff(rgb: Pixels, alpha: int) -> None:
    tifffile.imwrite("f.img", with_alpha(rgb, alpha), photometric="rgb",
                     extrasamples=["assocalpha"], compression="lzw")  # fmt: skip


def wide_tiff(rgb: Pixels, alpha: int) -> None:
    samples = with_alpha(rgb, alpha).astype(np.uint16) << 8
    tifffile.imwrite("f.img", samples, photometric="rgb", extrasamples=["unassalpha"])


def png(rgb: Pixels, alpha: int) -> None:
    Image.fromarray(with_alpha(rgb, alpha)).save("f.img", "PNG")


def webp(rgb: Pixels, alpha: int) -> None:
    Image.fromarray(with_alpha(rgb, alpha)).save("f.img", "WEBP", lossless=True, exact=True)


def tiled_tiff(rgb: Pixels, alpha: int) -> None:
    tifffile.imwrite("f.img", with_alpha(rgb, alpha), photometric="rgb", planarconfig="contig",
                     extrasamples=["assocalpha"], tile=(64, 64))  # fmt: skip


WRITERS: list[Callable[[Pixels, int], None]] = [
    straight_tiff, associated_tiff, wide_tiff, png, webp, tiled_tiff,
]  # fmt: skip


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_the_picture_under_it_is_read(
    write: Callable[[Pixels, int], None], alpha: int, fields: Fields, folder: Path
) -> None:
    rgb = fields.pixels(0)
    write(rgb, alpha)
    picture = read("f.img")
    np.testing.assert_array_equal(picture.pixels, rgb)
    assert picture.cautions == (VOID_ALPHA_CAUTION,)
    assert picture.pixels.flags.writeable


@pytest.mark.parametrize("mode", ["P", "L", "LA"])
def test_palettes_and_grey(mode: str, fields: Fields, folder: Path) -> None:
    image = fields.image(0).convert("L" if mode == "LA" else mode)
    expected = np.asarray(image.convert("RGB"))
    if mode == "P":
        image.save("f.png", transparency=bytes(256))
    elif mode == "LA":
        Image.merge("LA", (image, Image.new("L", image.size))).save("f.png")
    else:
        tifffile.imwrite("f.png", np.dstack([np.asarray(image), np.zeros_like(image)]),
                         photometric="minisblack", extrasamples=["unassalpha"],
                         planarconfig="contig")  # fmt: skip
    picture = read("f.png")
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.cautions == (VOID_ALPHA_CAUTION,)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_picture_of_nothing_is_refused(
    write: Callable[[Pixels, int], None], folder: Path
) -> None:
    write(np.zeros((48, 64, 3), np.uint8), ZERO)
    with pytest.raises(ImageError, match="wholly transparent and of one colour"):
        read("f.img")


def test_a_bitmap_of_32_bits_has_no_alpha(fields: Fields, folder: Path) -> None:
    Image.fromarray(with_alpha(fields.pixels(0), ZERO)).save("f.bmp")
    picture = read("f.bmp")
    np.testing.assert_array_equal(picture.pixels, fields.pixels(0))
    assert picture.cautions == ()


def test_an_alpha_of_something_is_laid_over_white(fields: Fields, folder: Path) -> None:
    rgba = with_alpha(fields.pixels(0), 255)
    rgba[:, :100, 3] = 0
    Image.fromarray(rgba).save("f.png")
    picture = read("f.png")
    assert (picture.pixels[:, :100] == 255).all()
    np.testing.assert_array_equal(picture.pixels[:, 100:], rgba[:, 100:, :3])
    assert picture.cautions == ()


@pytest.mark.parametrize("tiled", [False, True])
def test_a_whole_slide_is_read_so_too(tiled: bool, fields: Fields, folder: Path) -> None:
    rgb = fields.pixels(0)
    form: dict[str, Any] = {"tile": (64, 64), "compression": "lzw"} if tiled else {}
    tifffile.imwrite("f.tif", with_alpha(rgb, ZERO), photometric="rgb",
                     extrasamples=["unassalpha"], **form)  # fmt: skip
    slide = open_whole_slide(ImageRef(Path("f.tif"), "f", "s"), max_pixels=100_000)
    assert slide is not None
    assert slide.cautions == (VOID_ALPHA_CAUTION,)
    np.testing.assert_array_equal(slide.read(Rect(50, 60, 200, 100)), rgb[60:160, 50:250])


def test_it_is_counted(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    straight_tiff(fields.pixels(0), ZERO)
    Path("f.img").rename("s/f.tif")
    row = count(run, "s").rows["f.tif"]
    assert (row.status, row.reason) == ("done", VOID_ALPHA_CAUTION)
    assert is_near(row.cells, (46, 7, 3))
