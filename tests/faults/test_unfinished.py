"""Files that end too early (W34): read with a caution while every pixel is there, else failed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellcount.errors import ImageError
from cellcount.images.unfinished import UNFINISHED_CAUTION
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

# Format, how it is written, bytes that may be lost, bytes that may not.
FORMS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "baseline": ("JPEG", {"quality": 95}, (1, 2), (4, 60, 900)),
    "progressive": ("JPEG", {"progressive": True}, (1, 2), (4, 60, 900)),
    "restarts": ("JPEG", {"restart_marker_rows": 1, "subsampling": 0}, (1, 2), (4, 60)),
    "grey": ("JPEG", {}, (1, 2), (6, 60)),
    "inks": ("JPEG", {}, (1, 2), (6, 60)),
    "png": ("PNG", {}, (1, 4, 8, 12, 16, 20), (60, 900)),
    "png palette": ("PNG", {}, (4, 12, 16), (60,)),
    "gif": ("GIF", {}, (1, 2), (60,)),
    "webp": ("WEBP", {"exif": b"Exif\0\0MM\0*" + bytes(50)}, (1, 20, 58), (80, 900)),
}
MODES = {"grey": "L", "inks": "CMYK", "png palette": "P"}


def encoded(image: Image.Image, name: str) -> bytes:
    buffer = BytesIO()
    form, options, _, _ = FORMS[name]
    image.convert(MODES.get(name, "RGB")).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FORMS)
def test_all_pixels_are_read_and_the_early_end_is_said(
    name: str, fields: Fields, folder: Path
) -> None:
    whole = encoded(fields.image(0), name)
    Path("f.img").write_bytes(whole)
    picture = read("f.img")
    assert picture.cautions == ()
    for lost in FORMS[name][2]:
        Path("f.img").write_bytes(whole[:-lost])
        again = read("f.img")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        assert again.cautions == (UNFINISHED_CAUTION,)


@pytest.mark.parametrize("name", FORMS)
def test_a_lost_pixel_is_a_failure(name: str, fields: Fields, folder: Path) -> None:
    whole = encoded(fields.image(0), name)
    for lost in FORMS[name][3]:
        Path("f.img").write_bytes(whole[:-lost])
        with pytest.raises(ImageError, match="truncated"):
            read("f.img")


def test_a_progressive_jpeg_without_its_last_scan_is_a_failure(
    fields: Fields, folder: Path
) -> None:
    """Cut the file where a marker would follow, so that no decoder misses a bit."""
    whole = encoded(fields.image(0), "progressive")
    last = whole.rindex(b"\xff\xc4")  # the tables of the last scan
    Path("f.jpg").write_bytes(whole[:last])
    with pytest.raises(ImageError, match="truncated JPEG"):
        read("f.jpg")


@pytest.mark.parametrize("after", [b"\0" * 64, b"appended by a camera", b"\xff\xd9"])
@pytest.mark.parametrize("name", ["baseline", "png"])
def test_what_follows_the_end_is_no_matter(
    name: str, after: bytes, fields: Fields, folder: Path
) -> None:
    Path("f.img").write_bytes(encoded(fields.image(0), name) + after)
    assert read("f.img").cautions == ()


def test_the_turn_of_an_unfinished_jpeg_is_honoured(fields: Fields, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    fields.image(0).save(buffer, "JPEG", exif=exif)
    Path("f.jpg").write_bytes(buffer.getvalue()[:-2])
    assert read("f.jpg").pixels.shape == (640, 480, 3)


def test_it_is_counted(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    Path("s/f.jpg").write_bytes(encoded(fields.image(0), "baseline")[:-2])
    row = count(run, "s").rows["f.jpg"]
    assert (row.status, row.reason) == ("done", UNFINISHED_CAUTION)
    assert is_near(row.cells, (46, 7, 3))
