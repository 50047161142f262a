"""JPEG, PNG, BMP, WebP and GIF, and every way in which a file can fail to be a picture."""

from __future__ import annotations

import logging
import struct
import threading
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cellcount.core.records import ImageRef, Picture
from cellcount.errors import ImageError
from cellcount.images.read import probe_size, read_image

Read = Callable[..., Picture]
LOSSLESS = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True}, "TIFF": {}}
FORMATS = [*LOSSLESS, "JPEG", "GIF"]


def encoded(pixels: NDArray[Any], image_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, image_format, **{**LOSSLESS.get(image_format, {}), **options})
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_lossless_formats_come_back_exactly(
    image_format: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(encoded(rgb, image_format))
    picture = read(path)
    np.testing.assert_array_equal(picture.pixels, rgb)
    assert picture.um_per_px is None
    assert picture.pixels.flags.writeable
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_agrees_with_pillow(
    mode: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    """Pillow writes CMYK as Adobe does, inverted."""
    path = tmp_path / "a.jpg"
    Image.fromarray(rgb).convert(mode).save(path, quality=95)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(read(path).pixels - expected).max() <= 1
    colours = rgb if mode != "L" else np.asarray(Image.fromarray(rgb).convert("L"))[:, :, None]
    assert np.abs(read(path).pixels - colours.astype(int)).mean() < 2


@pytest.mark.parametrize("extension", [".png", ".tif", ".jpeg", ".txt", ""])
@pytest.mark.parametrize("image_format", FORMATS)
def test_content_decides_not_the_extension(
    image_format: str, extension: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(encoded(rgb, image_format))
    assert read(path).pixels.shape == rgb.shape


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", [255, 255, 255]),
        ("L", [200, 200, 200]),
        ("LA", [241, 241, 241]),  # 200 at 64 of 255 over white
        ("RGBA", [241, 199, 194]),  # (200, 30, 10) at 64 of 255 over white
        ("I;16", [200, 200, 200]),
    ],
)
def test_png_modes(mode: str, expected: list[int], tmp_path: Path, read: Read) -> None:
    pixel: Any = {
        "1": 1, "L": 200, "LA": (200, 64), "RGBA": (200, 30, 10, 64), "I;16": 200 * 256 + 77,
    }[mode]  # fmt: skip
    path = tmp_path / "a.png"
    Image.new(mode, (4, 3), pixel).save(path)
    assert np.unique(read(path).pixels.reshape(-1, 3), axis=0).tolist() == [expected]


def test_png_palette_with_alpha(tmp_path: Path, read: Read) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 30, 10])
    image.putpixel((1, 0), 1)
    path = tmp_path / "a.png"
    image.save(path, transparency=bytes([255, 64]))
    assert read(path).pixels.tolist() == [[[10, 20, 30], [241, 199, 194]]]


def test_png_with_one_transparent_colour(tmp_path: Path, read: Read) -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (1, 2, 3))
    path = tmp_path / "a.png"
    image.save(path, transparency=(1, 2, 3))
    assert read(path).pixels.tolist() == [[[9, 9, 9], [255, 255, 255]]]


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_keeps_the_high_byte(
    colour_type: int, samples: int, tmp_path: Path, read: Read
) -> None:
    """Written by hand: Pillow cannot write 16-bit colour."""
    values = [0x40FE, 0x80FE, 0xC0FE][: min(samples, 3)] if samples != 2 else [0x40FE]
    if samples in (2, 4):
        values = [*values, 0xFFFF]
    row = b"\0" + struct.pack(f">{samples}H", *values)

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    )  # fmt: skip
    expected = [0x40, 0x80, 0xC0] if samples >= 3 else [0x40] * 3
    assert read(path).pixels.tolist() == [[expected]]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(
    orientation: int, image_format: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.img"
    image.save(path, image_format, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read(path).pixels, expected)
    size = probe_size(ImageRef(path, "a", "s"), max_pixels=10_000)
    assert size == (expected.shape[1], expected.shape[0])


def test_broken_exif_costs_the_orientation_only(
    rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(rgb).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40)
    assert read(path).pixels.shape == rgb.shape


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "MPO"])
def test_the_first_of_several_frames_is_read(image_format: str, tmp_path: Path, read: Read) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("#c80000", "#00c800")]
    path = tmp_path / "a.img"
    frames[0].save(path, image_format, save_all=True, append_images=frames[1:])
    assert abs(read(path).pixels.astype(int) - (200, 0, 0)).max() <= 3


