"""Number of pictures in a file of which only the first is counted: animations and MPO."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import ImageFile

from cellcount.images.file_types import FileKind

FRAMES_CAUTION = "the file holds {}, of which the first is counted; save each field by itself"

#: More are not looked for: an endless animation would cost hours.
MOST_FRAMES = 1000
_MPO_ENTRIES, _LARGE_THUMBNAIL = 0xB002, "Large Thumbnail"
_GIF_COLOURS, _GIF_EXTENSION, _GIF_FRAME = 0x80, b"!", b","


def count_frames(image: ImageFile.ImageFile, file: BinaryIO, kind: FileKind) -> int:
    """Pictures in a file that Pillow has opened, at most ``MOST_FRAMES`` + 1; 1 where unclear."""
    if kind == "GIF":
        return gif_frames(file)[0]
    directory = getattr(image, "mpinfo", None)
    if isinstance(directory, dict):
        return _mpo_pictures(directory)
    frames = getattr(image, "n_frames", 1)
    return min(frames, MOST_FRAMES + 1) if isinstance(frames, int) else 1


def frames_text(frames: int) -> str:
    """Their number in words."""
    return f"{frames} frames" if frames <= MOST_FRAMES else f"more than {MOST_FRAMES} frames"


def _mpo_pictures(directory: dict[int, Any]) -> int:
    """Pictures of an MPO without the previews that cameras put beside them."""
    try:
        kinds = [entry["Attribute"]["MPType"] for entry in directory[_MPO_ENTRIES]]
    except (LookupError, TypeError):
        return 1
    return sum(not str(kind).startswith(_LARGE_THUMBNAIL) for kind in kinds) or 1


def gif_frames(file: BinaryIO) -> tuple[int, bool]:
    """Frames of a GIF, and whether its end is there; from the heads of its blocks alone."""
    file.seek(10)
    flags = file.read(3)[:1]
    if not flags:
        return 1, False
    file.seek(_colours_bytes(flags[0]), 1)
    frames = 0
    while frames <= MOST_FRAMES:
        block = file.read(1)
        if block == _GIF_EXTENSION:
            file.seek(1, 1)
        elif block == _GIF_FRAME and len(place := file.read(9)) == 9:
            file.seek(_colours_bytes(place[8]) + 1, 1)
            frames += 1
        else:
            return max(1, frames), bool(block)
        while (length := file.read(1)) and length[0]:
            file.seek(length[0], 1)
    return frames, True


def _colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & _GIF_COLOURS else 0
