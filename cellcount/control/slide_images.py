"""Images of a slide, found by the names that a list of known cells gives them.

The list may be that of a larger run. Analyze names images relative to its INPUT, so the same image
is ``1.png``, ``a/1.png`` or ``slides/a/1.png``, by the INPUT that was given. Two such names share
the end of their paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath, PurePosixPath

from cellcount.control.known_cells import KnownCell
from cellcount.core.records import ImageRef
from cellcount.files.names import loosely


class SlideImages:
    """The images of a slide, found by the ends of their paths.

    Args:
        refs: the images.
    """

    def __init__(self, refs: Iterable[ImageRef]) -> None:
        self._parts = {ref.image: _parts_of(ref) for ref in refs}
        self._loose = {image: _loosely(PurePosixPath(image).parts) for image in self._parts}

    def named(self, name: str) -> list[str]:
        """The images that a name may mean: one where it is plain, none of another slide.

        Args:
            name: of an image, as a list has it.
        """
        if name in self._parts:
            return [name]
        wanted = _loosely(PurePosixPath(name).parts)
        same = [image for image, own in self._loose.items() if own == wanted]
        return same or [
            image
            for image, parts in self._parts.items()
            if _ends_alike(wanted, parts) or _ends_alike(wanted, _without_suffix(parts))
        ]


def cells_by_image(known: Sequence[KnownCell]) -> dict[str, list[KnownCell]]:
    """The cells of each image, in the order of the list."""
    found: dict[str, list[KnownCell]] = {}
    for one in known:
        found.setdefault(one.image, []).append(one)
    return found


def _parts_of(ref: ImageRef) -> tuple[str, ...]:
    """Folders and name of an image's file on the disk, with its page if it has one."""
    parts = PurePath(os.path.abspath(ref.path)).parts
    name = PurePosixPath(ref.image).name
    return _loosely((*parts[1:-1], name))


def _loosely(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(loosely(part) for part in parts)


def _without_suffix(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)


def _ends_alike(wanted: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Return whether one path is the end of the other."""
    length = min(len(wanted), len(parts))
    return length > 0 and wanted[-length:] == parts[-length:]
