"""Sizes from headers, bounded text, finding the image that an annotation means."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from cellcount.datasets import sources
from cellcount.datasets.image_finder import ImageFinder
from cellcount.datasets.sources import (
    displayed_size_px,
    read_json,
    read_table,
    read_text,
    walk_files,
)
from cellcount.errors import AnnotationError, ImageError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_the_displayed_one(make_image: Make, name: str, orientation: int) -> None:
    path = make_image(name, (40, 20), orientation)
    with Image.open(path) as image:
        shown = ImageOps.exif_transpose(image)
    assert displayed_size_px(path) == shown.size


def test_size_of_a_tiff_that_pillow_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((30, 70, 3), np.uint16), photometric="rgb", bigtiff=True)
    assert displayed_size_px(path) == (70, 30)


def test_size_of_a_header_bomb_is_read_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bmp"
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
    with pytest.raises(ImageError, match="3600000000 pixels"):
        displayed_size_px(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0", b"II*\0", b"\x89PNG"])
def test_what_is_no_image_is_an_image_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        displayed_size_px(path)


def test_text_is_bounded_and_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfcell \xc3\xa9")
    assert read_text(path) == "cell é"
    with pytest.raises(AnnotationError, match=r"has 10 bytes, expected at most 9"):
        read_text(path, max_bytes=9)
    path.write_bytes("cell é".encode("utf-16"))
    assert read_text(path) == "cell é"
    path.write_bytes(b"cell \xe9")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_text(path)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_text(tmp_path / "gone.txt")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 10_000])
def test_broken_json_is_an_annotation_error(write: Write, text: str) -> None:
    with pytest.raises(AnnotationError, match="not valid JSON"):
        read_json(write("a.json", text))


def test_tables_in_three_separators_and_broken_ones(write: Write) -> None:
    for separator in ",;\t":
        table = read_table(write("a.csv", f'a{separator}b\r\n"x\ny"{separator}2\r\n'))
        assert [row.cells for row in table.rows] == [("a", "b"), ("x\ny", "2")]
    with pytest.raises(AnnotationError, match="not a CSV file"):
        read_table(write("a.csv", "a,b\n" + "x" * 200_000 + ",1\n"))


def test_walk_is_sorted_without_hidden_files_and_survives_a_loop(
    tmp_path: Path, make_image: Make
) -> None:
    names = ["b.jpg", "a/c.jpg", ".hidden/d.jpg", "a/._e.jpg"]
    for name in names:
        make_image(name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert walk_files(tmp_path) == [tmp_path / "a/c.jpg", tmp_path / "b.jpg"]


@pytest.mark.parametrize(
    ("stated", "beside", "expected"),
    [
        ("a.jpg", "x.json", "images/a.jpg"),
        ("images/a.jpg", "annotations/x.json", "images/a.jpg"),
        ("../images/a.jpg", "annotations/x.json", "annotations/../images/a.jpg"),
        ("A.JPG", "x.json", "images/a.jpg"),
        ("a.png", "x.json", "images/a.jpg"),
        ("C:\\old\\disk\\a.jpg", "x.json", "images/a.jpg"),
        ("v1.2", "x.json", "images/v1.2.JPG"),
        ("train/t.jpg", "x.json", "deep/train/t.jpg"),
        ("t.jpg", "deep/val/x.json", "deep/val/t.jpg"),
        ("nothing.jpg", "x.json", None),
        ("n" * 5000, "x.json", None),
        ("a\0.jpg", "x.json", None),
        ("", "x.json", None),
    ],
)
def test_finding_images(
    tmp_path: Path, make_image: Make, stated: str, beside: str, expected: str | None
) -> None:
    for name in ("images/a.jpg", "images/v1.2.JPG", "deep/train/t.jpg", "deep/val/t.jpg"):
        make_image(name)
    (tmp_path / "annotations").mkdir()
    found = ImageFinder(tmp_path).find(stated, tmp_path / beside)
    assert found.path == (None if expected is None else tmp_path / expected)


def test_limits_are_generous() -> None:
    assert sources.MAX_LABEL_BYTES < sources.MAX_LABELME_BYTES < sources.MAX_SET_BYTES
