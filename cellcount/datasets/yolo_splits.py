"""Splits of a YOLO data set: the folders and lists of data.yaml or *.data, and train.txt beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cellcount.datasets.sources import read_text, relative_posix
from cellcount.datasets.splits import ListedSplits, split_name
from cellcount.datasets.yolo_yaml import split_places
from cellcount.errors import AnnotationError

_SPLITS = ("train", "val", "test")


def yolo_splits(
    root: Path, yaml: Path | None, images: Sequence[Path]
) -> tuple[dict[Path, str | None], list[str]]:
    """Return image → split, and the entries that fit no image.

    A split is "" where nothing names one, and None where what names it contradicts itself.

    Args:
        root: folder of the data set.
        yaml: its data.yaml, if it has one.
        images: its images.
    """
    places = split_places(root, read_text(yaml)) if yaml else _darknet_places(root)
    listed = ListedSplits()
    named = {place.resolve() for several in places.values() for place in several}
    for split, several in places.items():
        for place in several:
            if place.is_file():
                listed.read(place, split)
    for path in sorted(root.glob("*.txt")):
        if split_name(path.stem) in _SPLITS and path.resolve() not in named:
            listed.read(path, split_name(path.stem))
    found = listed.resolve(images, root)
    folders = {
        place: split for split, several in places.items() for place in several if place.is_dir()
    }
    return found | _by_folder(root, places, folders, found, listed.complaints), listed.complaints


def _by_folder(
    root: Path,
    places: Mapping[str, Sequence[Path]],
    folders: Mapping[Path, str],
    listed: Mapping[Path, str | None],
    complaints: list[str],
) -> dict[Path, str | None]:
    """The splits of images that no list names, by the innermost folder that is a split's."""
    shared = {
        folder: sorted(split for split, several in places.items() if folder in several)
        for folder in folders
    }
    for folder, splits in shared.items():
        if len(splits) > 1:
            name = relative_posix(folder, root)
            complaints.append(f"names {name} for {' and '.join(splits)}; no split is taken")
    innermost = sorted(folders, key=lambda folder: -len(folder.parts))
    resolved = {folder: folder.resolve() for folder in innermost}
    found: dict[Path, str | None] = {}
    for image in (image for image, split in listed.items() if split == ""):
        real = image.parent.resolve()
        for folder in innermost:
            if real.is_relative_to(resolved[folder]):
                found[image] = None if len(shared[folder]) > 1 else folders[folder]
                break
    return found


def _darknet_places(root: Path) -> dict[str, list[Path]]:
    """The lists that darknet's ``*.data`` names."""
    places: dict[str, list[Path]] = {}
    for path in _data_files(root):
        try:
            lines = read_text(path).splitlines()
        except AnnotationError:
            continue
        for line in lines:
            key, _, value = (part.strip() for part in line.partition("="))
            name = Path(value.replace("\\", "/"))
            tries = (path.parent / name, root / name, path.parent / name.name)
            place = next((p for p in tries if value and p.is_file()), None)
            if split_name(key) in _SPLITS and place is not None:
                places.setdefault(split_name(key), []).append(place)
    return places


def _data_files(root: Path) -> Iterable[Path]:
    return sorted([*root.glob("*.data"), *root.glob("data/*.data"), *root.glob("cfg/*.data")])
