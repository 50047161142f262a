"""Marks on the pictures that cellcount writes, so that no run takes them for fields.

- A folder of annotated pictures or review crops holds ``DRAWN_MARK``: it is never an INPUT.
- A folder of an exported data set holds ``EXPORT_MARK``: it is passed over below an INPUT, since
  its pictures are copies, and read where it is the INPUT itself.
- Charts and drawn pictures carry ``PICTURE_TEXT`` in their PNG, or as the comment of their JPEG,
  wherever they are copied to.

Rendered fields carry none: they are images to count.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from cellcount.images.file_types import EXPORT_MARK

#: Text in every PNG that was drawn: keyword and what it says.
PICTURE_TEXT = {"cellcount": "drawn by cellcount, no field"}
#: Bytes at the start of a file in which the texts of a PNG or JPEG are looked for.
MARKED_BYTES = 1024

_PNG, _TEXT, _PIXELS = b"\x89PNG\r\n\x1a\n", b"tEXt", b"IDAT"
_JPEG, _COMMENT, _SCAN = b"\xff\xd8", 0xFE, 0xDA
_DRAWN = "a picture that cellcount has drawn"
_DRAWN_BY = (
    (b"cellcount\0", _DRAWN),
    (b"Software\0Matplotlib", "a chart that Matplotlib has drawn"),
)


def png_mark() -> PngInfo:
    """Text chunk (Pillow's ``pnginfo``) that marks a drawn picture."""
    info = PngInfo()
    for key, text in PICTURE_TEXT.items():
        info.add_text(key, text)
    return info


def jpeg_mark() -> bytes:
    """Comment (Pillow's ``comment``) that marks a drawn picture as JPEG."""
    return "\n".join(f"{key}: {text}" for key, text in PICTURE_TEXT.items()).encode()


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an exported data set."""
    return os.path.exists(folder / EXPORT_MARK)


def drawn_by(head: bytes) -> str:
    """Read the mark of a drawn picture from its first ``MARKED_BYTES`` bytes; "" without one."""
    if head.startswith(_JPEG):
        return _DRAWN if jpeg_mark() in _comments(head) else ""
    if not head.startswith(_PNG):
        return ""
    at, texts = len(_PNG), []
    while at + 8 <= len(head) and head[at + 4 : at + 8] != _PIXELS:
        length = int.from_bytes(head[at : at + 4], "big")
        if head[at + 4 : at + 8] == _TEXT:
            texts.append(head[at + 8 : at + 8 + length])
        at += 12 + length
    return next((what for start, what in _DRAWN_BY if any(t.startswith(start) for t in texts)), "")


def _comments(head: bytes) -> list[bytes]:
    """List the comments before the pixels of a JPEG, as far as the given bytes go."""
    at, found = len(_JPEG), []
    while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] != _SCAN:
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at + 1] == _COMMENT:
            found.append(head[at + 4 : at + 2 + length])
        at += 2 + length
    return found
