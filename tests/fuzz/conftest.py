"""A corpus of hostile images: good files of every format, mutated, and things that pose as images.

``CELLCOUNT_FUZZ`` sets how many mutated files a run makes (150), ``CELLCOUNT_FUZZ_SEED`` which.
"""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
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
from PIL import Image

Rng = np.random.Generator
COUNT = int(os.environ.get("CELLCOUNT_FUZZ", "150"))
SEED = int(os.environ.get("CELLCOUNT_FUZZ_SEED", "1"))
#: Larger TIFF files are read by windows.
MAX_PIXELS = 90_000

_PILLOW: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpg": ("JPEG", "RGB", {}),
    "progressive.jpg": ("JPEG", "RGB", {"progressive": True}),
    "cmyk.jpg": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGB", {}),
    "palette.png": ("PNG", "P", {}),
    "alpha.png": ("PNG", "RGBA", {}),
    "bmp": ("BMP", "RGB", {}),
    "webp": ("WEBP", "RGB", {}),
    "lossless.webp": ("WEBP", "RGB", {"lossless": True}),
    "gif": ("GIF", "P", {}),
}
_TIFF: dict[str, dict[str, Any]] = {
    "tif": {},
    "lzw.tif": {"compression": "lzw", "predictor": True, "rowsperstrip": 8},
    "jpeg.tif": {"compression": "jpeg", "tile": (64, 64)},
    "big.btf": {"compression": "zlib", "tile": (64, 64), "bigtiff": True},
    "jp2.tif": {"compression": "jpeg2000", "tile": (64, 64)},
    "ome.tif": {"compression": "zstd", "tile": (32, 32), "ome": True},
    "planes.tif": {"planarconfig": "separate", "tile": (64, 64)},
    "slide.svs": {"compression": "jpeg", "tile": (64, 64),
                  "description": "Aperio Image Library v11.2.1|MPP = 0.25", "metadata": None},
}  # fmt: skip


