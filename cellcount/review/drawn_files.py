"""Folders of files with drawn cells, one per image, as other programs write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import ImageRef
from cellcount.errors import UsageError
from cellcount.outputs.forms import BUILT_IN, check_needs
from cellcount.review import imagej, qupath
from cellcount.review.drawn_cells import DrawnChanges, DrawnImage, DrawnReader
from cellcount.review.not_applied import not_applied
from cellcount.store.corrected import Editor

DrawnForm = Literal["geojson", "rois"]
_FORMS: dict[DrawnForm, tuple[str, Callable[[Path, str, int], DrawnImage]]] = {
    "geojson": (qupath.SUFFIX, qupath.read_geojson),
    "rois": (imagej.SUFFIX, lambda path, _image, _count: imagej.read_rois(path)),
}


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
        UsageError: there is no file, the library of the form is not installed, or some files
            cannot be used: each is named.
    """
    check_needs(BUILT_IN[form])
    suffix, read = _FORMS[form]
    files = sorted(p for p in folder.rglob("*") if p.name.endswith(suffix) and p.is_file())
    if not files:
        raise UsageError(f"{folder} holds no *{suffix}; name the folder that the program wrote")
    reader, errors, named = DrawnReader(stored, editor), list[str](), stored.by_name()
    taken: dict[str, Path] = {}
    for path in files:
        relative = path.relative_to(folder).as_posix()
        try:
            image = _image_of(relative.removesuffix(suffix), named)
            other = taken.setdefault(image, path)
            if other is not path:
                raise ValueError(f"{other.relative_to(folder)} is of the same image; keep one")
            known = stored.journal.corrected(named[image])
            count = 0 if known is None else len(known.result.cells)
            reader.take(named[image], read(path, image, count))
        except (ValueError, OSError) as error:
            errors.append(f"{relative}: {error}")
    if errors:
        raise not_applied(folder, errors)
    return reader.changes


def _image_of(relative: str, named: Mapping[str, ImageRef]) -> str:
    """Name the image that a file of cells belongs to.

    Args:
        relative: path of the file below its folder, without its own ending.
        named: what outputs call an image → the image.

    Raises:
        ValueError: none fits, or several do.
    """
    if relative in named:
        return relative
    fits = [
        name
        for name in named
        if relative in (name.rsplit("/", 1)[-1], name.rsplit("/", 1)[-1].rsplit(".", 1)[0])
        or relative == name.rsplit(".", 1)[0]
    ]
    if len(fits) != 1:
        raise ValueError(f"these results have no image {relative!r}; keep the names of the files")
    return fits[0]
