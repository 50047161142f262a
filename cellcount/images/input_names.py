"""The names of INPUTs, which begin the names of their images where there are several.

An INPUT is called like its folder, a file given by name like the file. Those of one name are told
apart by the folders above them, ``slides~ward-a`` and ``slides~ward-b``, so a name is a matter of
the folder and not of the order of the INPUTs; and a name that a folder had in an earlier run of the
same output stays its own for as long as that folder exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

from cellcount.core.records import ImageRef

_MARK = "~"


@dataclass(frozen=True, slots=True)
class InputHome:
    """Path by which an INPUT is named.

    Attributes:
        path: a folder, a manifest without its suffix, or a file given by name.
        also: another path by which an earlier run may know it.
        is_file: it is a file, whose suffix ends its name.
    """

    path: Path
    also: Path | None = None
    is_file: bool = False

    @property
    def real(self) -> str:
        """Real path, the same for every spelling."""
        return os.path.realpath(self.path)

    @property
    def reals(self) -> set[str]:
        """All real paths by which an earlier run may know the INPUT."""
        return {os.path.realpath(path) for path in (self.path, self.also) if path is not None}

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders above it, and its name."""
        parts = Path(os.path.abspath(self.path)).parts[1:]
        return parts or ("root",)

    def called(self, tail: Sequence[str] = ()) -> str:
        """Name of the INPUT, with as many folders as tell it from others of that name."""
        stem, suffix = os.path.splitext(self.parts[-1]) if self.is_file else (self.parts[-1], "")
        return _MARK.join([stem, *tail]) + suffix


def input_names(homes: Sequence[InputHome], known: Mapping[str, str]) -> list[str]:
    """Name every INPUT.

    Args:
        homes: of the INPUTs, all of them files or none; the same path twice is one INPUT.
        known: name → real path, from an earlier run.
    """
    reals = [home.real for home in homes]
    first: dict[str, InputHome] = {}
    for real, home in sorted(zip(reals, homes, strict=True), key=lambda pair: pair[1].parts):
        first.setdefault(real, home)
    by_path: dict[str, list[str]] = {}
    for name, path in known.items():
        by_path.setdefault(path, []).append(name)
    names = {real: kept for real, home in first.items() if (kept := _kept(home, by_path))}
    present = set[str]().union(*(home.reals for home in first.values()))
    taken = {name for name, path in known.items() if path not in present and _is_there(path)}
    taken |= set(names.values())
    unnamed: dict[str, list[str]] = {}
    for real in first.keys() - names.keys():
        unnamed.setdefault(first[real].called(), []).append(real)
    for alike in map(sorted, (unnamed[name] for name in sorted(unnamed))):
        for real in alike:
            rivals = [first[other] for other in alike if other != real]
            names[real] = next(n for n in _candidates(first[real], rivals) if n not in taken)
            taken.add(names[real])
    return [names[real] for real in reals]


def _kept(home: InputHome, known: Mapping[str, Sequence[str]]) -> str:
    """The name that an earlier run gave, "" where it gave none."""
    plain = home.called()
    stem, suffix = os.path.splitext(plain) if home.is_file else (plain, "")
    for path in sorted(home.reals) if known else ():
        for name in known.get(path, ()):
            if name == plain or (name.startswith(stem + _MARK) and name.endswith(suffix)):
                return name
    return ""


def _candidates(home: InputHome, rivals: Sequence[InputHome]) -> Iterator[str]:
    """Names of an INPUT, the shortest that tells it from its rivals first."""
    above = home.parts[:-1]
    theirs = [rival.parts[:-1] for rival in rivals]
    for depth in range(len(above) + 1):
        tail = above[len(above) - depth :]
        if all(parts[max(0, len(parts) - depth) :] != tail for parts in theirs):
            yield home.called(tail)
    for number in count(2):  # another one is literally called like that
        yield home.called([*above, str(number)])


def _is_there(real: str) -> bool:
    """Return whether a folder, a file, or a manifest called without its suffix still exists."""
    return os.path.exists(real) or os.path.exists(f"{real}.csv")


def names_used(refs: Iterable[ImageRef], folder: Path) -> dict[str, str]:
    """Tell from the images of a run which folders and files their names begin with.

    Args:
        refs: of the run; its images were named ``NAME/path/below/the/folder.png``, and files
            of one name ``name.png`` and ``name~2.png``.
        folder: where relative paths of images start.

    Returns:
        Name → real path.
    """
    used: dict[str, str] = {}
    for ref in refs:
        parts = PurePosixPath(ref.image.partition("#page=")[0]).parts
        if not parts:  # a file that is itself called so
            continue
        name, *below = parts
        path = folder / ref.path
        if name in used or len(below) > len(path.parents):
            continue
        if below:
            used[name] = os.path.realpath(path.parents[len(below) - 1])
        elif _MARK in name:
            used[name] = os.path.realpath(path)
    return used
