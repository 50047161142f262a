"""The earlier run with the same --out: its names for INPUTs are kept, and its images compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cellcount.core.records import ImageRef
from cellcount.errors import UsageError
from cellcount.files.text import listed, number_of
from cellcount.images.find import Plan
from cellcount.images.input_names import names_used
from cellcount.store.file_key import key_of, with_content
from cellcount.store.journal import Journal
from cellcount.store.journal_file import peek

_NAMES = "input names"
_SHOWN = 5


def known_names(journal: Path) -> dict[str, str]:
    """The names of INPUTs in the last run of a journal, each with the real path of its folder.

    An earlier version did not keep them, so they are told from its images. Empty where there is no
    journal, or where it cannot be read, which is told when it is opened.
    """
    try:
        named = peek(journal, f"user:{_NAMES}")
        return _names(named) if named is not None else _names_of(peek(journal, "user:run"))
    except (ValueError, KeyError, TypeError):
        return {}


def _names(stored: object) -> dict[str, str]:
    named = stored if isinstance(stored, dict) else {}
    return {name: str(path) for name, path in named.items()}


def _names_of(run: object) -> dict[str, str]:
    refs, folder = _refs_of(run)
    return names_used(refs, folder)


def keep_names(journal: Journal, plan: Plan, known: Mapping[str, str]) -> None:
    """Store the names of a run for the next one, and names of earlier runs that it did not use."""
    used = names_used(plan.refs, Path.cwd())
    journal.set_value(_NAMES, {**known, **used, **plan.names})


def earlier_images(journal: Journal) -> list[ImageRef]:
    """The images of the run before, their paths absolute; none where there was none."""
    try:
        refs, _ = _refs_of(journal.earlier_value("run"))
    except (ValueError, KeyError, TypeError):
        return []
    return refs


def _refs_of(run: object) -> tuple[list[ImageRef], Path]:
    if not isinstance(run, dict):
        return [], Path()
    folder = Path(run["folder"])
    refs = [ImageRef(**(one | {"path": folder / one["path"]})) for one in run["refs"]]
    return refs, folder


def left_images(
    journal: Journal, earlier: Iterable[ImageRef], refs: Sequence[ImageRef]
) -> list[str]:
    """Images of the run before that this run lacks: neither their file nor their content is in it.

    Args:
        journal: knows the contents.
        earlier: images of the run before.
        refs: images of this run.
    """
    named = {ref.image for ref in refs}
    unnamed = [ref for ref in earlier if ref.image not in named]
    files = {(os.path.abspath(ref.path), ref.page) for ref in refs} if unnamed else set()
    gone = [ref.image for ref in unnamed if (os.path.abspath(ref.path), ref.page) not in files]
    if not gone:
        return []
    contents = journal.contents([*named, *gone])
    present = {contents[image] for image in named if image in contents}
    return [image for image in gone if contents.get(image) not in present]


def refuse_other_images(
    journal: Journal, earlier: Sequence[ImageRef], refs: Sequence[ImageRef], out: Path
) -> None:
    """Refuse to replace a table of which no image, by file or by content, is in this run.

    Args:
        journal: knows the contents.
        earlier: images of the run before, their paths absolute.
        refs: images of this run.
        out: the table.

    Raises:
        UsageError: the run before was of other images.
    """
    contents = set(journal.contents([ref.image for ref in earlier]).values())
    if not contents or not refs:
        return
    files = {os.path.abspath(ref.path) for ref in earlier}
    if any(os.path.abspath(ref.path) in files for ref in refs):
        return
    if any(with_content(key_of(ref), ref).sha256 in contents for ref in refs):
        return  # the same images, moved or copied
    raise UsageError(
        f"{out} holds the counts of {number_of(len(earlier), 'image')} of another folder "
        f"(first {earlier[0].path}), and none of them is among the "
        f"{number_of(len(refs), 'image')} of this run; name another --out, name all INPUTs to have "
        "them in one table, or give --fresh to replace it"
    )


def told_left(images: Sequence[str]) -> str:
    """Name the images that have left the tables, in a sentence; "" for none."""
    if not images:
        return ""
    are, have, their = ("is", "has", "its") if len(images) == 1 else ("are", "have", "their")
    return (
        f"{number_of(len(images), 'image')} of the run before {are} not named any more and {have} "
        f"left the tables ({listed(images, _SHOWN)}); the journal keeps {their} results: "
        "name all INPUTs, or another --out"
    )
