"""Collector of a reader's annotations, checked together: doubles, boxes, sizes, splits.

Shapes: none of its own; boxes are checked in ``box_check``.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet, Problem
from cellcount.datasets.box_check import check_boxes, stacked
from cellcount.datasets.box_layouts import Layout, Meaning, meaning_of, numbers_of
from cellcount.datasets.image_finder import Clues, FoundImage, ImageFinder
from cellcount.datasets.raw_annotation import Annotation, Size
from cellcount.datasets.sources import displayed_size_px, relative_posix
from cellcount.datasets.splits import SplitTable, folder_split
from cellcount.errors import ImageError


class Reading:
    """Collects annotations and problems while a reader works; ``finish`` makes the AnnotatedSet.

    Attributes:
        root: folder of the data set.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout = "corners",
        *,
        one_source: bool = False,
        shares_usual: bool = False,
    ) -> None:
        """Start without annotations.

        Args:
            root: folder of the data set.
            layout: how the format writes a box.
            one_source: whether all files of the set were written in one way, as by one program.
            shares_usual: whether the format may have shares of the picture instead of pixels.
        """
        self.root = root
        self._layout = layout
        self._one_source = one_source
        self._shares_usual = shares_usual
        self._annotations: dict[str, list[Annotation]] = defaultdict(list)
        self._problems: list[Problem] = []
        self._sizes: dict[str, Size | None] = {}
        self._passed_over: set[str] = set()
        self._splits = SplitTable.beside(root)

    def problem(self, path: Path, what: str, pictures: int = 0) -> None:
        """Notes a problem, and how many pictures are left out by it."""
        self._problems.append(Problem(path, what, pictures))

    def size_px(self, path: Path) -> Size | None:
        """Width and height as displayed, or None (and a problem) where it cannot be opened."""
        key = os.path.abspath(path)
        if key not in self._sizes:
            try:
                self._sizes[key] = displayed_size_px(path)
            except ImageError as error:
                self._sizes[key] = None
                self.problem(path, f"the image cannot be opened ({error}); left out", 1)
        return self._sizes[key]

    def pass_over(self, paths: Iterable[Path]) -> None:
        """Counts images as named by an annotation, though they are left out."""
        self._passed_over.update(map(os.path.abspath, paths))

    def not_found(self, where: Path, named: str, found: FoundImage, lost: str = "") -> None:
        """Note the reason why the image that an annotation names was not taken, and the loss."""
        self.problem(where, f"its image {named} {found.why}; {lost or 'left out'}", 1)
        self.pass_over(found.rivals)

    def found_of_file(
        self, named: str, path: Path, clues: Clues, finder: ImageFinder
    ) -> tuple[Path | None, bool]:
        """The image of an annotation file that stands for one image, and whether that is sure.

        None, and a problem, where there is none.

        Args:
            named: name of the image in the file; one that could not be decoded does not count.
            path: of the file.
            clues: to the image.
            finder: of the images of the set.
        """
        readable = "" if "\ufffd" in named else named
        found, sure, said = finder.find_of_file(readable, path, clues)
        if found.path is None:
            self.not_found(path, named or path.stem, found)
        elif said:
            self.problem(path, said)
        return found.path, sure

    def add(self, annotation: Annotation) -> None:
        """Add the annotation of one image; it is checked when all are known."""
        if self.size_px(annotation.image) is not None:
            self._annotations[os.path.abspath(annotation.image)].append(annotation)

    def note_unlisted(self, paths: Iterable[Path]) -> None:
        """Says which image files of the data set no annotation names."""
        known = self._sizes.keys() | self._passed_over
        unlisted = [path for path in paths if os.path.abspath(path) not in known]
        if unlisted:
            self.problem(
                unlisted[0], f"{len(unlisted)} images have no annotation, this one first; left out"
            )

    def note_exports(self, folders: Iterable[Path]) -> None:
        """Says which folders were passed over because cellcount has written them."""
        for folder in folders:
            self.problem(folder, "was written by cellcount from other pictures; left out")

    def finish(self, format: str, classes: Sequence[str] | None = None) -> AnnotatedSet:
        """The collected set; ``classes`` None means the labels seen, sorted."""
        single = [one for several in self._annotations.values() if (one := self._one_of(several))]
        meanings = self._meanings(single)
        images = [
            image
            for one in single
            if (image := self._image(one, meanings[self._source(one)])) is not None
        ]
        images = self._with_splits(sorted(images, key=lambda image: image.path.as_posix()))
        if classes is None:
            classes = sorted({label for image in images for label in image.labels})
        for what in self._splits.complaints(image.path for image in images):
            self.problem(self._splits.path or self.root, what)
        problems = sorted(self._problems, key=lambda problem: not problem.pictures)
        return AnnotatedSet(tuple(images), tuple(classes), tuple(problems), format)

    def _source(self, annotation: Annotation) -> Path:
        """The file or folder whose boxes are all written in one way."""
        return self.root if self._one_source else annotation.source

    def _one_of(self, several: list[Annotation]) -> Annotation | None:
        """The annotation of a picture that counts, None where several contradict each other."""
        sure = [one for one in several if one.sure] or several
        first, *others = sure
        name = first.image.name
        for unsure in several if len(sure) < len(several) else ():
            if not unsure.sure:
                what = f"names {name}, which {first.source.name} annotates; left out"
                self.problem(unsure.source, what, 1)
        if any(not first.says_the_same(other) for other in others):
            files = dict.fromkeys(relative_posix(one.source, self.root) for one in sure)
            where = " and ".join(files) if len(files) > 1 else f"{next(iter(files))} twice"
            what = f"{name} is annotated in different ways, in {where}; left out"
            self.problem(first.reported, what, 1)
            return None
        for other in others:
            what = f"{name} is listed more than once; the first one is used"
            self.problem(other.reported, what)
        splits = sorted({one.split for one in sure if one.split})
        if len(splits) > 1:
            self.problem(first.source, f"{name} stands in several splits {splits}; none is used")
            return dataclasses.replace(first, split=None)
        return dataclasses.replace(first, split=splits[0]) if splits else first

    def _meanings(self, annotations: Iterable[Annotation]) -> dict[Path, Meaning]:
        """Return the meaning of each source's boxes; one unlike the format's is a problem."""
        by_source: dict[Path, list[Annotation]] = defaultdict(list)
        for annotation in annotations:
            by_source[self._source(annotation)].append(annotation)
        meanings = {}
        for source, mine in by_source.items():
            boxes = [(box, self._frame(one)) for one in mine for box in one.boxes]
            written = [(box, frame) for box, frame in boxes if not box.drawn]
            layout: Layout = self._layout if written else "corners"
            frames = np.array([f for _, f in written or boxes], np.float64).reshape(-1, 2)
            numbers = numbers_of(stacked([box for box, _ in written or boxes]), layout)
            meaning = meaning_of(numbers, frames, layout)
            # Corners of drawn shapes are certain; only their unit is to be told.
            meanings[source] = meaning if written else Meaning(layout, meaning.unit)
            self._tell(source, meanings[source], layout)
        return meanings

    def _tell(self, source: Path, meaning: Meaning, expected: Layout) -> None:
        if meaning.layout != expected:
            self.problem(
                source,
                f"its boxes cannot be {expected}, as the format has them; they fit their pictures "
                f"as {meaning.layout} and are taken as that",
            )
        if meaning.unit > self._shares_usual:
            kind = "percent" if meaning.unit > 1 else "shares from 0 to 1"
            self.problem(source, f"its boxes are not in pixels; taken as {kind} of the picture")

    def _frame(self, annotation: Annotation) -> Size:
        """The size of the picture that was annotated: as stated, else the file's."""
        stated = annotation.stated_px
        return stated if all(stated) else self._sizes[os.path.abspath(annotation.image)] or (1, 1)

    def _image(self, annotation: Annotation, meaning: Meaning) -> LabelledImage | None:
        """The checked image, None (and a problem) where it must not be learned."""
        path, where = annotation.image, annotation.reported
        shown = self._sizes[os.path.abspath(path)] or (1, 1)
        if annotation.boxes and not meaning.usable:
            of = relative_posix(self._source(annotation), self.root)
            source = "its set" if of == "." else of
            what = f"most boxes of {source} can be neither {meaning.layout} nor anything else"
            self.problem(where, f"{what}; {path.name} is left out", 1)
            return None
        checked = check_boxes(annotation, meaning, self._layout, shown)
        if checked.left_out:
            self.problem(where, f"{path.name} is left out: {checked.left_out}", 1)
            return None
        for what in annotation.broken:
            self.problem(annotation.source, what)
        for what in (*checked.faults, *checked.said):
            self.problem(where, what)
        split = annotation.split
        if split == "":
            split = folder_split(path, self.root)
        return LabelledImage(
            path=path,
            boxes_xyxy=checked.boxes_xyxy,
            labels=checked.labels,
            width_px=shown[0],
            height_px=shown[1],
            split=split or "",
        )

    def _with_splits(self, images: Sequence[LabelledImage]) -> list[LabelledImage]:
        """The images under the splits of a splits.csv, which overrules all else."""
        named = self._splits.resolve(image.path for image in images)
        return [
            image
            if named[image.path] == ""
            else dataclasses.replace(image, split=named[image.path] or "")
            for image in images
        ]
