"""What every annotation reader returns, and the collector that checks boxes on the way in.

Shapes: N boxes of one image. Boxes are float32 ``(N, 4)`` xyxy in pixels of the image as
displayed (EXIF orientation applied), clipped to the image.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import LabelledImage
from cellcount.datasets.sources import displayed_size_px
from cellcount.datasets.splits import SplitTable, folder_split
from cellcount.errors import AnnotationError, ImageError, UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was wrong in a data set and was survived.

    Attributes:
        path: the file it was found in.
        what: what was wrong and what was done about it.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedSet:
    """An annotated data set as read from disk.

    Attributes:
        images: the usable images, sorted by path.
        classes: class names in the order of the source, or sorted where it gives none.
        problems: what was wrong and survived, in the order found.
        format: the format it was read as.
    """

    images: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    format: str = ""

    def __post_init__(self) -> None:
        unknown = {label for image in self.images for label in image.labels} - set(self.classes)
        if unknown:
            raise ValueError(f"labels {sorted(unknown)} are not in classes {self.classes}")

    def __len__(self) -> int:
        return len(self.images)

    def splits(self) -> dict[str, int]:
        """Images per split, train, val and test first; "" counts those that have none."""
        order = {"train": 0, "val": 1, "test": 2}
        names = sorted({i.split for i in self.images}, key=lambda s: (order.get(s, 3), s))
        return {name: sum(i.split == name for i in self.images) for name in names}

    def subset(self, split: str) -> AnnotatedSet:
        """The images of one split; raises AnnotationError where the data set has no such split."""
        images = tuple(i for i in self.images if i.split == split)
        if not images:
            counts = {(name or "(none)"): n for name, n in self.splits().items()}
            raise AnnotationError(
                f"the data set has no split {split!r}; its splits and their images are {counts}. "
                "Name one of these, add a splits.csv with the columns file,split, "
                "or split at random"
            )
        return dataclasses.replace(self, images=images)


class RawBox(NamedTuple):
    """One box as a source states it: xyxy in pixels, unchecked."""

    label: str
    xyxy: tuple[float, float, float, float]


def random_split(
    annotated: AnnotatedSet, fractions: Mapping[str, float], seed: int
) -> AnnotatedSet:
    """Gives images a split at random, in place of the one they had.

    Published test images stay test images unless ``fractions`` deals out a test split itself.

    The same images, fractions and seed give the same split, whatever the order of the images and
    wherever the folder lies. NOTE: images of one patient may land in several splits, which
    flatters a model; use a published split where there is one.

    Args:
        annotated: the data set.
        fractions: split → share of the images, adding up to 1.
        seed: of the shuffle.
    """
    total = sum(fractions.values())
    if not fractions or any(share < 0 for share in fractions.values()) or abs(total - 1) > 1e-6:
        raise UsageError(f"the split's shares are {dict(fractions)}, expected a sum of 1")
    images = sorted(annotated.images, key=lambda image: image.path.as_posix())
    order = [i for i, image in enumerate(images) if image.split != "test" or "test" in fractions]
    random.Random(seed).shuffle(order)
    names: list[str] = []
    reached = 0.0
    for name, share in fractions.items():
        reached += share
        names.extend([name] * (round(reached * len(order)) - len(names)))
    split_of = dict(zip(order, names, strict=True))
    changed = tuple(
        dataclasses.replace(image, split=split_of.get(index, image.split))
        for index, image in enumerate(images)
    )
    return dataclasses.replace(annotated, images=changed)


def clean_label(text: object) -> str:
    """A class name without stray white space; case and spelling stay the source's."""
    return " ".join(str(text).split())


