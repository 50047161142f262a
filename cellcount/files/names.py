"""Names that mean the same file or slide: other Unicode forms, and other letter case.

A Mac writes ``é`` as two characters (NFD), a keyboard as one (NFC). The exact name is taken where
it is there; else the one that differs in its Unicode form alone; else the only one that differs in
letter case as well.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path


def one_form(name: str) -> str:
    """The name in the form that names are compared in (NFC)."""
    return unicodedata.normalize("NFC", name)


def loosely(name: str) -> str:
    """The name without regard to Unicode form and letter case."""
    return one_form(one_form(name).casefold())


class NameLookup:
    """Finds the known name that a person means, despite letter case and Unicode form."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._by_form: dict[str, list[str]] = defaultdict(list)
        self._by_letters: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._names):
            self._by_form[one_form(name)].append(name)
            self._by_letters[loosely(name)].append(name)

    def find(self, name: str) -> str | None:
        """The known name, None where none or several fit."""
        if name in self._names:
            return name
        for found in (self._by_form.get(one_form(name)), self._by_letters.get(loosely(name))):
            if found is not None:
                return found[0] if len(found) == 1 else None
        return None


class Folders:
    """Finds files by the names that tables give them; each folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, NameLookup] = {}

    def find(self, folder: Path, relative: str) -> Path | None:
        """The file or folder that ``relative`` means from there, as the disk spells it.

        None where there is no such file, or where several fit.
        """
        path = folder / relative
        if there(path):
            return path
        found = Path(path.anchor)
        for part in path.parts[1:] if path.anchor else path.parts:
            if part == ".." or there(found / part):
                found /= part
                continue
            name = self._listed(found).find(part)
            if name is None:
                return None
            found /= name
        return found

    def _listed(self, folder: Path) -> NameLookup:
        if folder not in self._names:
            try:
                names = os.listdir(folder)
            except (OSError, ValueError):
                names = []
            self._names[folder] = NameLookup(names)
        return self._names[folder]


def there(path: Path) -> bool:
    """Return whether a path exists; False for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or a NUL: reading will say so
        return False
