"""From the INPUTs of a user to the list of fields: folders, files, patterns and manifests.

Identity rules
- ``image`` is the POSIX path relative to its INPUT; with several INPUTs it begins with the INPUT's
  name, and INPUTs of one name are told apart by the folders above them (see `input_names`). A
  pattern's INPUT is its leading folder without wildcards, a manifest's is its own folder (or the
  images' common folder, where some lie elsewhere). A file given by name is called by its name.
- Pages of a multi-page TIFF are ``a.tif#page=1``, ``a.tif#page=2`` and so on, as the file counts
  them; a file with one field has no suffix.
- ``slide`` is the manifest's, else the folder part of ``image``, else the INPUT's name (for a file
  given by name: the name of its folder).
- The option's um/px goes before the manifest's.

Hidden files and folders are left out, and so is what cellcount itself has written: the run's own
files, folders of annotated pictures and exported data sets, charts. So are thumbnails and bins of
NAS devices and operating systems. Whatever else gives no row is said with its reason.
Folders reached through symbolic links are read last, and each folder and file once, hard links
included.
"""

from __future__ import annotations

import difflib
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cellcount.core.records import ImageRef, path_order
from cellcount.errors import ImageError, UsageError
from cellcount.files.sheets import TABLE_SUFFIXES
from cellcount.images.file_types import (
    DRAWN_MARK,
    HEAD_BYTES,
    file_kind,
    has_image_name,
    open_regular,
    special_file,
    why,
)
from cellcount.images.input_names import InputHome, input_names
from cellcount.images.manifest import ManifestRow, read_manifest
from cellcount.images.marks import is_export
from cellcount.images.optional_formats import has_optional_name, why_not_read
from cellcount.images.read import FieldsIn, fields_in
from cellcount.images.scanner_slides import is_slide, slide_identity, slide_parts
from cellcount.images.system_files import APPLE_DOUBLE, file_reason, folder_reason


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Something that gets no row, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Fields of a run in path order, and the files that were passed over.

    Attributes:
        refs: the fields.
        passed_over: what gets no row.
        names: of the INPUTs, each with the real path that it stands for.
    """

    refs: tuple[ImageRef, ...]
    passed_over: tuple[PassedOver, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Source:
    """One INPUT, called after ``home``: images are named relative to ``root``.

    Attributes:
        file: what was given by name, None for a folder, a pattern or a manifest.
    """

    root: Path
    home: Path
    found: tuple[tuple[Path, ManifestRow | None], ...]
    file: Path | None = None


def find_images(
    inputs: Sequence[str],
    *,
    um_per_px: float | None = None,
    own_files: Iterable[Path] = (),
    annotated: Path | None = None,
    known: Mapping[str, str] | None = None,
) -> Plan:
    """The fields that INPUTs name.

    Args:
        inputs: files, folders, patterns, manifests.
        um_per_px: scale of all fields, where the user gives one.
        own_files: tables and the like that this run writes; not even mentioned.
        annotated: folder of this run's annotated pictures, where it has one.
        known: names of INPUTs in an earlier run, with the real paths that they stood for.

    Raises:
        UsageError: an INPUT is not there, or is a folder of annotated pictures.
    """
    search = _Search(
        own_files=frozenset(os.path.realpath(path) for path in own_files),
        drawn={} if annotated is None else {os.path.realpath(annotated): True},
    )
    sources = [source for text in inputs for source in search.sources(text)]
    homes = [InputHome(source.home, source.root) for source in sources]
    labels = input_names(homes, known or {})
    named = [source.file for source in sources if source.file is not None]
    files = [InputHome(file, is_file=True) for file in named]
    file_names = input_names(files, known or {})
    names = _Names(search, dict(zip(named, file_names, strict=True)), several=len(sources) > 1)
    refs = [
        ref if um_per_px is None else replace(ref, um_per_px=um_per_px)
        for source, label in zip(sources, labels, strict=True)
        for path, row in source.found
        for ref in names.refs(source, label, path, row)
    ]
    refs.sort(key=lambda ref: path_order(ref.image))
    said = sorted(search.passed_over, key=lambda item: (item.path.parts, item.reason))
    called = zip((*labels, *file_names), (*homes, *files), strict=True)
    used = {name: home.real for name, home in called}
    return Plan(tuple(refs), tuple(said), used)


@dataclass(slots=True)
class _Search:
    """Walk over INPUTs that remembers the files it reached, so that none is counted twice.

    Attributes:
        own_files: files of this run, by their real path.
        drawn: real path of a folder → whether annotated pictures lie in it.
    """

    own_files: frozenset[str] = frozenset()
    drawn: dict[str, bool] = field(default_factory=dict)
    passed_over: list[PassedOver] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)
    folders: dict[str, Path] = field(default_factory=dict)
    files: dict[str | tuple[int, int], Path] = field(default_factory=dict)
    slides: dict[str, Path] = field(default_factory=dict)

    def sources(self, text: str) -> Iterator[_Source]:
        """The INPUT that ``text`` names: nothing where it was named before or is no file."""
        if not text or "\0" in text:
            raise UsageError(f"INPUT {text!r} is not a path; name a file, a folder or a manifest")
        self._refuse_drawn(text)
        path = Path(text)
        kind = _kind(path)
        pattern = kind == "file is gone" and glob.has_magic(text)
        real = text if pattern else os.path.realpath(path)
        if real in self.inputs:
            self.say(path, "INPUT was named before")
            return
        self.inputs.add(real)
        if pattern:
            yield self._pattern(text)
        elif kind == "folder":
            yield self._source(path, self._below(path))
        elif kind == "file" and path.suffix.lower() in TABLE_SUFFIXES:
            yield self._manifest(path)
        elif kind == "file":
            found = tuple((p, None) for p in self._claimed(self._named(path)))
            yield _Source(path.parent, path.parent, found, file=path)
        elif kind == "file is gone":
            raise UsageError(f"INPUT {text} does not exist{_nearest(path)}")
        elif special_file(_mode(path)):
            self.say(path, kind)
        else:
            raise UsageError(f"INPUT {text} cannot be read: {kind}")

    def _source(self, root: Path, paths: Iterable[Path]) -> _Source:
        found = tuple((path, None) for path in self._claimed(paths))
        return _Source(root, root, found)

    def _pattern(self, text: str) -> _Source:
        parts = Path(text).parts
        wild = next(at for at, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:wild])
        matches = sorted({Path(match) for match in glob.glob(text, recursive=True)})
        if not matches:
            raise UsageError(f"INPUT {text}: no file matches this pattern{_nearest(root)}")
        beside = _beside(matches, root)
        for folder, reason in beside.items():
            self.say(folder, reason)
        matches = [match for match in matches if beside.keys().isdisjoint((match, *match.parents))]
        whole = {match for match in matches if match.is_dir()}
        tops = [match for match in matches if whole.isdisjoint(match.parents)]
        return self._source(root, [path for top in tops for path in self._below(top)])

    def _manifest(self, manifest: Path) -> _Source:
        rows = read_manifest(manifest, partial(self.say, manifest))
        found: list[tuple[Path, ManifestRow | None]] = []
        for row in rows:
            kind = _kind(row.path)
            if kind == "folder":
                paths: Iterable[Path] = self._below(row.path)
            elif kind == "file":
                paths = self._named(row.path)
            elif special_file(_mode(row.path)):
                self.say(row.path, kind)
                paths = ()
            else:
                paths = (row.path,)  # listed, so it gets a row, which will say what is wrong
            found += [(path, row) for path in self._claimed(paths)]
        return _Source(_common_folder(manifest, rows), manifest.with_suffix(""), tuple(found))

    def _named(self, path: Path) -> Iterator[Path]:
        """Add a file given by name: its content decides where its name does not."""
        try:
            if not has_image_name(path):
                with open_regular(path) as file:
                    head = file.read(HEAD_BYTES)
                known = file_kind(head) is not None or is_slide(path, head)
                if reason := why_not_read(path, head) if known else _other_type(path):
                    self.say(path, reason)
                    return
        except (ImageError, OSError) as error:
            self.say(path, str(error))
            return
        yield path

    def _below(self, top: Path) -> Iterator[Path]:
        """Image files at or below ``top``, symbolic links after everything else."""
        now, later = [top], list[Path]()
        while now or later:
            path = (now or later).pop()
            kind = _kind(path)
            if kind == "folder":
                if self._is_drawn(os.path.realpath(path)):
                    self.say(path, "annotated pictures that cellcount has drawn")
                    continue
                if path != top and (beside := _folder_beside(path)):
                    self.say(path, beside)
                    continue
                if path != top and has_image_name(path):
                    self.say(path, "a folder named like an image; the images in it are read")
                for child in self._children(path):
                    (later if child.is_symlink() else now).append(child)
            elif kind == "file" and has_image_name(path):
                yield path
            elif kind == "file" and has_optional_name(path):
                if reason := why_not_read(path):
                    self.say(path, reason)
                else:
                    yield path
            elif os.path.realpath(path) not in self.own_files:
                self.say(path, _other_type(path) if kind == "file" else kind)

    def _children(self, folder: Path) -> list[Path]:
        real = os.path.realpath(folder)
        if real in self.folders:
            self.say(folder, f"folder was read before as {self.folders[real]}")
            return []
        self.folders[real] = folder
        try:
            names = os.listdir(folder)
        except OSError as error:
            self.say(folder, why(error))
            return []
        names = self._without_system_files(folder, names)
        parts = slide_parts(folder, names)
        for name, slide in parts.items():
            self.say(folder / name, f"a part of the slide {slide}")
        names = [name for name in names if name not in parts]
        return [folder / name for name in sorted(names, reverse=True)]  # popped from the end

    def _without_system_files(self, folder: Path, names: list[str]) -> list[str]:
        """Keep names that may be of fields; list others of known kinds as passed over."""
        doubles = sum(name.startswith(APPLE_DOUBLE) for name in names)
        if doubles:
            self.say(folder / f"{APPLE_DOUBLE}*", f"{doubles} AppleDouble files of a Mac")
        hidden = [name for name in names if name.startswith(".")]
        for name in hidden:
            if (reason := folder_reason(name)) and (folder / name).is_dir():
                self.say(folder / name, reason)
        kept = [name for name in names if not name.startswith(".")]
        stems = {os.path.splitext(name)[0].lower() for name in kept if has_image_name(Path(name))}
        fields = []
        for name in kept:
            reason = file_reason(os.path.splitext(name)[0], stems)
            if reason and has_image_name(Path(name)):
                self.say(folder / name, reason)
            else:
                fields.append(name)
        return fields

    def _claimed(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Return the files that were not found before, in path order."""
        for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):
            real = os.path.realpath(path)
            if self._is_drawn(os.path.dirname(real)):  # matched by a pattern, or linked to
                self.say(path, "an annotated picture that cellcount has drawn")
                continue
            first = self.files.setdefault(_same_file(path, real), path)
            if first is not path:
                self.say(path, f"the same file as {first}, counted once")
                continue
            identity = slide_identity(path)
            slide = self.slides.setdefault(identity, path) if identity else path
            if slide is path:
                yield path
            else:
                self.say(path, f"another file of the slide in {slide}")

    def _is_drawn(self, folder: str) -> bool:
        """Return whether a folder, or one above it, is marked as one of annotated pictures."""
        if folder not in self.drawn:
            above = os.path.dirname(folder)
            marked = os.path.exists(os.path.join(folder, DRAWN_MARK))
            self.drawn[folder] = marked or (above != folder and self._is_drawn(above))
        return self.drawn[folder]

    def _refuse_drawn(self, text: str) -> None:
        """Refuse to read annotated pictures as images: the originals would be counted twice."""
        if self._is_drawn(os.path.realpath(text)):
            raise UsageError(
                f"INPUT {text} is or lies in a folder of annotated pictures; name the folder of "
                "the originals, and another folder for --annotated"
            )

    def say(self, path: Path, reason: str) -> None:
        """Record something that gets no row, with the reason."""
        self.passed_over.append(PassedOver(path, reason))