def _picture(width: int, height: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rgb = np.stack([225 - y / 9, 205 + x / 12, 200 - x / 20 - y / 20], axis=2)
    for cx, cy in ((20, 15), (40, 25), (30, 8)):
        rgb[np.hypot(x - cx, y - cy) < 6] = (190, 110, 130)
    return rgb.clip(0, 255).astype(np.uint8)


def good_files() -> dict[str, bytes]:
    """One sound file of every form, by the end of its name; TIFF also as large as a scan."""
    small, files = _picture(53, 37), {}
    for end, (image_format, mode, options) in _PILLOW.items():
        buffer = BytesIO()
        Image.fromarray(small).convert(mode).save(buffer, image_format, **options)
        files[end] = buffer.getvalue()
    for size, prefix in (((72, 66), ""), ((330, 290), "scan.")):
        for end, options in _TIFF.items():
            pixels = _picture(*size)
            if options.get("planarconfig"):
                pixels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
            buffer = BytesIO()
            tifffile.imwrite(buffer, pixels, photometric="rgb", **options)
            files[prefix + end] = buffer.getvalue()
    return files


def _truncated(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    return data[: rng.integers(len(data))]


def _flipped(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    changed = bytearray(data)
    reach = min(len(data), 400) if rng.integers(2) else len(data)
    for at in rng.integers(0, reach, rng.integers(1, 12)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def _overwritten(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A run of zeros, ones or noise somewhere."""
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    fill = (bytes(length), b"\xff" * length, rng.bytes(length))[rng.integers(3)]
    return (data[:start] + fill + data[start + length :])[: max(len(data), 1)]


def _another_header(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """Begins like another format."""
    length = int(rng.integers(4, 64))
    return others[rng.integers(len(others))][:length] + data[length:]


def _absurd_number(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A number of the header, in TIFF one of a tag wherever it stands, is enormous or zero."""
    absurd = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)[rng.integers(6)]
    if data[:4] == b"II*\0":
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        at = start + 2 + 12 * int(rng.integers(count)) + (4, 8)[rng.integers(2)]
        return data[:at] + struct.pack("<I", absurd) + data[at + 4 :]
    at = int(rng.integers(min(len(data) - 4, 120)))
    changed = data[:at] + struct.pack("><"[rng.integers(2)] + "I", absurd) + data[at + 4 :]
    if data[:4] == b"\x89PNG":  # so that the number, not the checksum, is what is wrong
        changed = changed[:29] + struct.pack(">I", zlib.crc32(changed[12:29])) + changed[33:]
    return changed


_MUTATIONS: tuple[Callable[[bytes, Rng, list[bytes]], bytes], ...] = (
    _truncated,
    _flipped,
    _overwritten,
    _another_header,
    _absurd_number,
)


def mutants(count: int, seed: int) -> dict[str, bytes]:
    """Damaged files by name, as many as are asked for."""
    rng = np.random.default_rng(seed)
    good = good_files()
    ends, others = list(good), list(good.values())
    made = {}
    for number in range(count):
        end = ends[number % len(ends)]
        mutate = _MUTATIONS[rng.integers(len(_MUTATIONS))]
        made[f"{number:04d}-{mutate.__name__[1:]}.{end}"] = mutate(good[end], rng, others)
    return made


class Marked:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def impostors(mark: Path) -> dict[str, bytes]:
    """Files with the names of images that are something else."""
    inner = good_files()["png"]
    zipped, tarred = BytesIO(), BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.png", inner)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../a.png"), BytesIO(b""))
    return {
        "zip.png": zipped.getvalue(),
        "gzip.jpg": gzip.compress(inner),
        "tar.tif": tarred.getvalue(),
        "page.jpg": b"<html><script>alert(1)</script>",
        "entity.png": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        "vector.webp": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "script.gif": b"#!/bin/sh\ntouch " + os.fsencode(mark) + b"\n",
        "program.bmp": b"\x7fELF\x02\x01\x01" + bytes(57),
        "pickle.tif": pickle.dumps(Marked(mark)),
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "nothing.png": b"",
        "one-byte.tif": b"I",
        "only-a-header.tif": b"II*\0\x08\0\0\0",
        "itself.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",  # its next page is its first
    }


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in (header, *chunks, (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    return data


def _zeros(mebibytes: int) -> bytes:
    """Deflated zeros: one block over and over, and the checksum that belongs to it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (mebibytes << 20) % 65521 << 16 | 1  # Adler-32
    return b"\x78\xda" + block * mebibytes + b"\x03\x00" + struct.pack(">I", checksum)


def bombs() -> dict[str, bytes]:
    """Small files that would unpack to gigabytes."""
    flood = _zeros(1024)  # a megabyte
    row = zlib.compress(bytes(100 * (1 + 3 * 100)))
    tiled = BytesIO()
    tifffile.imwrite(
        tiled, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(64, 64), compression="zlib"
    )
    tiled.seek(0)
    with tifffile.TiffFile(tiled) as file:
        tags = file.pages.first.tags
        places = {n: tags[n].valueoffset for n in ("TileOffsets", "TileByteCounts")}
    unpacks = bytearray(tiled.getvalue())
    struct.pack_into("<I", unpacks, places["TileOffsets"], len(unpacks))
    struct.pack_into("<I", unpacks, places["TileByteCounts"], len(flood))
    return {
        "header.png": _png(60_000, 60_000, (b"IDAT", row)),
        "stream.png": _png(100, 100, (b"IDAT", flood)),
        "text.png": _png(100, 100, (b"zTXt", b"a\0\0" + flood), (b"IDAT", row)),
        "profile.png": _png(100, 100, (b"iCCP", b"a\0\0" + flood), (b"IDAT", row)),
        "tile.tif": bytes(unpacks) + flood,
        "screen.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF7, 0, 0) + bytes(768),
        "header.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    }  # fmt: skip


@pytest.fixture(scope="session")
def corpus_of() -> Callable[[Path, Path], set[str]]:
    """``corpus_of(folder, mark)`` fills a folder, and returns the names of the sound files."""

    def fill(folder: Path, mark: Path) -> set[str]:
        good = {f"good.{end}": data for end, data in good_files().items()}
        for part, files in {
            "good": good,
            "mutants": mutants(COUNT, SEED),
            "impostors": impostors(mark),
            "bombs": bombs(),
        }.items():
            (folder / part).mkdir(parents=True)
            for name, data in files.items():
                (folder / part / name).write_bytes(data)
        return {f"good/{name}" for name in good}

    return fill


@pytest.fixture(scope="session")
def good_png() -> bytes:
    """The sound PNG of the corpus."""
    return good_files()["png"]


@pytest.fixture(scope="session")
def max_pixels() -> int:
    """The limit under which the larger files of the corpus are scans."""
    return MAX_PIXELS
