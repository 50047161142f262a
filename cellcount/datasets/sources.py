"""Files of a data set: bounded reading, image sizes from headers, and finding named images."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellcount.core.records import ImageRef
from cellcount.errors import AnnotationError
from cellcount.files.names import loosely
from cellcount.files.sheets import Sheet, read_sheet
from cellcount.files.text import unescape_text
from cellcount.images.file_types import IMAGE_SUFFIXES, has_image_name
from cellcount.images.read import probe_size
from cellcount.settings import DEFAULT_MAX_PIXELS

# A label file of one image; a JSON of LabelMe may carry the picture itself.
MAX_LABEL_BYTES = 16 * 2**20
MAX_LABELME_BYTES = 256 * 2**20
# One file for a whole data set: COCO's own training file has 450 MB.
MAX_SET_BYTES = 2**30

_IMAGE_FOLDERS = ("", "images", "JPEGImages", "Images")


def read_text(path: Path, max_bytes: int = MAX_LABEL_BYTES) -> str:
    """The text of a file (UTF-8, with or without mark); raises AnnotationError."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise AnnotationError(
                f"{path} has {size:,} bytes, expected at most {max_bytes:,} for such a file"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


def read_json(path: Path, max_bytes: int = MAX_SET_BYTES) -> object:
    """The parsed JSON of a file; raises AnnotationError."""
    try:
        return json.loads(read_text(path, max_bytes))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path} is not valid JSON: {error}") from error


def read_table(path: Path) -> Sheet:
    """A CSV or spreadsheet file, the header first; raises AnnotationError."""
    return read_sheet(path, max_bytes=MAX_SET_BYTES, error=AnnotationError)


def relative_posix(path: Path, folder: Path) -> str:
    """A POSIX path from the folder, or an absolute one from another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def displayed_size_px(path: Path) -> tuple[int, int]:
    """Width and height with the stated orientation applied, from the header alone.

    Raises ImageError where the file is missing, unreadable, no image, or too large to be opened.
    """
    return probe_size(ImageRef(path, path.name, ""), max_pixels=DEFAULT_MAX_PIXELS)


def walk_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, hidden ones left out; links to folders are followed."""
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link back up would never end
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found.extend(Path(parent, name) for name in names if not name.startswith("."))
    return sorted(found)


def files_near(source: Path, suffix: str | tuple[str, ...], depth: int = 1) -> list[Path]:
    """``source`` itself if it has the suffix, or such files of a folder, ``depth`` folders down."""
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    if source.is_file():
        return [source] if source.suffix.lower() in suffixes else []
    found = [p for level in range(depth + 1) for p in source.glob("*/" * level + "*")]
    return sorted(
        p
        for p in found
        if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()
    )


class ImageFinder:
    """Finds the image that an annotation names, as people move and rename things.

    First the stated relative path is tried from the annotation file, the root and their usual
    image folders. Then, below the root, the same file name in any case and Unicode form, then the
    same stem with another image suffix; the longest matching end of the path wins, then the nearest
    folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, named: str, beside: Path) -> Path | None:
        """The image called ``named`` in the annotation file ``beside``, or None.

        A name that a table of ours escaped for spreadsheets is understood, too.
        """
        plain = unescape_text(named.strip())
        return self._find(named, beside) or (
            self._find(plain, beside) if plain != named.strip() else None
        )

    def _find(self, named: str, beside: Path) -> Path | None:
        name = PurePosixPath(named.strip().replace("\\", "/"))
        if not name.name:
            return None
        for base in (beside.parent, self.root):
            for folder in _IMAGE_FOLDERS:
                path = base / folder / name
                if os.path.isfile(path):  # Path.is_file raises for an overlong name
                    return path
        letters = loosely(name.name)
        candidates = self._by_name.get(letters) or self._by_stem.get(_stem(letters), [])
        if not candidates:
            return None
        return max(candidates, key=lambda path: _nearness(path, name, beside))

    @cached_property
    def images(self) -> list[Path]:
        """All image files below the root, sorted."""
        return [path for path in walk_files(self.root) if has_image_name(path)]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        index = defaultdict(list)
        for path in self.images:
            index[loosely(path.name)].append(path)
        return dict(index)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        index = defaultdict(list)
        for path in self.images:
            index[_stem(loosely(path.name))].append(path)
        return dict(index)


def _stem(name: str) -> str:
    """The name without an image suffix; other dots belong to the name."""
    path = PurePosixPath(name)
    return path.stem if path.suffix in IMAGE_SUFFIXES else name


def _nearness(path: Path, name: PurePosixPath, beside: Path) -> tuple[int, int]:
    """Matching trailing parts of the stated path, then shared leading folders."""
    tail = _common(path.parts[::-1], name.parts[::-1])
    return tail, _common(path.parts, beside.parts)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if loosely(a) != loosely(b):
            break
        count += 1
    return count
