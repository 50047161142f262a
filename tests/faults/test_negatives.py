"""Negatives and photometric tags that lie (W39): glass darker than cells is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cellcount.images.negatives import NEGATIVE_CAUTION, is_negative
from tests.faults.counting import count, read
from tests.faults.recipes import Fields, Run

Pixels = NDArray[np.uint8]
ALL = range(6)


def grey(rgb: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def miniswhite(rgb: Pixels) -> None:
    tifffile.imwrite("f.img", grey(rgb), photometric="miniswhite")


def wide_miniswhite(rgb: Pixels) -> None:
    samples = grey(rgb).astype(np.uint16) << 8
    tifffile.imwrite("f.img", samples, photometric="miniswhite", compression="zlib")


def minisblack_of_a_negative(rgb: Pixels) -> None:
    tifffile.imwrite("f.img", 255 - grey(rgb), photometric="minisblack")


def inverted_png(rgb: Pixels) -> None:
    Image.fromarray(255 - rgb).save("f.img", "PNG")


def inverted_jpeg(rgb: Pixels) -> None:
    Image.fromarray(255 - rgb).save("f.img", "JPEG", quality=90)


def inverted_palette(rgb: Pixels) -> None:
    Image.fromarray(255 - rgb).quantize(256).save("f.img", "GIF")


def inks_that_are_light(rgb: Pixels) -> None:
    """CMYK whose values were written as light, not as ink."""
    inks = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    tifffile.imwrite("f.img", inks, photometric="separated")


NEGATIVES: list[Callable[[Pixels], None]] = [
    miniswhite, wide_miniswhite, minisblack_of_a_negative, inverted_png, inverted_jpeg,
    inverted_palette, inks_that_are_light,
]  # fmt: skip


@pytest.mark.parametrize("write", NEGATIVES, ids=lambda write: write.__name__)
def test_a_negative_is_said(write: Callable[[Pixels], None], fields: Fields, folder: Path) -> None:
    last = 5 if write is inverted_palette else 6  # 256 colours spoil the last one's cast
    for i in range(last):
        write(fields.pixels(i))
        assert read("f.img").cautions == (NEGATIVE_CAUTION,), i


def test_ordinary_fields_are_none(fields: Fields) -> None:
    for i in ALL:
        rgb = fields.pixels(i)
        for pixels in (rgb, np.repeat(grey(rgb)[..., None], 3, axis=2), rgb // 2, rgb // 4):
            assert not is_negative(pixels)


def test_an_honest_miniswhite_is_none(fields: Fields, folder: Path) -> None:
    tifffile.imwrite("f.tif", 255 - grey(fields.pixels(0)), photometric="miniswhite")
    assert read("f.tif").cautions == ()


def test_a_round_field_in_black_is_none(fields: Fields) -> None:
    for i in ALL:
        pixels = fields.pixels(i).copy()
        y, x = np.mgrid[:480, :640]
        pixels[np.hypot(x - 320, y - 240) > 234] = 5
        assert not is_negative(pixels)


def test_tiny_and_empty_pictures_are_none() -> None:
    for shape in ((1, 1, 3), (1, 700, 3), (700, 2, 3), (200, 200, 3)):
        assert not is_negative(np.zeros(shape, np.uint8))
        assert not is_negative(np.full(shape, 120, np.uint8))


def test_real_fields(shared_data: Path) -> None:
    paths = sorted((shared_data / "bccd").rglob("*.jpg"))[::20]
    assert paths
    recognised = 0
    for path in paths:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"))
        assert not is_negative(rgb), path
        recognised += is_negative(255 - rgb)
        blurred = Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(2))
        assert not is_negative(np.asarray(blurred)), path
    assert recognised >= 0.9 * len(paths)


def test_rows_say_it(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    miniswhite(fields.pixels(0))
    Path("f.img").rename("s/f.tif")
    row = count(run, "s").rows["f.tif"]
    assert NEGATIVE_CAUTION in row.reason
