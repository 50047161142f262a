"""Ten, twelve or fourteen bits in sixteen (W32): said, with what the file would have to state."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.faults.counting import count, read
from tests.faults.recipes import Fields, Run

Pixels = NDArray[np.uint8]


def wide(rgb: Pixels, bits: int) -> NDArray[np.uint16]:
    """Samples of a camera of so many bits, in the lower bits of 16."""
    wide = (rgb.astype(np.uint16) << (bits - 8)) | (rgb >> max(0, 16 - bits))
    return wide.astype(np.uint16)


def png16(path: str, samples: NDArray[np.uint16]) -> None:
    """Written by hand: Pillow cannot write 16-bit colour."""
    height, width = samples.shape[:2]
    colour = 2 if samples.ndim == 3 else 0
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(name + body))
        data += struct.pack(">I", len(body)) + name + body + checksum
    Path(path).write_bytes(data)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("form", ["rgb", "grey", "planar", "big-endian", "png", "png grey"])
def test_the_caution_tells_the_bits(form: str, bits: int, fields: Fields, folder: Path) -> None:
    samples = wide(fields.pixels(1), bits)
    if form == "rgb":
        tifffile.imwrite("f.img", samples, photometric="rgb")
    elif form == "grey":
        tifffile.imwrite("f.img", samples[..., 1], photometric="minisblack", compression="lzw")
    elif form == "planar":
        tifffile.imwrite("f.img", np.moveaxis(samples, 2, 0), photometric="rgb",
                         planarconfig="separate")  # fmt: skip
    elif form == "big-endian":
        tifffile.imwrite("f.img", samples, photometric="rgb", byteorder=">")
    else:
        png16("f.img", samples if form == "png" else samples[..., 1])
    full = (1 << bits) - 1
    caution = read("f.img").cautions[0]
    assert f"no sample exceeds {full} of 65535, as in a picture of {bits} bits" in caution
    assert ("MaxSampleValue" in caution) == (not form.startswith("png"))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("statement", ["MaxSampleValue", "SMaxSampleValue", "OME"])
def test_what_the_file_states_is_honoured(
    statement: str, bits: int, fields: Fields, folder: Path
) -> None:
    rgb, full = fields.pixels(0), (1 << bits) - 1
    samples = wide(rgb, bits)
    if statement == "OME":
        tifffile.imwrite("f.ome.tif", samples, photometric="rgb",
                         metadata={"axes": "YXS", "SignificantBits": bits})  # fmt: skip
    else:
        code = {"MaxSampleValue": 281, "SMaxSampleValue": 341}[statement]
        tags = [(code, "H", 3, (full,) * 3, True)]
        tifffile.imwrite("f.ome.tif", samples, photometric="rgb", extratags=tags, metadata=None)
    picture = read("f.ome.tif")
    np.testing.assert_array_equal(picture.pixels, rgb)
    assert picture.cautions == ()


def test_full_range_and_eight_bits_are_no_matter(fields: Fields, folder: Path) -> None:
    rgb = fields.pixels(0)
    tifffile.imwrite("wide.tif", rgb.astype(np.uint16) << 8, photometric="rgb")
    tifffile.imwrite("dark.tif", rgb // 20, photometric="rgb")
    png16("wide.png", (rgb.astype(np.uint16) << 8).astype(np.uint16))
    for name in ("wide.tif", "dark.tif", "wide.png"):
        assert [c for c in read(name).cautions if "no sample" in c] == []


def test_an_opaque_alpha_does_not_hide_the_range(fields: Fields, folder: Path) -> None:
    samples = wide(fields.pixels(0), 12)
    opaque = np.full((*samples.shape[:2], 1), 65535, np.uint16)
    tifffile.imwrite("f.tif", np.dstack([samples, opaque]), photometric="rgb",
                     extrasamples=["unassalpha"])  # fmt: skip
    assert "4095 of 65535" in read("f.tif").cautions[0]


def test_the_reason_says_it(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    tifffile.imwrite("s/f.tif", fields.pixels(0).astype(np.uint16) << 4, photometric="rgb")
    row = count(run, "s").rows["f.tif"]
    assert row.status == "excluded"
    assert "no sample exceeds 4095 of 65535, as in a picture of 12 bits" in row.reason
    assert "MaxSampleValue 4095 (TIFF tag 281) or SignificantBits 12 (OME)" in row.reason
