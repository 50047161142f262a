"""Labelled single cells in memory, and how readers collect them. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cellcount.datasets.annotated import Problem
from cellcount.datasets.sources import displayed_size_px
from cellcount.errors import AnnotationError, ImageError

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LabelledCrop:
    """One labelled cell.

    Attributes:
        path: image file.
        label: its type, as the source spells it.
        split: "train", "val", "test", another name, or "".
        patient: identity of the patient, "" where the data set names none.
        box_xyxy: corners in pixels of the image as displayed, None where the image is the cell.
        code: finer label of the same cell, "" where there is none.
        rbc_px: red-cell diameter in pixels of this image, None where the source does not say.
        slide: the slide it lies on, "" where the data set names none.
    """

    path: Path
    label: str
    split: str = ""
    patient: str = ""
    box_xyxy: Box | None = None
    code: str = ""
    rbc_px: float | None = None
    slide: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class CropSet:
    """A single-cell data set as read from disk.

    Attributes:
        items: the usable cells, sorted by path, then box.
        classes: labels in the order of the source, or sorted where it gives none.
        problems: what was wrong and survived, in the order found.
        format: the format it was read as.
    """

    items: tuple[LabelledCrop, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    format: str = ""

    def __post_init__(self) -> None:
        unknown = {item.label for item in self.items} - set(self.classes)
        if unknown:
            raise ValueError(f"labels {sorted(unknown)} are not in classes {self.classes}")

    def __len__(self) -> int:
        return len(self.items)

    def splits(self) -> dict[str, int]:
        """Cells per split, train, val and test first; "" counts those that have none."""
        order = {"train": 0, "val": 1, "test": 2}
        names = sorted({i.split for i in self.items}, key=lambda s: (order.get(s, 3), s))
        return {name: sum(i.split == name for i in self.items) for name in names}

    def subset(self, split: str) -> CropSet:
        """The cells of one split; raises AnnotationError where there is no such split."""
        items = tuple(i for i in self.items if i.split == split)
        if not items:
            counts = {(name or "(none)"): n for name, n in self.splits().items()}
            raise AnnotationError(
                f"the data set has no split {split!r}; its splits and their cells are {counts}. "
                "Name one of these, add a split column, or split at random"
            )
        return dataclasses.replace(self, items=items)

    def relabelled(
        self, name_of: Callable[[str], str | None], classes: Iterable[str] | None = None
    ) -> CropSet:
        """The set under other labels; cells whose new label is None are left out.

        Args:
            name_of: old label → new label, or None.
            classes: the new classes in their order; those that occur, by default.
        """
        new = {label: name_of(label) for label in self.classes}
        items = tuple(
            dataclasses.replace(item, label=label)
            for item in self.items
            if (label := new[item.label]) is not None
        )
        kept = [label for label in new.values() if label is not None]
        return dataclasses.replace(
            self, items=items, classes=tuple(dict.fromkeys(kept if classes is None else classes))
        )


class Collecting:
    """Collects items and problems while a reader works; ``finish`` makes the CropSet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._items: dict[tuple[str, Box | None], LabelledCrop] = {}
        self._seen: set[str] = set()
        self._problems: list[Problem] = []

    def problem(self, path: Path, what: str) -> None:
        """Note a problem that did not end the reading."""
        self._problems.append(Problem(path, what))

    def add(self, item: LabelledCrop, where: Path | None = None) -> None:
        """Keeps a cell, unless its picture cannot be opened or the cell came before."""
        path = os.path.abspath(item.path)
        self._seen.add(path)
        key = (path, item.box_xyxy)
        before = self._items.get(key)
        if before is not None:
            same = "again" if before.label == item.label else f"as {before.label} and {item.label}"
            self.problem(where or item.path, f"{item.path.name} is listed {same}; the first counts")
            return
        try:
            displayed_size_px(item.path)
        except ImageError as error:
            self.problem(item.path, f"the image cannot be opened ({error}); left out")
            return
        self._items[key] = item

    def note_unlisted(self, table: Path, images: Iterable[Path]) -> None:
        """Note the number of images that no cell came from."""
        loose = [path for path in images if os.path.abspath(path) not in self._seen]
        if loose:
            self.problem(table, f"does not name {len(loose)} images, first {loose[0]}; left out")

    def finish(self, format: str) -> CropSet:
        """Return the set of the cells that were kept, sorted by path, then box."""
        items = tuple(
            sorted(self._items.values(), key=lambda i: (i.path.as_posix(), i.box_xyxy or ()))
        )
        classes = tuple(sorted({item.label for item in items}))
        return CropSet(items, classes, tuple(self._problems), format)
