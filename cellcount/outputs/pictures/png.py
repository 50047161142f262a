"""PNG files of drawn pictures, with texts in them.

Pillow tries five filters on each row and compresses with zlib's default strategy, which takes more
than twice as long as one filter and runs of equal bytes, and leaves a larger file of photographs.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_LEVEL = 1
#: Bytes of the signature and of the header chunk, which stand first in every file.
_HEADER_BYTES = 8 + 25


def write_png(file: BinaryIO, pixels: NDArray[np.uint8], texts: Mapping[str, str]) -> None:
    """Write a picture to an open file.

    Args:
        file: to write to.
        pixels: the picture.
        texts: keywords and what they say, in Latin-1; they stand before the pixels.
    """
    form = imagecodecs.PNG
    content = imagecodecs.png_encode(
        np.ascontiguousarray(pixels),
        level=_LEVEL,
        strategy=form.STRATEGY.RLE,
        filter=form.FILTER.UP,
    )
    file.write(content[:_HEADER_BYTES])
    for keyword, text in texts.items():
        file.write(_chunk(b"tEXt", f"{keyword}\0{text}".encode("latin-1")))
    file.write(content[_HEADER_BYTES:])


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk as the PNG specification lays it out: length, name, content, CRC."""
    length = struct.pack(">I", len(content))
    return length + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
