"""TIFF in every form that microscopes write, compared with the array it was written from."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images.read import field_pages

Array = NDArray[Any]
Read = Callable[..., Picture]
GREY = slice(0, 1)


def same(rgb: Array) -> Array:
    return rgb


def grey_of(rgb: Array) -> Array:
    return rgb[:, :, 0]


def grey_back(stored: Array) -> Array:
    return np.repeat(stored[:, :, None], 3, axis=2)


def planes(rgb: Array) -> Array:
    return np.moveaxis(rgb, 2, 0)


def planes_back(stored: Array) -> Array:
    return np.moveaxis(stored, 0, 2)


def wide(rgb: Array) -> Array:
    low_bits = np.arange(rgb.size, dtype=np.uint16).reshape(rgb.shape) & 0xFF
    return (rgb.astype(np.uint16) << 8) | low_bits


def narrow(stored: Array) -> Array:
    return (stored >> 8).astype(np.uint8)


def with_alpha(rgb: Array) -> Array:
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    alpha[:, :20] = 64
    return np.dstack([rgb, alpha])


def without_alpha(stored: Array) -> Array:
    return stored[:, :, :3]


def straight_over_white(stored: Array) -> Array:
    alpha = stored[:, :, 3:] / 255
    return np.round(stored[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def grey_alpha(rgb: Array) -> Array:
    return with_alpha(rgb)[:, :, [0, 3]]


def grey_alpha_back(stored: Array) -> Array:
    return straight_over_white(stored[:, :, [0, 0, 0, 1]])


def inks(rgb: Array) -> Array:
    return np.dstack([255 - rgb, np.full(rgb.shape[:2], 20, np.uint8)])


def inks_back(stored: Array) -> Array:
    left = 1 - stored / 255
    return np.round(255 * left[:, :, :3] * left[:, :, 3:]).astype(np.uint8)


def bilevel(rgb: Array) -> Array:
    return rgb[:, :, 0] > 150


def bilevel_back(stored: Array) -> Array:
    return grey_back(stored.astype(np.uint8) * 255)


def negative_back(stored: Array) -> Array:
    return grey_back(255 - stored)


def twelve(rgb: Array) -> Array:
    return (rgb.astype(np.uint16) << 4) | 0xF


def twelve_back(stored: Array) -> Array:
    return (stored >> 4).astype(np.uint8)


@dataclass(frozen=True)
class Form:
    """A form of TIFF: its writer, the array and the picture that must come back."""

    name: str
    write: dict[str, Any] = field(default_factory=dict)
    stored: Callable[[Array], Array] = same
    back: Callable[[Array], Array] = same
    tolerance: int = 0


RGB: dict[str, Any] = {"photometric": "rgb"}
BLACK: dict[str, Any] = {"photometric": "minisblack"}
PALETTE = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16)

FORMS = [
    Form("plain", RGB),
    *[Form(c, {**RGB, "compression": c}) for c in ("lzw", "zlib", "deflate", "packbits", "zstd")],
    Form("lzma", {**RGB, "compression": "lzma"}),
    Form("lzw-predictor", {**RGB, "compression": "lzw", "predictor": True}),
    Form("strips", {**RGB, "compression": "zlib", "rowsperstrip": 5}),
    Form("tiles", {**RGB, "compression": "lzw", "tile": (16, 32)}),
    Form("one-big-tile", {**RGB, "tile": (64, 64)}),
    Form("bigtiff", {**RGB, "bigtiff": True, "compression": "lzw"}),
    Form("big-endian", {**RGB, "byteorder": ">"}, wide, narrow),
    Form("jpeg-ycbcr", {**RGB, "compression": "jpeg", "compressionargs": {"level": 95}},
         tolerance=32),
    Form("jpeg-rgb", {**RGB, "compression": "jpeg", "tile": (32, 32),
         "compressionargs": {"level": 98, "outcolorspace": "rgb"}}, tolerance=8),
    Form("jpeg-grey", {**BLACK, "compression": "jpeg", "compressionargs": {"level": 98}},
         grey_of, grey_back, tolerance=8),
    Form("jpeg2000", {**RGB, "compression": "jpeg2000"}),
    Form("planar", {**RGB, "planarconfig": "separate"}, planes, planes_back),
    Form("planar-lzw-tiles", {**RGB, "planarconfig": "separate", "compression": "lzw",
         "tile": (16, 16)}, planes, planes_back),
    Form("16-bit", RGB, wide, narrow),
    Form("16-bit-lzw-predictor", {**RGB, "compression": "lzw", "predictor": True}, wide, narrow),
    Form("16-bit-planar", {**RGB, "planarconfig": "separate"}, lambda a: planes(wide(a)),
         lambda s: narrow(planes_back(s))),
    Form("12-of-16-bit", {**RGB, "extratags": [(281, "H", 3, (4095,) * 3, True)]}, twelve,
         twelve_back),
    Form("grey", BLACK, grey_of, grey_back),
    Form("grey-16-bit", BLACK, lambda a: grey_of(wide(a)), lambda s: grey_back(narrow(s))),
    Form("grey-negative", {"photometric": "miniswhite"}, grey_of, negative_back),
    Form("grey-alpha", {**BLACK, "extrasamples": ["unassalpha"], "planarconfig": "contig"},
         grey_alpha, grey_alpha_back, tolerance=1),
    Form("bilevel", BLACK, bilevel, bilevel_back),
    Form("bilevel-negative", {"photometric": "miniswhite"}, bilevel,
         lambda s: bilevel_back(~s)),
    Form("palette", {"photometric": "palette", "colormap": PALETTE * 257}, grey_of,
         lambda s: PALETTE.T.astype(np.uint8)[s]),
    Form("rgba", {**RGB, "extrasamples": ["unassalpha"]}, with_alpha, straight_over_white,
         tolerance=1),
    Form("rgbx", {**RGB, "extrasamples": ["unspecified"]}, with_alpha, without_alpha),
    Form("cmyk", {"photometric": "separated"}, inks, inks_back, tolerance=1),
    Form("ome", {**RGB, "ome": True}),
    Form("imagej", {"imagej": True}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_form_comes_back_as_it_was_written(
    form: Form, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    stored = form.stored(rgb)
    path = tmp_path / "field.ome.tif"
    tifffile.imwrite(path, stored, **form.write)
    picture = read(path)
    assert picture.pixels.shape == (37, 53, 3)
    assert picture.pixels.flags.writeable
    difference = np.abs(picture.pixels.astype(int) - form.back(stored))
    assert difference.max() <= form.tolerance
    assert field_pages(path) == (0,)


def test_uncompressed_ycbcr_agrees_with_pillow(
    rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    ycbcr = Image.fromarray(rgb).convert("YCbCr")
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(ycbcr), photometric="ycbcr")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, np.array(ycbcr.convert("RGB")))


LIBTIFF_FORMS = [
    *[(mode, compression) for mode in ("1", "L", "RGB", "CMYK", "RGBA", "P", "I;16")
      for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate")],
    ("L", "jpeg"), ("RGB", "jpeg"), ("CMYK", "jpeg"), ("1", "group3"), ("1", "group4"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "compression"), LIBTIFF_FORMS)
def test_what_libtiff_writes_is_read_as_pillow_reads_it(
    mode: str, compression: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    if mode == "I;16":
        image = Image.fromarray(wide(rgb[:, :, 0]))
        expected = rgb[:, :, [0, 0, 0]]
    else:
        image = Image.fromarray(rgb).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    quality: dict[str, Any] = {"quality": 98} if compression == "jpeg" else {}
    image.save(tmp_path / "a.tif", compression=compression, **quality)
    difference = np.abs(read(tmp_path / "a.tif").pixels.astype(int) - expected)
    assert difference.max() <= (10 if compression == "jpeg" else 1)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_packed_samples_are_scaled_by_their_bits(bits: int, tmp_path: Path, read: Read) -> None:
    """Packed by hand, most significant bit first, rows padded to whole bytes."""
    values = [0, 1, (1 << bits) // 2, (1 << bits) - 1]
    row = "".join(f"{v:0{bits}b}" for v in values)
    row += "0" * (-len(row) % 8)
    data = int(row, 2).to_bytes(len(row) // 8, "big")
    path = tmp_path / "packed.tif"
    path.write_bytes(bare_tiff(data, width=4, height=1, bits=bits))
    full = (1 << bits) - 1
    expected = [v * 255 // full if bits < 8 else v >> (bits - 8) for v in values]
    assert read(path).pixels[0, :, 0].tolist() == expected


def bare_tiff(
    data: bytes, *, width: int, height: int, bits: int = 8, extra: dict[int, int] | None = None
) -> bytes:
    """A grey one-strip TIFF with its few tags; ``extra`` adds or replaces tags (as LONG)."""
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height,
        279: len(data), **(extra or {}),
    }  # fmt: skip
    body = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    body += struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", code, 4, 1, tags[code]) for code in sorted(tags))
    return body + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("stored", "write", "reason"),
    [
        (np.zeros((8, 8), np.float32), BLACK, "32-bit floating point"),
        (np.zeros((8, 8), np.int16), BLACK, "16-bit signed"),
        (np.zeros((8, 8), np.uint32), BLACK, "32-bit samples"),
        (np.zeros((2, 8, 8), np.uint8), {**BLACK, "planarconfig": "separate"}, "2 channels"),
        (np.zeros((3, 8, 8), np.uint8), {**BLACK, "planarconfig": "separate"}, "3 channels"),
        (np.zeros((8, 8, 5), np.uint8), RGB, "5 channels"),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "cielab"}, "CIELAB"),
        (np.zeros((4, 16, 16), np.uint8), {**BLACK, "volumetric": True, "tile": (4, 16, 16)},
         "4 planes"),
        (np.zeros((3, 8, 8), np.uint8), {**BLACK, "ome": True, "metadata": {"axes": "CYX"}},
         "3 channels in separate pages"),
        (np.zeros((2, 8, 8), np.uint16), {"imagej": True, "metadata": {"axes": "CYX"}},
         "2 channels in separate pages"),
        (np.zeros((8, 8), np.uint8), {**BLACK, "compression": "png"}, "compression PNG"),
    ],
)  # fmt: skip
def test_what_is_no_colour_image_is_refused(
    stored: Array, write: dict[str, Any], reason: str, tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **write)
    assert field_pages(path) == (0,)
    with pytest.raises(ImageError, match=reason):
        read(path)


# --- pages ---


def test_each_page_is_a_field(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for value in (10, 20, 30):
            tif.write(np.full((8, 9 + value, 3), value, np.uint8), photometric="rgb")
    assert field_pages(path) == (0, 1, 2)
    for page, value in enumerate((10, 20, 30)):
        pixels = read(path, page=page).pixels
        assert pixels.shape == (8, 9 + value, 3)
        assert np.all(pixels == value)
    with pytest.raises(ImageError, match="page 4 is missing"):
        read(path, page=3)


def test_thumbnails_masks_and_levels_are_no_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    rgb = np.zeros((64, 96, 3), np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(rgb[::8, ::8], photometric="rgb", subfiletype=1)  # a thumbnail comes first
        tif.write(rgb, photometric="rgb", tile=(16, 16), subifds=1)
        tif.write(rgb[::2, ::2], photometric="rgb", subfiletype=1)  # a level in a sub-directory
        tif.write(rgb[::2, ::2], photometric="rgb", tile=(16, 16))  # a level that does not say so
        tif.write(rgb[:, :, 0] > 1, photometric="mask", subfiletype=4)
        tif.write(rgb[:50], photometric="rgb", tile=(16, 16))  # another field
    assert field_pages(path) == (1, 4)


def test_a_file_of_thumbnails_only_is_one_field(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1)
    assert field_pages(path) == (0,)
    assert read(path).pixels.shape == (8, 8, 3)


def test_pages_of_different_depth_and_scale_in_one_file(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for um in (0.1, 0.25):
            tif.write(
                np.zeros((2, 8, 8, 3), np.uint8),
                photometric="rgb",
                metadata={"axes": "ZYXS", "PhysicalSizeX": um, "PhysicalSizeY": um},
            )
    assert field_pages(path) == (0, 2)  # planes of a depth are one field
    assert [read(path, page=p).um_per_px for p in range(4)] == [0.1, 0.1, 0.25, 0.25]


def test_a_chain_that_is_cut_off_leaves_a_row_for_the_loss(tmp_path: Path, read: Read) -> None:
    pages = [bare_tiff(bytes([v]) * 64, width=8, height=8) for v in (1, 2)]
    whole = bytearray(pages[0])
    whole[-4:] = struct.pack("<I", 10_000)  # the next page lies beyond the end
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert field_pages(path) == (0, 1)
    assert np.all(read(path).pixels == 1)
    with pytest.raises(ImageError, match="truncated TIFF: page 2 is missing"):
        read(path, page=1)


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    whole = bytearray(bare_tiff(b"\1" * 64, width=8, height=8))
    whole[-4:] = struct.pack("<I", 8 + 64)  # itself
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert field_pages(path) == (0,)


# --- bounds ---


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({256: 60_000, 257: 60_000}, "3600000000 pixels"),
        ({256: 0}, "empty"),
        ({257: 0}, "empty"),
        ({322: 2**31, 323: 2**31, 324: 8, 325: 64}, "tile size"),
        ({322: 0, 323: 16, 324: 8, 325: 64}, "damaged TIFF"),
        ({277: 60_000}, "channels|samples"),
        ({258: 60_000}, "samples"),
        ({259: 60_000}, "compression 60000"),
        ({262: 60_000}, "colour space 60000"),
        ({273: 2**32 - 1}, "damaged|truncated|outside"),
        ({279: 2**32 - 1, 259: 5}, "outside the file"),
        ({278: 1}, "1 strips or tiles are listed, not 8"),
        ({32997: 1_000_000}, "planes"),
    ],
)
def test_absurd_tags_are_refused(
    extra: dict[int, int], reason: str, tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(bare_tiff(b"\0" * 64, width=8, height=8, extra=extra))
    assert field_pages(path) == (0,)
    with pytest.raises(ImageError, match=reason):
        read(path)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_an_embedded_header_cannot_ask_for_memory(
    compression: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", compression=compression)
    data = bytearray(path.read_bytes())
    if compression == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    else:
        at = data.index(b"\xff\x4f\xff\x51") + 8
        data[at : at + 8] = struct.pack(">II", 65000, 65000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="embedded image of 65000 x 65000"):
        read(path)


def test_a_deflate_bomb_stays_within_its_strip(tmp_path: Path, read: Read) -> None:
    import zlib

    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    path = tmp_path / "a.tif"
    path.write_bytes(bare_tiff(bomb, width=8, height=8, extra={259: 8}))
    with pytest.raises(ImageError, match="damaged TIFF: "):
        read(path)