class _Names:
    """Gives every field an ``image`` of its own.

    Args:
        search: told of what files hold besides fields.
        files: what files given by name are called.
        several: there are several INPUTs, so that their names begin those of their images.
    """

    def __init__(self, search: _Search, files: Mapping[Path, str], *, several: bool) -> None:
        self._search, self._files, self._several = search, files, several
        self._taken: set[str] = set()

    def refs(
        self, source: _Source, label: str, path: Path, row: ManifestRow | None
    ) -> list[ImageRef]:
        """The fields in one file: one, or one a page."""
        parts = _relative(path, source.root)
        if source.file is not None:
            parts = (self._files[source.file],)
        elif self._several:
            parts = (label, *parts)
        folder = "/".join(parts[:-1])
        found = fields_in(path)
        pages = self._pages(path, found)
        stem, suffix = os.path.splitext(parts[-1])
        for name in _numbered(stem, suffix):
            image = f"{folder}/{name}" if folder else name
            images = [image] if len(pages) == 1 else [f"{image}#page={p + 1}" for p in pages]
            if self._taken.isdisjoint(images):
                break
        self._taken.update(images)
        given = row or ManifestRow(path)
        return [
            ImageRef(
                path=path,
                image=image,
                slide=given.slide or folder or label,
                specimen=given.specimen,
                stain=given.stain,
                um_per_px=given.um_per_px,
                wbc_10e9_per_l=given.wbc_10e9_per_l,
                accession=given.accession,
                page=page,
            )
            for image, page in zip(images, pages, strict=True)
        ]

    def _pages(self, path: Path, found: FieldsIn) -> tuple[int, ...]:
        """Return the pages that get a row; the others of the file are listed as passed over."""
        if found.drawn:
            self._search.say(path, found.drawn)
            return ()
        for pages, reason in found.beside:
            name = f"{path.name}#page={_ranges(pages)}"
            self._search.say(path.with_name(name), reason)
        return found.pages


