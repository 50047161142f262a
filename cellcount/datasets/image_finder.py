"""Finds the picture that an annotation names, as people move, rename and copy things.

A name that fits several pictures is decided by what the annotation says (folders, split, size) or
not at all: boxes on another picture are worse than boxes left out.
"""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellcount.datasets.sources import displayed_size_px, relative_posix, walk_files
from cellcount.datasets.splits import folder_split
from cellcount.errors import ImageError
from cellcount.files.names import loosely
from cellcount.files.text import unescape_text
from cellcount.images.file_types import IMAGE_SUFFIXES, has_image_name

_IMAGE_FOLDERS = ("", "images", "JPEGImages", "Images")
# Folders of every data set, which say nothing about which picture is meant.
_ROLES = {
    "images", "image", "imgs", "img", "jpegimages", "pictures", "data",
    "annotations", "annotation", "labels", "label", "xml", "xmls", "json", "jsons", "csv", "ann",
}  # fmt: skip
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Clues:
    """Clues to a picture that its annotation gives beside the name.

    Attributes:
        split: "" where it names none.
        only_split: whether the picture must lie in the split's folder; a table may deal pictures
            out anew, a file called after a split does not.
        size_px: width and height, (0, 0) where it states none.
        size_bytes: of the file, 0 where it states none.
    """

    split: str = ""
    only_split: bool = True
    size_px: tuple[int, int] = (0, 0)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FoundImage:
    """The picture that an annotation means, or the reason why none was taken.

    Attributes:
        path: None where there is none, or where several fit.
        why: in that case, what to say after "its image NAME".
        by_name: whether the name itself was found, not just its stem with another suffix.
        rivals: pictures that the name fits as well, where none was taken.
    """

    path: Path | None
    why: str = ""
    by_name: bool = True
    rivals: tuple[Path, ...] = ()


_NOWHERE = FoundImage(None, "was not found")


