"""Files of a data set: bounded reading, image sizes from headers, folders walked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from cellcount.core.records import ImageRef
from cellcount.errors import AnnotationError
from cellcount.files.encodings import decoded
from cellcount.files.sheets import TABLE_SUFFIXES, Sheet, read_sheet
from cellcount.images.file_types import DRAWN_MARK, EXPORT_MARK
from cellcount.images.read import probe_size
from cellcount.settings import DEFAULT_MAX_PIXELS

#: Sheets of a workbook that hold labels, where they are called so.
TABLE_SHEETS = ("labels", "boxes", "cells")
# A label file of one image; a JSON of LabelMe may carry the picture itself.
MAX_LABEL_BYTES = 16 * 2**20
MAX_LABELME_BYTES = 256 * 2**20
# One file for a whole data set: COCO's own training file has 450 MB.
MAX_SET_BYTES = 2**30

_LOOKED_INTO, _REASONS_SHOWN = 20, 3


def read_text(path: Path, max_bytes: int = MAX_LABEL_BYTES) -> str:
    """The text of a file (UTF-8, with or without mark); raises AnnotationError."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise AnnotationError(
                f"{path} has {size:,} bytes, expected at most {max_bytes:,} for such a file"
            )
        return decoded(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        where = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise AnnotationError(f"{path} is not UTF-8 text{where}; save it as UTF-8") from error


def read_json(path: Path, max_bytes: int = MAX_SET_BYTES) -> object:
    """The parsed JSON of a file; raises AnnotationError."""
    try:
        return json.loads(read_text(path, max_bytes))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path} is not valid JSON: {error}") from error


def read_table(path: Path) -> Sheet:
    """A CSV or spreadsheet file, the header first; raises AnnotationError."""
    return read_sheet(path, TABLE_SHEETS, max_bytes=MAX_SET_BYTES, error=AnnotationError)


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


def walk_files(folder: Path, passed_over: list[Path] | None = None) -> list[Path]:
    """All files below a folder, sorted, hidden ones left out; links to folders are followed.

    Folders below it that cellcount has written are passed over and added to ``passed_over``.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link back up would never end
            folders.clear()
            continue
        visited.add(real)
        if is_export(Path(parent)) and Path(parent) != folder:
            folders.clear()
            if passed_over is not None:
                passed_over.append(Path(parent))
            continue
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found.extend(Path(parent, name) for name in names if not name.startswith("."))
    return sorted(found)


def is_export(folder: Path) -> bool:
    """Return whether cellcount has marked the folder as one with its pictures or labels."""
    return any((folder / mark).exists() for mark in (EXPORT_MARK, DRAWN_MARK))


def files_near(source: Path, suffix: str | tuple[str, ...], depth: int = 1) -> list[Path]:
    """``source`` itself if it has the suffix, or such files of a folder, ``depth`` folders down."""
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    if source.is_file():
        return [source] if source.suffix.lower() in suffixes else []
    found = [p for level in range(depth + 1) for p in source.glob("*/" * level + "*")]
    written = {p for p in found if p.is_dir() and is_export(p)}
    return sorted(
        p
        for p in found
        if p.suffix.lower() in suffixes
        and not p.name.startswith(".")
        and not written & set(p.parents)
        and p.is_file()
    )


def unreadable_files(source: Path) -> str:
    """Files that may be annotations but cannot be read, each on a line with the reason."""
    reasons = []
    readers: tuple[tuple[str | tuple[str, ...], Callable[[Path], object]], ...] = (
        (".json", read_json),
        (TABLE_SUFFIXES, read_table),
        (".xml", read_text),
    )
    for suffix, read in readers:
        for path in files_near(source, suffix)[:_LOOKED_INTO]:
            try:
                read(path)
            except AnnotationError as error:
                reasons.append(f"\nNot readable: {error}")
    return "".join(reasons[:_REASONS_SHOWN])
