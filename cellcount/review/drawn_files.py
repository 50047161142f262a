"""Folders of files with drawn cells, one per image, as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cellcount.analysis.stored_results import StoredResults
from cellcount.errors import UsageError
from cellcount.files.text import and_more
from cellcount.review import imagej, qupath
from cellcount.review.drawn_cells import DrawnChanges, DrawnReader
from cellcount.store.corrected import Editor

DrawnForm = Literal["geojson", "rois"]
_FORMS = {
    "geojson": (qupath.SUFFIX, qupath.read_geojson),
    "rois": (imagej.SUFFIX, imagej.read_rois),
}
_MOST_ERRORS = 20


def read_drawn(
    folder: Path, form: DrawnForm, stored: StoredResults, editor: Editor
) -> DrawnChanges:
    """Read every file of a folder, and find what a person changed.

    Args:
        folder: with the files, in it or below.
        form: of the files.
        stored: the run.
        editor: who changed them.

    Raises:
        UsageError: there is no file, or some cannot be used: each is named.
    """
    suffix, read = _FORMS[form]
    files = sorted(p for p in folder.rglob("*") if p.name.endswith(suffix) and p.is_file())
    if not files:
        raise UsageError(f"{folder} holds no *{suffix}; name the folder that the program wrote")
    reader, errors = DrawnReader(stored, editor), list[str]()
    taken: dict[str, Path] = {}
    for path in files:
        try:
            drawn = read(path, folder, stored)
            other = taken.setdefault(drawn.ref.image, path)
            if other is not path:
                raise ValueError(f"{other.relative_to(folder)} is of the same image; keep one")
            reader.take(drawn)
        except (ValueError, OSError) as error:
            errors.append(f"  {path.relative_to(folder)}: {error}")
    if errors:
        shown = "\n".join(errors[:_MOST_ERRORS])
        more = and_more(len(errors), _MOST_ERRORS)
        more = f"\n {more}" if more else ""
        raise UsageError(f"{folder} was not applied, nothing was changed:\n{shown}{more}")
    return reader.changes
