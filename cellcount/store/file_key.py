"""State of an image file when it was analysed, and the check that it has not changed.

Path, size and times decide first, which costs one question to the file system; only where they
differ is the content compared, so that a copied, moved or touched file is not analysed again and a
changed one never passes for the old one.

Shapes: none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cellcount.core.records import ImageRef
from cellcount.files.digest import sha256_of

_GONE = "gone"


@dataclass(frozen=True, slots=True)
class FileKey:
    """Facts that must be unchanged for a stored result to hold.

    Attributes:
        given: identity, page, slide and given µm/px: what decides a result besides the pixels.
            Where no µm/px are given, the specimen too: its slides have scales of their own.
        state: absolute path, size, modification and change time of the file.
        sha256: of its content, "" where that is not known.
    """

    given: str
    state: str
    sha256: str = ""


def key_of(ref: ImageRef) -> FileKey:
    """The key of an image now, its content not looked at."""
    try:
        found = os.stat(ref.path)
        # The change time tells a renamed file from the one whose name it took.
        facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        state = ascii((os.path.abspath(ref.path), *facts))
    except (OSError, ValueError):
        state = _GONE
    given: tuple[object, ...] = (ref.image, ref.page, ref.slide, ref.um_per_px)
    if ref.specimen and ref.um_per_px is None:
        given = (*given, ref.specimen)
    return FileKey(ascii(given), state)


def with_content(key: FileKey, ref: ImageRef) -> FileKey:
    """The key with the hash of the content, if the file has not changed since it was taken."""
    if key.state == _GONE:
        return key
    try:
        digest = _digest(ref.path, key.state)
    except OSError:
        return key
    return replace(key, sha256=digest) if key_of(ref).state == key.state else key


def still_holds(stored: FileKey, ref: ImageRef) -> FileKey | None:
    """The present key of an image that is as it was, None where it has changed."""
    now = key_of(ref)
    if now.given != stored.given:
        return None
    if now.state == stored.state:
        return stored
    if not stored.sha256 or with_content(now, ref).sha256 != stored.sha256:
        return None
    return replace(now, sha256=stored.sha256)


def image_key(sha256: str, page: int, image: str) -> str:
    """Name an image by its content, wherever it lies and whatever it is called.

    Args:
        sha256: of the content of its file, "" where that is not known.
        page: of the file, from 0.
        image: its identity, which must do where the content is not known.
    """
    return f"{sha256}#{page}" if sha256 else name_key(image)


def name_key(image: str) -> str:
    """Name an image by its identity, where its content is not known or several have the same."""
    return f"name:{image}"


@lru_cache(maxsize=16)  # the pages of a file share it
def _digest(path: Path, state: str) -> str:
    """SHA-256 of a file, cached by ``state``, which differs between versions of the file."""
    del state
    return sha256_of(path)
