"""Published splits: a ``splits.csv`` beside the data, list files, or folders named after splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellcount.datasets.sources import MAX_SET_BYTES, read_table, read_text, relative_posix
from cellcount.errors import AnnotationError
from cellcount.files.names import NameLookup, loosely
from cellcount.images.file_types import IMAGE_SUFFIXES

SPLITS_FILE = "splits.csv"

_ALIASES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_WORDS = "|".join(sorted(_ALIASES, key=len, reverse=True))
_SPLIT_WORD = re.compile(rf"(?<![a-z])({_WORDS})(?![a-z])")
_IMAGES = "(?:images?|imgs?|set|data)"
_SPLIT_FOLDER = re.compile(rf"(?:{_IMAGES}[_-])?({_WORDS})(?:[_-]?(?:19|20)\d\d|[_-]?{_IMAGES})?")
_FILE_COLUMNS = ("file", "image", "filename", "path", "file_name")


def split_name(text: str) -> str:
    """``valid``, ``Validation`` … as ``val``; a name that is no usual split as it stands."""
    text = text.strip()
    return _ALIASES.get(text.lower(), text)


def folder_split(path: Path, root: Path) -> str:
    """The split that a folder between root and file is named after, "" if none."""
    folders = PurePosixPath(relative_posix(path.parent, root)).parts
    return next((split for folder in folders if (split := _split_of_folder(folder))), "")


def _split_of_folder(name: str) -> str:
    """``train`` of ``train``, ``Train2017``, ``train_images`` or ``images-train``."""
    match = _SPLIT_FOLDER.fullmatch(name.lower())
    return _ALIASES[match[1]] if match else ""


def split_of_name(stem: str) -> str:
    """The one split that a file name holds as a word: ``train`` of ``instances_train2017``."""
    found = {_ALIASES[word] for word in _SPLIT_WORD.findall(stem.lower())}
    return found.pop() if len(found) == 1 else ""


@dataclass(frozen=True, slots=True)
class SplitTable:
    """A published ``splits.csv``: which file belongs to which split; empty if there is none.

    Attributes:
        path: of the table, None where there is none.
        split_of_file: file, as the table names it → split; "" for one with several.
        lookup: finds the table's name of a file that is spelled a little differently.
        contradictions: name with several splits → what to say.
    """

    path: Path | None = None
    split_of_file: dict[str, str] = field(default_factory=dict)
    lookup: NameLookup = field(default_factory=lambda: NameLookup(()))
    contradictions: dict[str, str] = field(default_factory=dict)

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
        contradictions: dict[str, str] = {}
        for _, _, row in sheet.body:
            if row[file_column].strip() and row[split_column].strip():
                name = PurePosixPath(row[file_column].strip().replace("\\", "/")).as_posix()
                split = split_name(row[split_column])
                if table.setdefault(name, split) != split:
                    what = f"{name} stands in {table[name]} and in {split}; neither is used"
                    contradictions.setdefault(name, what)
        table |= dict.fromkeys(contradictions, "")
        return cls(path, table, NameLookup(table), contradictions)

    def of(self, path: Path) -> str:
        """The split of an image file, by its path from the root, then by its name; "" if none."""
        name = self._name_of(path)
        return "" if name is None else self.split_of_file[name]

    def resolve(self, paths: Iterable[Path]) -> dict[Path, str | None]:
        """The split of each image: "" where none is named, None where that is contradictory.

        A bare name must fit one image only.
        """
        if self.path is None:
            return dict.fromkeys(paths, "")
        found: dict[Path, str | None] = {}
        for path in paths:
            name = self._name_of(path)
            found[path] = "" if name is None else self.split_of_file[name] or None
        for images in self._shared(found).values():
            found |= dict.fromkeys(images)
        return found

    def _name_of(self, path: Path) -> str | None:
        """Find the name in the table that means an image; None if there is none."""
        names = [] if self.path is None else self._names_of(path, self.path.parent)
        return names[0] if names else None

    def _shared(self, paths: Iterable[Path]) -> dict[str, list[Path]]:
        """Bare names that mean more than one image."""
        images: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            name = self._name_of(path)
            if name is not None and "/" not in name:
                images[name].append(path)
        return {name: several for name, several in images.items() if len(several) > 1}

    def complaints(self, paths: Iterable[Path]) -> list[str]:
        """Mismatches between the table and the images that were read."""
        if self.path is None:
            return []
        root = self.path.parent
        named = {path: self._names_of(path, root) for path in paths}
        known = {name for several in named.values() for name in several}
        lost = [name for name in self.split_of_file if name not in known]
        loose = [relative_posix(path, root) for path, names in named.items() if not names]
        texts = list(self.contradictions.values())
        texts += [
            f"the name {name} fits {len(images)} images; no split is taken"
            for name, images in self._shared(named).items()
        ]
        if lost:
            texts.append(f"names {len(lost)} files without a usable image, first {lost[0]}")
        if loose:
            texts.append(f"does not name {len(loose)} of the images, first {loose[0]}")
        return texts

    def _names_of(self, path: Path, root: Path) -> list[str]:
        """Names under which a table may list a file: path from the root, name, stem."""
        found = map(self.lookup.find, (relative_posix(path, root), path.name, path.stem))
        return [name for name in found if name is not None]


@dataclass(slots=True)
class ListedSplits:
    """Splits by lists of file names, as YOLO and Pascal VOC have them.

    Attributes:
        split_of: path from the list's folder or root, in lower case, without suffix → split.
        complaints: what is wrong with the lists.
    """

    split_of: dict[tuple[str, ...], str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _by_name: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)

    def read(self, path: Path, split: str) -> None:
        """Adds the names of a list file."""
        for line in read_text(path, MAX_SET_BYTES).splitlines():
            name = re.sub(r"\s+-?[01]$", "", line.strip())  # VOC may add a 1 or -1 per class
            if name:
                self.add(name, split)

    def add(self, name: str, split: str) -> None:
        """Adds one name; one that stands in several lists belongs to none."""
        key = _listed_key(name)
        before = self.split_of.setdefault(key, split)
        if before not in (split, ""):
            self.complaints.append(f"{name} stands in {before} and in {split}; neither is used")
            self.split_of[key] = ""
        self._by_name.setdefault(key[-1], [])
        if key not in self._by_name[key[-1]]:
            self._by_name[key[-1]].append(key)

    def resolve(self, paths: Iterable[Path], root: Path) -> dict[Path, str | None]:
        """The split of each file: "" where no list names it, None where none can be told.

        Of the listed names that are the end of a file's path the longest counts; a list from
        another machine has other folders above. A bare name must fit one file only.
        """
        named = {path: self._fitting(_listed_key(relative_posix(path, root))) for path in paths}
        bare: Counter[tuple[str, ...]] = Counter(
            key for keys in named.values() for key in keys if len(key) == 1
        )
        found: dict[Path, str | None] = {}
        for path, keys in named.items():
            splits = {self.split_of[key] for key in keys}
            shared = any(bare[key] > 1 for key in keys)
            if len(splits) > 1 or shared:
                why = f"{bare[keys[0]]} files" if shared else f"the splits {sorted(splits)}"
                name = relative_posix(path, root)
                self.complaints.append(f"the name of {name} fits {why}; no split is taken")
                found[path] = None
            else:
                found[path] = (splits.pop() or None) if splits else ""
        return found

    def _fitting(self, mine: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The listed names that fit a path best."""
        keys = [key for key in self._by_name.get(mine[-1], []) if _may_be(key, mine)]
        shared = [_shared_end(key, mine) for key in keys]
        return [key for key, length in zip(keys, shared, strict=True) if length == max(shared)]

    def names(self) -> Iterator[tuple[str, str]]:
        """Each listed name without suffix, with its split."""
        return (("/".join(key), split) for key, split in self.split_of.items())