@pytest.mark.parametrize("image_format", FORMATS)
def test_one_pixel_is_an_image(image_format: str, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(encoded(np.full((1, 1, 3), 200, np.uint8), image_format))
    assert read(path).pixels.tolist() == [[[200, 200, 200]]]
    assert probe_size(ImageRef(path, "a", "s"), max_pixels=1) == (1, 1)


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_limit_is_a_limit(image_format: str, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(encoded(np.zeros((10, 20, 3), np.uint8), image_format))
    assert read(path, max_pixels=200).width_px == 20
    reason = r"200 pixels \(20 x 10\), the limit is 199; raise --max-pixels"
    with pytest.raises(ImageError, match=reason):
        read(path, max_pixels=199)
    with pytest.raises(ImageError, match=reason):
        probe_size(ImageRef(path, "a", "s"), max_pixels=199)


def test_pillows_own_limit_has_given_way(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 10_000)).save(path)  # Pillow alone refuses more than 179 million
    assert probe_size(ImageRef(path, "a", "s"), max_pixels=500_000_000) == (20_000, 10_000)


# --- hostile headers ---


def bomb(image_format: str) -> bytes:
    """A tiny picture whose header claims to be as large as the format allows, up to 60,000."""
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), image_format))
    if image_format == "PNG":
        data[16:24] = struct.pack(">II", 60_000, 60_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif image_format == "BMP":
        data[18:26] = struct.pack("<ii", 60_000, 60_000)
    elif image_format == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    elif image_format == "GIF":
        data[6:10] = struct.pack("<HH", 60_000, 60_000)
    elif image_format == "WEBP":  # lossless: 14 bits a side
        data[21:25] = struct.pack("<I", 16_383 | 16_383 << 14)
    else:
        for code in (256, 257):
            at = next(
                at for at in range(4, len(data) - 12)
                if struct.unpack_from("<H", data, at)[0] == code and data[at + 2] in (3, 4)
            )  # fmt: skip
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    return bytes(data)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_header_bomb_is_refused_before_memory_is_taken(
    image_format: str, tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(bomb(image_format))
    pixels = 16_384**2 if image_format == "WEBP" else 60_000**2
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=f"image has {pixels} pixels .*the limit is 1000000;"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("image_format", [f for f in FORMATS if f != "GIF"])
def test_truncated_files_are_errors_never_half_pictures(
    image_format: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    whole = encoded(rgb, image_format)
    path = tmp_path / "a.img"
    for keep in (1, 4, 16, 40, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:keep])
        with pytest.raises(ImageError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 220


def test_a_truncated_jpeg_says_so(rgb: NDArray[np.uint8], tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(rgb, "JPEG")[:-60])
    with pytest.raises(ImageError, match=r"^truncated JPEG: image file is truncated \(\d+ bytes"):
        read(path)


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "jpeg"}])
def test_a_truncated_tiff_says_so(
    options: dict[str, Any], rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", **options)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="truncated TIFF|damaged TIFF"):
        read(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "^empty file$"),
        (b"II*\0", "TIFF"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"BM", "BMP"),
        (b"RIFF\0\0\0\0WEBP", "truncated WebP"),
        (b"RIFF\0\0\0\0WEBPVP9 " + bytes(40), "damaged WebP: unknown first chunk"),
        (b"GIF89a", "GIF"),
        (b"<html>", "not an image: a text or XML file"),
        (b"%PDF-1.7", "not an image: a PDF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"hello", "not an image: starts with b'hello'"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read(path)


def test_a_zip_archive_is_named(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.tif"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ImageError, match="^not an image: a zip archive$"):
        read(path)


def test_decoders_stay_quiet_and_warning_filters_survive_threads(
    rgb: NDArray[np.uint8],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.tif"
    Image.fromarray(rgb).save(good, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + b"\xff" * 9)
    tifffile.imwrite(bad, rgb, photometric="rgb", compression="lzw")
    bad.write_bytes(bad.read_bytes()[:300] + b"\xff" * 40)

    def work() -> None:
        for _ in range(20):
            for path in (good, bad):
                try:
                    read_image(ImageRef(path, "a", "s"), max_pixels=10_000)
                except ImageError:
                    assert path == bad

    before = list(warnings.filters)
    with caplog.at_level(logging.DEBUG):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(warnings.filters) == before
    assert [r for r in caplog.records if r.name.startswith("tifffile")] == []
    assert capfd.readouterr() == ("", "")


def test_real_fields_agree_with_pillow(shared_data: Path, read: Read) -> None:
    paths = sorted(p for p in (shared_data / "bccd").rglob("*.jpg"))[:5]
    assert paths
    for path in paths:
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        np.testing.assert_array_equal(read(path).pixels, expected)


@pytest.mark.parametrize("junk", [b"\0", b"\xff\xfe\0\2"], ids=["zeros", "empty comments"])
def test_a_header_without_end_is_not_read_to_the_end(tmp_path: Path, junk: bytes) -> None:
    """Pillow looks for the next marker byte by byte: hours, for a sparse file."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 9 + junk * (8_000_000 // len(junk)))
    started = time.process_time()
    with pytest.raises(ImageError, match="damaged JPEG: its header"):
        read_image(ImageRef(path, "a", "s"), max_pixels=10**6)
    assert time.process_time() - started < 2.0
