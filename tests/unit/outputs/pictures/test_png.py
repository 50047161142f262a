"""PNG files: pictures come back exactly, with their texts, and take no more room than Pillow's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cellcount.outputs.pictures.png import write_png
from cellcount.rendering.field import FieldSpec, render_field

NOISE = np.random.default_rng(5)


def written(pixels: NDArray[np.uint8], **texts: str) -> io.BytesIO:
    file = io.BytesIO()
    write_png(file, pixels, texts)
    return file


@pytest.mark.parametrize("height", [1, 2, 31, 200])
@pytest.mark.parametrize("width", [1, 2, 700, 30_000])
@pytest.mark.parametrize("levels", [1, 2, 256])
def test_every_picture_comes_back_exactly(height: int, width: int, levels: int) -> None:
    height = min(height, 3) if width > 1000 else height
    step = 255 // max(1, levels - 1)  # black alone, black and white, or every level
    pixels = (NOISE.integers(0, levels, (height, width, 3)) * step).astype(np.uint8)
    with Image.open(written(pixels)) as image:
        image.verify()  # its checksums, too
    with Image.open(written(pixels)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_view_into_a_larger_picture_is_written_as_it_looks() -> None:
    whole = NOISE.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for view in (whole[5:20, 7:41], whole[::-1], whole.transpose(1, 0, 2), whole[..., ::-1]):
        with Image.open(written(view)) as image:
            np.testing.assert_array_equal(np.asarray(image), view)


def test_texts_can_be_read_before_the_pixels() -> None:
    file = written(np.zeros((3, 4, 3), np.uint8), Source="a smear", Comment="ü")
    with Image.open(file) as image:
        assert isinstance(image, PngImagePlugin.PngImageFile)
        assert image.text == {"Source": "a smear", "Comment": "ü"}
    assert file.getvalue().index(b"Source\0a smear") < file.getvalue().index(b"IDAT")


def test_a_field_takes_no_more_room_than_pillows_fastest_file() -> None:
    pixels = render_field(FieldSpec(320, 240, 40, 53.0, 0.45, n_wbc=1.5)).pixels
    pillows = io.BytesIO()
    Image.fromarray(pixels).save(pillows, "PNG", compress_level=1)
    assert len(written(pixels).getvalue()) <= len(pillows.getvalue())
