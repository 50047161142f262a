"""Inspection of a data set before a training: its classes, broken files, and leaks across splits.

Public sets hold copies of their own test images, flipped and turned ones among them, so every
picture is compared with every other; a patient in two splits leaks in the same way.

Shapes: none; plain data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellcount.core.records import Picture
from cellcount.datasets.annotated import AnnotatedSet, Problem
from cellcount.datasets.crop_check import decode_all
from cellcount.datasets.crop_set import CropSet
from cellcount.datasets.near_duplicates import MAX_DISTANCE, Words, near_duplicates, perceptual_hash
from cellcount.settings import DEFAULT_MAX_PIXELS

_SPLIT_ORDER = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """One picture that could be decoded.

    Attributes:
        path: its file.
        split: its split, or "".
        label: the type of its cell, "" where it is a field with boxes.
        width_px, height_px: its size.
    """

    path: Path
    split: str
    label: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Two pictures that look the same.

    Attributes:
        first, second: the pictures, in the order of their paths.
        bits: in how many bits their hashes differ; 0 to ``MAX_DISTANCE``.
    """

    first: DecodedPicture
    second: DecodedPicture
    bits: int

    @property
    def splits(self) -> tuple[str, str]:
        """The splits of the two, train before val before test."""
        low, high = sorted((self.first.split, self.second.split), key=_split_key)
        return low, high

    @property
    def crosses(self) -> bool:
        """Whether the two lie in different splits."""
        return self.first.split != self.second.split

    @property
    def contradicts(self) -> bool:
        """Whether the two carry different labels."""
        return self.first.label != self.second.label


@dataclass(frozen=True, eq=False, slots=True)
class Inspection:
    """Findings about a data set.

    Attributes:
        format: as which it was read.
        fields: whether the pictures are fields with boxes; else each is one cell.
        pictures: those that could be decoded, in the order of the set.
        counts: class → split → cells, in the order of the set's classes.
        sides_px: class → longer sides of its boxes; empty for single cells.
        problems: what is broken, files first named by the reader, then those not decodable.
        left_out: how many fields the source names that are not among the pictures.
        copies: pairs of near-identical pictures.
        shared_patients: patients that are in more than one split.
    """

    format: str
    fields: bool
    pictures: tuple[DecodedPicture, ...]
    counts: Mapping[str, Mapping[str, int]]
    sides_px: Mapping[str, tuple[float, ...]]
    problems: tuple[Problem, ...]
    left_out: int
    copies: tuple[Copy, ...]
    shared_patients: tuple[str, ...]

    @property
    def cells(self) -> int:
        """Number of all cells."""
        return sum(sum(by_split.values()) for by_split in self.counts.values())

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, train, val and test first; "" stands for none."""
        return tuple(sorted({p.split for p in self.pictures}, key=_split_key))

    @property
    def leaks(self) -> tuple[Copy, ...]:
        """The copies that lie in different splits."""
        return tuple(c for c in self.copies if c.crosses)

    @property
    def is_clean(self) -> bool:
        """Whether there are no broken files, no copies, and no patient in two splits."""
        return not (self.problems or self.copies or self.shared_patients)

    def sizes_px(self) -> Counter[tuple[int, int]]:
        """Pictures per (width, height)."""
        return Counter((p.width_px, p.height_px) for p in self.pictures)


def inspect_data(
    data: CropSet | AnnotatedSet,
    *,
    max_distance: int = MAX_DISTANCE,
    on_picture: Callable[[], None] | None = None,
) -> Inspection:
    """Decodes every picture of a data set once and compares each with all others.

    Args:
        data: as ``read_data`` gives it.
        max_distance: bits up to which two pictures count as copies.
        on_picture: called after each picture, for a progress bar.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    hashes: dict[Path, Words] = {}

    def look(path: Path, picture: Picture) -> None:
        sizes[path] = (picture.width_px, picture.height_px)
        hashes[path] = perceptual_hash(picture.pixels)
        if on_picture is not None:
            on_picture()

    fields = isinstance(data, AnnotatedSet)
    named = {path: (split, label) for path, split, label in _pictures(data)}
    broken = decode_all(named, max_pixels=DEFAULT_MAX_PIXELS, look=look)
    seen = tuple(
        DecodedPicture(path, *named[path], *sizes[path]) for path in named if path in sizes
    )
    stacked = np.stack([hashes[s.path] for s in seen]) if seen else np.zeros((0, 8, 4), np.uint64)
    pairs, distances = near_duplicates(stacked, max_distance)
    copies = tuple(
        Copy(seen[i], seen[j], bits)
        for (i, j), bits in zip(pairs.tolist(), distances.tolist(), strict=True)
    )
    counts, sides = _cells(data, set(sizes))
    return Inspection(
        format=data.format,
        fields=fields,
        pictures=seen,
        counts=counts,
        sides_px=sides,
        problems=(*data.problems, *broken),
        left_out=data.left_out + len(broken) if isinstance(data, AnnotatedSet) else 0,
        copies=copies,
        shared_patients=() if isinstance(data, AnnotatedSet) else _shared_patients(data),
    )


def picture_count(data: CropSet | AnnotatedSet) -> int:
    """Return the number of pictures that an inspection of the data set decodes."""
    return len({path for path, _, _ in _pictures(data)})


def _pictures(data: CropSet | AnnotatedSet) -> list[tuple[Path, str, str]]:
    """Path, split and label of every picture; a field has no label of its own."""
    if isinstance(data, AnnotatedSet):
        return [(image.path, image.split, "") for image in data.images]
    return [(i.path, i.split, i.label if i.box_xyxy is None else "") for i in data.items]


def _cells(
    data: CropSet | AnnotatedSet, usable: set[Path]
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[float, ...]]]:
    """Cells per class and split, and the longer sides of their boxes."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in data.classes}
    sides: dict[str, list[float]] = defaultdict(list)
    for label, split, side in _each_cell(data, usable):
        counts[label][split] += 1
        if side is not None:
            sides[label].append(side)
    in_order = {
        name: {split: by_split[split] for split in sorted(by_split, key=_split_key)}
        for name, by_split in counts.items()
    }
    return in_order, {name: tuple(sides[name]) for name in data.classes if sides[name]}


def _each_cell(
    data: CropSet | AnnotatedSet, usable: set[Path]
) -> list[tuple[str, str, float | None]]:
    if isinstance(data, CropSet):
        return [
            (i.label, i.split, None if i.box_xyxy is None else _longer_side(i.box_xyxy))
            for i in data.items
            if i.path in usable
        ]
    return [
        (label, image.split, _longer_side(tuple(box)))
        for image in data.images
        if image.path in usable
        for label, box in zip(image.labels, image.boxes_xyxy.tolist(), strict=True)
    ]


def _longer_side(box_xyxy: tuple[float, ...]) -> float:
    x_min, y_min, x_max, y_max = box_xyxy
    return max(x_max - x_min, y_max - y_min)


def _shared_patients(data: CropSet) -> tuple[str, ...]:
    splits: dict[str, set[str]] = defaultdict(set)
    for item in data.items:
        if item.patient:
            splits[item.patient].add(item.split)
    return tuple(sorted(patient for patient, names in splits.items() if len(names) > 1))


def _split_key(split: str) -> tuple[int, str]:
    return _SPLIT_ORDER.get(split, 3), split
