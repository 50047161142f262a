"""Truncated image files: those that still hold every pixel, and those that lost some.

A JPEG, BMP or GIF is decoded several times, each time with another end put in place of the one it
lost: where all pixels agree, none of them came from the missing part. Pillow itself reads a PNG
that has all of its pixels, and a WebP is cut to its whole parts. What has lost a pixel stays an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from cellcount.images.file_types import FileKind

UNFINISHED_CAUTION = (
    "the file ends too early, but all of its pixels are there; compare it with the original"
)

#: A whole picture takes fewer bytes than this, so that a large file is not read for nothing.
_MOST_BYTES = 1 << 30
_FILL_BYTES = 4096
_FILLS = (b"", b"\x55" * _FILL_BYTES, b"\xaa" * _FILL_BYTES, b"\x33" * _FILL_BYTES)
_ENDS: dict[str, bytes] = {"JPEG": b"\xff\xd9", "BMP": b"\0" * 4, "GIF": b"\0;"}
_PNG_END = b"IEND"


def completed(
    file: BinaryIO, kind: FileKind, opened: Callable[[BinaryIO], Image.Image]
) -> Image.Image | None:
    """The loaded image of a file that ends too early, None where pixels are missing.

    Args:
        file: the whole file.
        kind: its format.
        opened: opens a file of this format, within the limits.
    """
    if file.seek(0, 2) > _MOST_BYTES:
        return None
    file.seek(0)
    data = file.read()
    if kind not in _ENDS or (kind == "JPEG" and not _has_all_scans(data)):
        return None
    data = data.rstrip(b"\xff") if kind == "JPEG" else data
    first, *others = (data + fill + _ENDS[kind] for fill in _FILLS)
    image = _loaded(opened, first)
    if image is None or not all(_same(image, _loaded(opened, other)) for other in others):
        return None
    return image


def _loaded(opened: Callable[[BinaryIO], Image.Image], data: bytes) -> Image.Image | None:
    try:
        image = opened(BytesIO(data))
        image.load()
    except Exception:  # noqa: BLE001 (whatever it is, the first error is the one to tell)
        return None
    return image


def _same(first: Image.Image, second: Image.Image | None) -> bool:
    return second is not None and np.array_equal(np.asarray(first), np.asarray(second))


def _has_all_scans(data: bytes) -> bool:
    """Return whether a JPEG holds the complete data of every colour component."""
    components: set[int] = set()
    is_progressive = False
    finished: dict[int, int] = {}  # component → coefficients that are known to their last bit
    for marker, body in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            is_progressive = marker in (0xC2, 0xCA)
            components = set(body[6 : 6 + 3 * body[5] : 3])
        elif marker == 0xDA and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            reached = range(first, last + 1) if is_progressive else range(64)
            known = sum(1 << at for at in reached if at < 64) if not bits & 0x0F else 0
            for component in body[1 : 1 + 2 * body[0] : 2]:
                finished[component] = finished.get(component, 0) | known
    return bool(components) and all(finished.get(c) == (1 << 64) - 1 for c in components)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each segment of a JPEG, without the coded data between them."""
    at = 2
    while 0 <= at < len(data) - 3:
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF, *range(0xD0, 0xD8)):
            at = data.find(b"\xff", at + 1)
            continue
        if data[at + 1] == 0xD9:
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def png_lacks_end(file: BinaryIO) -> bool:
    """Return whether a PNG has no end chunk; only the heads of its chunks are read."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        if head[4:] == _PNG_END:
            return len(file.read(4)) < 4
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return True


def whole_webp(data: bytes) -> bytes | None:
    """A WebP cut off after its picture, with a sound header; None where the picture is cut."""
    at, found = 12, False
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            break
        if data[at : at + 4] in (b"VP8 ", b"VP8L", b"ANMF"):
            found = True
        at += 8 + length + length % 2
    if not found:
        return None
    kept = data[:at] + b"\0" * (at - min(at, len(data)))
    return b"RIFF" + (at - 8).to_bytes(4, "little") + kept[8:]