class Reading:
    """Collects images and problems while a reader works; ``finish`` makes the AnnotatedSet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._images: dict[str, LabelledImage] = {}
        self._problems: list[Problem] = []
        self._sizes: dict[str, tuple[int, int] | None] = {}
        self._splits = SplitTable.beside(root)

    def problem(self, path: Path, what: str) -> None:
        """Notes a problem."""
        self._problems.append(Problem(path, what))

    def size_px(self, path: Path) -> tuple[int, int] | None:
        """Width and height as displayed, or None (and a problem) where it cannot be opened."""
        key = os.path.abspath(path)
        if key not in self._sizes:
            try:
                self._sizes[key] = displayed_size_px(path)
            except ImageError as error:
                self._sizes[key] = None
                self.problem(path, f"the image cannot be opened ({error}); left out")
        return self._sizes[key]

    def add(
        self,
        path: Path,
        boxes: Iterable[RawBox],
        *,
        stated_px: tuple[int, int] = (0, 0),
        split: str = "",
        where: Path | None = None,
    ) -> None:
        """Adds one image; broken boxes become problems.

        Args:
            path: the image file.
            boxes: its boxes in pixels as displayed.
            stated_px: width and height that the annotation states, (0, 0) for none.
            split: the split that the format itself names; a splits.csv overrules it, and the
                folder's name is used where there is neither.
            where: file that a broken box is reported in, the image file by default.
        """
        size = self.size_px(path)
        if size is None:
            return
        where = where or path
        key = os.path.abspath(path)
        if key in self._images:
            self.problem(where, f"{path.name} is listed more than once; the first one is used")
            return
        if all(stated_px) and tuple(stated_px) != size:
            self.problem(
                where,
                f"states {stated_px[0]}×{stated_px[1]} px, but {path.name} is "
                f"{size[0]}×{size[1]} px; the file's size is used, check its boxes",
            )
        kept, labels = self._checked(boxes, size, where)
        self._images[key] = LabelledImage(
            path=path,
            boxes_xyxy=kept,
            labels=labels,
            width_px=size[0],
            height_px=size[1],
            split=self._splits.of(path) or split or folder_split(path, self.root),
        )

    def _checked(
        self, boxes: Iterable[RawBox], size: tuple[int, int], where: Path
    ) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Clips boxes to the image and leaves out, with a problem each, those with no extent."""
        kept: list[NDArray[np.float32]] = []
        labels: list[str] = []
        limits = np.array([*size, *size], np.float64)
        for number, box in enumerate(boxes, start=1):
            label = clean_label(box.label)
            what = f"box {number} ({label or 'no class'}, {_shown(box.xyxy)})"
            raw = np.array(box.xyxy, np.float64)
            if not np.isfinite(raw).all():
                self.problem(where, f"{what} holds a number that is not finite; left out")
                continue
            xyxy = np.clip(raw, 0.0, limits).astype(np.float32)
            if xyxy[0] >= xyxy[2] or xyxy[1] >= xyxy[3]:
                self.problem(
                    where,
                    f"{what} has no width or height inside the {size[0]}×{size[1]} px image; "
                    "left out",
                )
            elif not label:
                self.problem(where, f"{what} names no class; left out")
            else:
                kept.append(xyxy)
                labels.append(label)
        stacked = np.stack(kept) if kept else np.zeros((0, 4), np.float32)
        return stacked, tuple(labels)

    def note_unlisted(self, paths: Iterable[Path]) -> None:
        """Says which image files of the data set no annotation names."""
        unlisted = [path for path in paths if os.path.abspath(path) not in self._sizes]
        if unlisted:
            self.problem(
                unlisted[0], f"{len(unlisted)} images have no annotation, this one first; left out"
            )

    def finish(self, format: str, classes: Sequence[str] | None = None) -> AnnotatedSet:
        """The collected set; ``classes`` None means the labels seen, sorted."""
        images = tuple(sorted(self._images.values(), key=lambda i: i.path.as_posix()))
        if classes is None:
            classes = sorted({label for image in images for label in image.labels})
        for what in self._splits.complaints(image.path for image in images):
            self.problem(self._splits.path or self.root, what)
        return AnnotatedSet(images, tuple(classes), tuple(self._problems), format)


def _shown(xyxy: tuple[float, float, float, float]) -> str:
    x1, y1, x2, y2 = xyxy
    return f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"
