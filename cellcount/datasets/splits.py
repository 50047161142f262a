"""Published splits: a ``splits.csv`` beside the data, list files, or folders named after splits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellcount.datasets.sources import MAX_SET_BYTES, read_table, read_text, relative_posix
from cellcount.errors import AnnotationError
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
    """A published ``splits.csv``: which file belongs to which split; empty if there is none."""

    path: Path | None = None
    split_of_file: dict[str, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, root: Path) -> SplitTable:
        """The ``splits.csv`` of a data set's root; raises AnnotationError if it is malformed."""
        path = root / SPLITS_FILE
        if not path.is_file():
            return cls()
        header, *rows = read_table(path) or [[]]
        columns = {name.strip().lower(): index for index, name in enumerate(header)}
        file_column = next((columns[c] for c in _FILE_COLUMNS if c in columns), None)
        if file_column is None or "split" not in columns:
            raise AnnotationError(
                f"{path} has the columns {list(columns)}, expected file and split"
            )
        split_column = columns["split"]
        table: dict[str, str] = {}
        for row in rows:
            if len(row) > max(file_column, split_column) and row[file_column].strip():
                name = PurePosixPath(row[file_column].strip().replace("\\", "/")).as_posix()
                table[name] = split_name(row[split_column])
        return cls(path, table)

    def of(self, path: Path) -> str:
        """The split of an image file, by its path from the root, then by its name; "" if none."""
        if self.path is None:
            return ""
        for key in _keys(path, self.path.parent):
            if key in self.split_of_file:
                return self.split_of_file[key]
        return ""

    def complaints(self, paths: Iterable[Path]) -> list[str]:
        """What does not fit between the table and the images that were read."""
        if self.path is None:
            return []
        keys = [_keys(path, self.path.parent) for path in paths]
        known = {key for several in keys for key in several}
        lost = [name for name in self.split_of_file if name not in known]
        loose = [several[0] for several in keys if not set(several) & self.split_of_file.keys()]
        texts = []
        if lost:
            texts.append(f"names {len(lost)} files without a usable image, first {lost[0]}")
        if loose:
            texts.append(f"does not name {len(loose)} of the images, first {loose[0]}")
        return texts


def _keys(path: Path, root: Path) -> list[str]:
    """Ways in which a table may call a file: path from the root, name, stem."""
    return [relative_posix(path, root), path.name, path.stem]


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
