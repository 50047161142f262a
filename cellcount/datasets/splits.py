"""Published splits: a ``splits.csv`` beside the data, list files, or folders named after splits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellcount.datasets.sources import MAX_SET_BYTES, read_table, read_text, relative_posix
from cellcount.errors import AnnotationError
from cellcount.files.names import NameLookup
from cellcount.images.file_types import IMAGE_SUFFIXES

SPLITS_FILE = "splits.csv"

_ALIASES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_FILE_COLUMNS = ("file", "image", "filename", "path", "file_name")


def split_name(text: str) -> str:
    """``valid``, ``Validation`` … as ``val``; a name that is no usual split as it stands."""
    text = text.strip()
    return _ALIASES.get(text.lower(), text)


def folder_split(path: Path, root: Path) -> str:
    """The split that a folder between root and file is named after, "" if none."""
    folders = PurePosixPath(relative_posix(path.parent, root)).parts
    return next((_ALIASES[f.lower()] for f in folders if f.lower() in _ALIASES), "")


@dataclass(frozen=True, slots=True)
class SplitTable:
    """A published ``splits.csv``: which file belongs to which split; empty if there is none.

    Attributes:
        path: of the table, None where there is none.
        split_of_file: file, as the table names it → split.
        lookup: finds the table's name of a file that is spelled a little differently.
    """

    path: Path | None = None
    split_of_file: dict[str, str] = field(default_factory=dict)
    lookup: NameLookup = field(default_factory=lambda: NameLookup(()))

    @classmethod
    def beside(cls, root: Path) -> SplitTable:
        """The ``splits.csv`` of a data set's root; raises AnnotationError if it is malformed."""
        path = root / SPLITS_FILE
        if not path.is_file():
            return cls()
        sheet = read_table(path)
        columns = {name.strip().lower(): index for index, name in enumerate(sheet.header)}
        file_column = next((columns[c] for c in _FILE_COLUMNS if c in columns), None)
        if file_column is None or "split" not in columns:
            raise AnnotationError(
                f"{path} has the columns {list(columns)}, expected file and split"
            )
        split_column = columns["split"]
        table: dict[str, str] = {}
        for _, _, row in sheet.body:
            if row[file_column].strip() and row[split_column].strip():
                name = PurePosixPath(row[file_column].strip().replace("\\", "/")).as_posix()
                table[name] = split_name(row[split_column])
        return cls(path, table, NameLookup(table))

    def of(self, path: Path) -> str:
        """The split of an image file, by its path from the root, then by its name; "" if none."""
        if self.path is None:
            return ""
        names = self._names_of(path, self.path.parent)
        return self.split_of_file[names[0]] if names else ""

    def complaints(self, paths: Iterable[Path]) -> list[str]:
        """What does not fit between the table and the images that were read."""
        if self.path is None:
            return []
        root = self.path.parent
        named = {path: self._names_of(path, root) for path in paths}
        known = {name for several in named.values() for name in several}
        lost = [name for name in self.split_of_file if name not in known]
        loose = [relative_posix(path, root) for path, names in named.items() if not names]
        texts = []
        if lost:
            texts.append(f"names {len(lost)} files without a usable image, first {lost[0]}")
        if loose:
            texts.append(f"does not name {len(loose)} of the images, first {loose[0]}")
        return texts

    def _names_of(self, path: Path, root: Path) -> list[str]:
        """What the table calls a file: its path from the root, its name, its stem."""
        found = map(self.lookup.find, (relative_posix(path, root), path.name, path.stem))
        return [name for name in found if name is not None]


def read_split_lists(folder: Path) -> dict[str, str]:
    """Stem → split from ``train.txt``, ``val.txt``, ``test.txt`` of a folder (Pascal VOC)."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem.lower() not in _ALIASES:
            continue  # trainval.txt is a union, RBC_train.txt is per class
        for line in read_text(path, MAX_SET_BYTES).splitlines():
            name = re.sub(r"\s+-?[01]$", "", line.strip())  # VOC may add a 1 or -1 per class
            if name:
                found[list_key(name)] = _ALIASES[path.stem.lower()]
    return found


def list_key(name: str) -> str:
    """A line of a list file, or a file name, reduced to what the two have in common."""
    last = PurePosixPath(name.strip().replace("\\", "/")).name
    stem, dot, suffix = last.rpartition(".")
    is_file = dot and f".{suffix.lower()}" in IMAGE_SUFFIXES | {".xml", ".txt"}
    return stem if is_file else last
