"""Result of every annotation reader: images with boxes, and the problems met.

Shapes: N boxes of one image. Boxes are float32 ``(N, 4)`` xyxy in pixels of the image as
displayed (EXIF orientation applied), clipped to the image.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellcount.core.records import LabelledImage
from cellcount.errors import AnnotationError, UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a data set that did not stop the reading.

    Attributes:
        path: the file it was found in.
        what: what was wrong and what was done about it.
        pictures: how many pictures are left out by it.
    """

    path: Path
    what: str
    pictures: int = 0

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, eq=False, slots=True)
class AnnotatedSet:
    """An annotated data set as read from disk.

    Attributes:
        images: the usable images, sorted by path.
        classes: class names in the order of the source, or sorted where it gives none.
        problems: what was wrong and survived, pictures left out before all else.
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

    @property
    def left_out(self) -> int:
        """Number of pictures that the source names and that are not among the images."""
        return sum(problem.pictures for problem in self.problems)


#: Shares in which a training divides data that has no split of its own.
DEFAULT_SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}
#: So many folders of images, or more, are taken for slides, which stay together in a split.
_LEAST_SLIDES = 5


def has_slides(annotated: AnnotatedSet) -> bool:
    """Return whether the images lie in as many folders as slides would."""
    return len({image.path.parent for image in annotated.images}) >= _LEAST_SLIDES


def slide_split(annotated: AnnotatedSet, fractions: Mapping[str, float], seed: int) -> AnnotatedSet:
    """Give all images of a folder, a slide, one split at random; shares are met as far as they can.

    Args:
        annotated: the data set, whose images have no split.
        fractions: split → share of the images, adding up to 1.
        seed: of the choice.
    """
    slides: dict[Path, int] = {}
    for image in annotated.images:
        slides[image.path.parent] = slides.get(image.path.parent, 0) + 1
    order = sorted(slides, key=lambda folder: folder.as_posix())
    random.Random(seed).shuffle(order)
    order.sort(key=lambda folder: -slides[folder])  # stable: equals stay shuffled
    given = dict.fromkeys(fractions, 0)
    split_of: dict[Path, str] = {}
    for position, folder in enumerate(order):
        empty = [name for name, images in given.items() if not images]
        must_fill = len(order) - position <= len(empty)
        choice = min(empty if must_fill else given, key=lambda name: given[name] / fractions[name])
        split_of[folder] = choice
        given[choice] += slides[folder]
    changed = (dataclasses.replace(i, split=split_of[i.path.parent]) for i in annotated.images)
    return dataclasses.replace(annotated, images=tuple(changed))


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
    if "val" in fractions and "val" not in names and len(names) > 1:
        names[-1] = "val"  # of a handful of images one, at least, chooses the weights
    split_of = dict(zip(order, names, strict=True))
    changed = tuple(
        dataclasses.replace(image, split=split_of.get(index, image.split))
        for index, image in enumerate(images)
    )
    return dataclasses.replace(annotated, images=changed)


def clean_label(text: object) -> str:
    """A class name without stray white space; case and spelling stay the source's."""
    return " ".join(str(text).split())