class ImageFinder:
    """Finds images below a root by the names that annotations give them.

    A stated path is tried from the annotation file, the root and their usual image folders. A name
    is looked for below the root in any case and any Unicode form, then its stem with another image
    suffix; the longest matching end of the path wins. Of several pictures left, the annotation's
    split, its own folder, its folders' names and the stated sizes decide, or nothing does.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.passed_over: list[Path] = []

    def find(self, named: str, beside: Path, clues: Clues | None = None) -> FoundImage:
        """The image called ``named`` in the annotation file ``beside``.

        A name that a table of ours escaped for spreadsheets is understood, too.
        """
        clues = clues or Clues()
        found = self._find(named.strip(), beside, clues)
        plain = unescape_text(named.strip())
        if found is _NOWHERE and plain != named.strip():
            return self._find(plain, beside, clues)
        return found

    def find_of_file(self, named: str, path: Path, clues: Clues) -> tuple[FoundImage, bool, str]:
        """The image of an annotation file that stands for one image.

        The image of the file's own name counts before another one that the file names: pictures
        are renumbered together with their annotation files, and the name inside stays behind.

        Returns:
            The image; whether that is sure; what is to be said about it.
        """
        found = self.find(named, path, clues) if named else _NOWHERE
        own = self.find(path.stem, path, clues)
        if own.path is None or found.path is None:
            found = found if found.path is not None or found.rivals else own
            if found.path is None and own.path is not None:
                found = own
            is_own = found is own or not named
            stem = "" if found.path is None else loosely(found.path.stem)
            return found, is_own or stem == loosely(path.stem), ""
        near = own.path.parent in (path.parent, found.path.parent)
        if _stem(loosely(found.path.name)) == _stem(loosely(own.path.name)) or not near:
            return found, True, ""
        if not found.by_name:  # only another picture has the stem that is named
            return own, True, ""
        said = f"names {named}, but is called as {own.path.name}; its boxes are taken as of that"
        return own, True, said

    def _find(self, named: str, beside: Path, clues: Clues) -> FoundImage:
        name = PurePosixPath(named.replace("\\", "/"))
        if not name.name:
            return _NOWHERE
        if len(name.parts) > 1:
            stated = self._at_stated_path(name, beside)
            if stated is not None:
                return FoundImage(stated)
        key = loosely(name.name)
        by_name = self._by_name.get(key, [])
        fitting = by_name or self._by_stem.get(_stem(key), [])
        if not fitting:
            outside = self._at_stated_path(name, beside)
            return _NOWHERE if outside is None else FoundImage(outside)
        return self._chosen(fitting, name, beside, clues, bool(by_name))

    def _at_stated_path(self, name: PurePosixPath, beside: Path) -> Path | None:
        for base in (beside.parent, self.root):
            for folder in _IMAGE_FOLDERS:
                path = base / folder / name
                if os.path.isfile(path):  # Path.is_file raises for an overlong name
                    return path
        return None

    def _chosen(
        self,
        fitting: Sequence[Path],
        name: PurePosixPath,
        beside: Path,
        clues: Clues,
        by_name: bool,  # noqa: FBT001 -- handed on
    ) -> FoundImage:
        """The one picture that is meant among those of the name."""
        tails = [_common(_keys(path.parts[::-1]), _keys(name.parts[::-1])) for path in fitting]
        left = [p for p, tail in zip(fitting, tails, strict=True) if tail == max(tails)]
        split = folder_split(self.root / name, self.root) or clues.split
        if max(tails) <= 1 and split:
            of_split = self._of_split(left, split)
            if not of_split and clues.only_split:
                others = _listed(left, self.root)
                why = f"was not found in the split {split}, only as {others}"
                return FoundImage(None, why, rivals=tuple(left))
            left = of_split or left
        elif max(tails) <= 1 and name.parent.name and loosely(name.parent.name) in self._folders:
            why = f"was not found in {name.parent.name}, only as {_listed(left, self.root)}"
            return FoundImage(None, why, rivals=tuple(left))
        for clue in self._clues(beside, clues):
            if len(left) > 1:
                left = [path for path in left if clue(path)] or left
        if len(left) > 1:
            left = self._nearest(left, beside)
        if len(left) > 1 and not _are_copies(left):
            why = f"could be {_listed(left, self.root)} (write the folder into the name)"
            return FoundImage(None, why, rivals=tuple(left))
        return FoundImage(left[0], by_name=by_name)

    def _of_split(self, paths: Sequence[Path], split: str) -> list[Path]:
        """Return the paths in the split's folder, else those in no split's folder."""
        splits = [folder_split(path, self.root) for path in paths]
        for wanted in (split, ""):
            found = [path for path, own in zip(paths, splits, strict=True) if own == wanted]
            if found:
                return found
        return []

    def _clues(self, beside: Path, clues: Clues) -> list[Callable[[Path], bool]]:
        usual = [base / folder for folder in _IMAGE_FOLDERS for base in (beside.parent, self.root)]
        tests: list[Callable[[Path], bool]] = [lambda path: path.parent == beside.parent]
        if clues.size_bytes:
            tests.append(lambda path: path.stat().st_size == clues.size_bytes)
        if all(clues.size_px):
            tests.append(lambda path: _size(path) == tuple(clues.size_px))
        mine = _tell_tale_folders(beside, self.root)
        if not mine:
            tests.append(lambda path: path.parent in usual)
        return tests

    def _nearest(self, paths: Sequence[Path], beside: Path) -> list[Path]:
        """Return the paths that share the most folder names with the annotation file."""
        mine = _tell_tale_folders(beside, self.root)
        shared = [len(mine & _tell_tale_folders(path, self.root)) for path in paths]
        return [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]

    @cached_property
    def images(self) -> list[Path]:
        """All image files below the root, sorted, without those that cellcount has written."""
        files = walk_files(self.root, self.passed_over)
        return [path for path in files if has_image_name(path)]

    @cached_property
    def _folders(self) -> set[str]:
        """Names of folders that hold images; a path that names one means that folder."""
        return {loosely(path.parent.name) for path in self.images} - _ROLES

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


def _keys(parts: Sequence[str]) -> list[str]:
    return [loosely(part) for part in parts]


def _stem(name: str) -> str:
    """The name without an image suffix; other dots belong to the name."""
    path = PurePosixPath(name)
    return path.stem if path.suffix in IMAGE_SUFFIXES else name


def _tell_tale_folders(path: Path, root: Path) -> set[str]:
    """Names of the folders between root and file, without names that every data set has."""
    parts = PurePosixPath(relative_posix(path.parent, root)).parts
    return {loosely(part) for part in parts} - _ROLES - {".", ".."}


def _listed(paths: Sequence[Path], root: Path) -> str:
    names = [relative_posix(path, root) for path in paths[:_SHOWN]]
    more = len(paths) - len(names)
    if more:
        return f"{', '.join(names)} or {more} more"
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return displayed_size_px(path)
    except ImageError:
        return None


def _are_copies(paths: Sequence[Path]) -> bool:
    """Return whether all are the same bytes; then any of them is the picture that is meant."""
    first, *others = paths
    try:
        return all(filecmp.cmp(first, other, shallow=False) for other in others)
    except OSError:
        return False


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Number of leading items that are alike."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
