"""Animations and files of several pictures (W35): the first is counted, and their number said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellcount.images.animations import MOST_FRAMES
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

ANIMATED: dict[str, dict[str, Any]] = {
    "GIF": {},
    "WEBP": {"lossless": True},
    "PNG": {},
    "MPO": {"quality": 95},
}


@pytest.mark.parametrize("form", ANIMATED)
def test_the_first_is_read_and_the_number_is_said(form: str, fields: Fields, folder: Path) -> None:
    first, *others = (fields.image(i) for i in (0, 1, 5))
    first.save("f.img", form, save_all=True, append_images=others, **ANIMATED[form])
    picture = read("f.img")
    (caution,) = picture.cautions
    assert caution.startswith("the file holds 3 frames, of which the first is counted")
    difference = np.abs(picture.pixels.astype(int) - fields.pixels(0)).mean()
    assert difference < 12  # GIF has 256 colours, and MPO is JPEG


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "JPEG", "BMP"])
def test_a_single_picture_has_no_caution(form: str, fields: Fields, folder: Path) -> None:
    fields.image(0).save("f.img", form)
    assert read("f.img").cautions == ()


def test_the_preview_of_a_camera_is_no_second_picture(fields: Fields, folder: Path) -> None:
    """A large thumbnail beside the picture, as cameras write it in an MPO."""
    fields.image(0).save("f.jpg", "MPO", save_all=True, append_images=[fields.image(1)])
    data = bytearray(Path("f.jpg").read_bytes())
    entries = data.index(b"\x02\xb0")  # the tag of the list, little-endian
    start = data.index(b"MPF\0") + 4
    offset = int.from_bytes(data[entries + 8 : entries + 12], "little")
    second = start + offset + 16
    data[second : second + 4] = (0x010001).to_bytes(4, "little")
    Path("f.jpg").write_bytes(data)
    assert read("f.jpg").cautions == ()


def test_an_animation_without_end_is_not_counted_to_its_end(folder: Path) -> None:
    frames = [Image.new("P", (4, 4), i % 2) for i in range(3)]
    frames[0].save("f.gif", save_all=True, append_images=frames[1:], loop=0, duration=40)
    data = Path("f.gif").read_bytes()
    head, frame = data[:-1], data[data.rindex(b"!\xf9") : -1]
    Path("f.gif").write_bytes(head + frame * (2 * MOST_FRAMES) + b";")
    (caution,) = read("f.gif").cautions
    assert f"more than {MOST_FRAMES} frames" in caution


def test_they_are_counted_by_their_first_frame(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    first, *others = (fields.image(i) for i in (0, 1, 5))
    first.save("s/f.webp", save_all=True, append_images=others, lossless=True)
    row = count(run, "s").rows["f.webp"]
    assert row.status == "done"
    assert is_near(row.cells, (46, 7, 3))
    assert "3 frames" in row.reason