def read_split_lists(folder: Path) -> ListedSplits:
    """``train.txt``, ``val.txt`` and ``test.txt`` of a folder."""
    listed = ListedSplits()
    for path in sorted(folder.glob("*.txt")):
        # trainval.txt is a union, RBC_train.txt is per class
        if path.stem.lower() in _ALIASES:
            listed.read(path, _ALIASES[path.stem.lower()])
    return listed


def list_key(name: str) -> str:
    """Return the common key of a line of a list file and a file name."""
    last = PurePosixPath(name.strip().replace("\\", "/")).name
    stem, dot, suffix = last.rpartition(".")
    is_file = dot and f".{suffix.lower()}" in IMAGE_SUFFIXES | {".xml", ".txt"}
    return stem if is_file else last


def _listed_key(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    folders = [part for part in parts[:-1] if part not in (".", "..", "/")]
    return tuple(loosely(part) for part in (*folders, list_key(parts[-1]) if parts else ""))


def _shared_end(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(first[::-1], second[::-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _may_be(listed: tuple[str, ...], mine: tuple[str, ...]) -> bool:
    """Return whether a listed path may mean the file: not where they name different splits."""
    if _shared_end(listed, mine) > 1 or len(listed) == 1:
        return True
    splits = [
        next((s for part in parts[:-1] if (s := _split_of_folder(part))), "")
        for parts in (listed, mine)
    ]
    return "" in splits or splits[0] == splits[1]