def _ranges(pages: Sequence[int]) -> str:
    """Pages as the file counts them, from 1: ``2-5,7``."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][-1] == page:
            runs[-1][-1] = page + 1
        else:
            runs.append([page + 1, page + 1])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _folder_beside(folder: Path) -> str:
    """Return the reason why a folder below an INPUT holds no fields of its own, "" where it may."""
    if reason := folder_reason(folder.name):
        return f"{reason}; name the folder as an INPUT to count it"
    if is_export(folder):
        return "a data set that cellcount has exported; name the folder as an INPUT to count it"
    return ""


def _beside(matches: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return the topmost folders without fields from a pattern's root to its matches, and why."""
    ways = {way for match in matches for way in (match, *match.parents)}
    below = [way for way in ways if way != root and way.is_relative_to(root)]
    found = {way: text for way in below if (text := _folder_beside(way)) and way.is_dir()}
    return {way: text for way, text in found.items() if found.keys().isdisjoint(way.parents)}


def _relative(path: Path, root: Path) -> tuple[str, ...]:
    """Path parts below ``root``; never absolute, never with ``..``."""
    return Path(os.path.relpath(os.path.abspath(path), os.path.abspath(root))).parts


def _common_folder(manifest: Path, rows: Sequence[ManifestRow]) -> Path:
    home = os.path.abspath(manifest.parent)
    paths = [os.path.abspath(row.path) for row in rows]
    try:
        if os.path.commonpath([home, *paths]) == home:
            return Path(home)
        return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
    except ValueError as error:
        raise UsageError(
            f"{manifest} lists images on several drives; write one manifest a drive"
        ) from error


def _numbered(stem: str, suffix: str) -> Iterator[str]:
    """Yield names: a.tif, a~2.tif, a~3.tif, ..."""
    yield stem + suffix
    number = 2
    while True:
        yield f"{stem}~{number}{suffix}"
        number += 1


def _same_file(path: Path, real: str) -> str | tuple[int, int]:
    """Identity that all names of a file share: its real path, or its inode where it has several."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return real
    return (state.st_dev, state.st_ino) if state.st_nlink > 1 else real


def _mode(path: Path) -> int:
    """The path's file mode, links followed, 0 where there is none to be had."""
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def _kind(path: Path) -> str:
    """ "file", "folder", or why it is neither."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        return "not a usable file name"
    except OSError as error:
        is_link = isinstance(error, FileNotFoundError) and path.is_symlink()
        return "a link that leads nowhere" if is_link else why(error)
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else special_file(mode) or "a special file"


def _other_type(path: Path) -> str:
    return f"not an image type ({path.suffix})" if path.suffix else "not an image type"


def _nearest(path: Path) -> str:
    """Suggest the likeliest path that was meant, beside the first part that is missing."""
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        siblings = sorted(os.listdir(missing.parent))
    except OSError:
        return ""
    near = difflib.get_close_matches(missing.name, siblings, 1, cutoff=0.5)
    return f"; did you mean {missing.parent / near[0]}?" if near else ""
