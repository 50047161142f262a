"""Single-cell data sets: one labelled cell per item, a whole picture or a box of one. No torch.

Read as they unpack:

- a table ``path,label[,split,patient,code,rbc_px]`` as CSV or TSV, which may be the ``splits.csv``
  of the data set (``file,split,class[,code]``);
- a folder per class, nested as MLL unpacks it (``BLA/0001-1000/BLA_00001.jpg``) and perhaps below
  folders named after splits;
- LMU's ``annotations.dat`` beside its folders;
- boxes with types in any format of ``cellcount.formats``: the crop is cut when it is asked for.

Broken files are reported and survived.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cellcount.errors import AnnotationError, ImageError, UsageError
from cellcount.formats.annotated import AnnotatedSet, Problem, clean_label
from cellcount.formats.sources import (
    MAX_SET_BYTES,
    ImageFinder,
    displayed_size_px,
    read_table,
    read_text,
    table_header,
    walk_files,
)
from cellcount.formats.splits import SPLITS_FILE, SplitTable, folder_split, split_name
from cellcount.images.files import has_image_name

CropFormat = Literal["auto", "table", "lmu", "boxes", "folders"]
Labels = Literal["class", "code"]
CROP_FORMATS: tuple[str, ...] = get_args(CropFormat)

_LMU_FILE = "annotations.dat"
_COLUMNS = {
    "path": ("path", "file", "image", "filename", "file_name", "image_path"),
    "label": ("label", "class", "type", "class_name", "category"),
    "split": ("split",),
    "patient": ("patient", "patient_id", "subject", "case", "specimen"),
    "code": ("code", "fine_label"),
    "rbc_px": ("rbc_px",),
}
_MAX_RBC_PX = 4096
_CORNERS = {"xmin", "x_min", "x_min_px", "x1", "left"}
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")


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
    """

    path: Path
    label: str
    split: str = ""
    patient: str = ""
    box_xyxy: tuple[float, float, float, float] | None = None
    code: str = ""
    rbc_px: float | None = None


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

    def label_counts(self) -> dict[str, int]:
        """Cells per class, in the order of ``classes``."""
        counts = dict.fromkeys(self.classes, 0)
        for item in self.items:
            counts[item.label] += 1
        return counts

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


def read_crops(source: Path, *, labels: Labels = "class", format: CropFormat = "auto") -> CropSet:
    """Reads a single-cell data set.

    Args:
        source: its folder, table or annotation file.
        labels: ``class``, or ``code`` for the finer labels: those of a code column, else the
            letters with which the file names begin (``BNE_49129.jpg``), as in PBC.
        format: one of ``CROP_FORMATS``; ``auto`` looks for each of them.

    Raises:
        AnnotationError: it does not exist, nothing fits, or no cell is usable.
        UsageError: there is no such format.
    """
    if format not in CROP_FORMATS:
        raise UsageError(f"there is no format {format!r}, expected {', '.join(CROP_FORMATS)}")
    source = Path(source)
    if not source.exists():
        raise AnnotationError(f"{source} does not exist, expected a data set's folder or file")
    kind = crop_format(source) if format == "auto" else format
    crops = _READERS[kind](source)
    if not crops.items:
        reasons = "; ".join(str(problem) for problem in crops.problems[:3])
        raise AnnotationError(
            f"{source} was read as {crops.format} but holds no usable cell: "
            f"{reasons or 'no image was found'}"
        )
    return _by_code(crops, source) if labels == "code" else crops


def crop_format(source: Path) -> str:
    """The one of ``CROP_FORMATS`` that fits; raises AnnotationError where none does."""
    if _table_of(source) is not None:
        return "table"
    if _lmu_file(source) is not None:
        return "lmu"
    from cellcount.formats import coco, csv_boxes, labelme, via, voc, yolo

    if any(reader.sniff(source) for reader in (coco, csv_boxes, labelme, via, voc, yolo)):
        return "boxes"
    if source.is_dir():
        return "folders"
    raise AnnotationError(
        f"{source} is no single-cell data set; expected a folder with one folder per class, a "
        "table with the columns path and label (and perhaps split and patient), LMU's "
        "annotations.dat, or boxes with types"
    )


def _by_code(crops: CropSet, source: Path) -> CropSet:
    """The set under its finer labels."""
    items = [
        dataclasses.replace(item, label=item.code or _leading_letters(item.path))
        for item in crops.items
    ]
    bare = next((item for item in items if not item.label), None)
    if bare is not None:
        raise AnnotationError(
            f"{source} has no finer labels: it has no code column, and {bare.path.name} does not "
            "begin with a code and an underscore like BNE_49129.jpg"
        )
    classes = tuple(sorted({item.label for item in items}))
    return dataclasses.replace(crops, items=tuple(items), classes=classes)


def _leading_letters(path: Path) -> str:
    head, underscore, _ = path.stem.partition("_")
    return head if underscore and head.isalpha() else ""


class _Collecting:
    """Collects items and problems while a reader works; ``finish`` makes the CropSet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._items: dict[str, LabelledCrop] = {}
        self._seen: set[str] = set()
        self._problems: list[Problem] = []

    def problem(self, path: Path, what: str) -> None:
        self._problems.append(Problem(path, what))

    def add(self, item: LabelledCrop, where: Path | None = None) -> None:
        """Keeps a whole picture as a cell, unless it cannot be opened or came before."""
        key = os.path.abspath(item.path)
        self._seen.add(key)
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
        loose = [path for path in images if os.path.abspath(path) not in self._seen]
        if loose:
            self.problem(table, f"does not name {len(loose)} images, first {loose[0]}; left out")

    def finish(self, format: str) -> CropSet:
        items = tuple(sorted(self._items.values(), key=lambda i: i.path.as_posix()))
        classes = tuple(sorted({item.label for item in items}))
        return CropSet(items, classes, tuple(self._problems), format)


def _table_of(source: Path) -> Path | None:
    """The table of crops that ``source`` is, or that lies in it: splits.csv first."""
    if source.is_file():
        found = [source] if source.suffix.lower() in _TABLE_SUFFIXES else []
    else:
        tables = sorted(p for p in source.iterdir() if p.suffix.lower() in _TABLE_SUFFIXES[:2])
        found = sorted(tables, key=lambda p: p.name.lower() != SPLITS_FILE)
    return next((path for path in found if _columns(table_header(path))), None)


def _columns(header: list[str]) -> Mapping[str, int]:
    """Our name → position; empty where path or label is missing, or where it holds boxes."""
    lowered = [name.strip().lower() for name in header]
    found = {
        ours: lowered.index(name)
        for ours, names in _COLUMNS.items()
        if (name := next((n for n in names if n in lowered), None)) is not None
    }
    return found if {"path", "label"} <= found.keys() and not _CORNERS & set(lowered) else {}


def _read_table(source: Path) -> CropSet:
    path = _table_of(source)
    if path is None:
        raise AnnotationError(f"{source} holds no table with the columns path and label")
    header, *rows = read_table(path)
    columns = _columns(header)
    reading, finder = _Collecting(path.parent), ImageFinder(path.parent)
    for number, row in enumerate(rows, start=2):
        cell = {k: row[i].strip() if i < len(row) else "" for k, i in columns.items()}
        label = clean_label(cell["label"])
        if not any(cell.values()):
            continue
        if not cell["path"] or not label:
            reading.problem(path, f"row {number} names no image or no label; left out")
            continue
        image = finder.find(cell["path"], path)
        if image is None:
            reading.problem(path, f"row {number}: its image {cell['path']} was not found; left out")
            continue
        split = split_name(cell.get("split", "")) or folder_split(image, path.parent)
        rbc_px = _diameter(cell.get("rbc_px", ""))
        if isinstance(rbc_px, str):
            reading.problem(path, f"row {number}: rbc_px {rbc_px}; left out")
            continue
        item = LabelledCrop(image, label, split, cell.get("patient", ""), rbc_px=rbc_px)
        reading.add(dataclasses.replace(item, code=clean_label(cell.get("code", ""))), path)
    if source.is_dir():
        reading.note_unlisted(path, finder.images)
    return reading.finish("table")


def _diameter(text: str) -> float | str | None:
    """Pixels; None where nothing is said; what is wrong, as text."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not 1 <= value <= _MAX_RBC_PX:
        return f"is {text!r}, expected a red-cell diameter of 1 to {_MAX_RBC_PX} pixels"
    return value


def _lmu_file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.name.lower() == _LMU_FILE else None
    places = [source, *sorted(p for p in source.iterdir() if p.is_dir())]
    return next((p / _LMU_FILE for p in places if (p / _LMU_FILE).is_file()), None)


def _read_lmu(source: Path) -> CropSet:
    """Columns without a header: path, label, and the labels of two more looks, or nan."""
    path = _lmu_file(source)
    if path is None:
        raise AnnotationError(f"{source} holds no {_LMU_FILE}")
    root = source if source.is_dir() else path.parent
    reading, finder = _Collecting(root), ImageFinder(root)
    splits = SplitTable.beside(root)
    for number, line in enumerate(read_text(path, MAX_SET_BYTES).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        image = finder.find(words[0], path) if len(words) > 1 else None
        if image is None:
            what = f"its image {words[0]} was not found" if len(words) > 1 else "it has no label"
            reading.problem(path, f"line {number}: {what}; left out")
            continue
        split = splits.of(image) or folder_split(image, root)
        reading.add(LabelledCrop(image, words[1], split), path)
    return reading.finish("lmu")


def _read_folders(source: Path) -> CropSet:
    if not source.is_dir():
        raise AnnotationError(f"{source} is a file, expected a folder with one folder per class")
    root = _unwrapped(source)
    reading, splits = _Collecting(root), SplitTable.beside(root)
    paths = [p for p in walk_files(root) if "__MACOSX" not in p.parts and has_image_name(p)]
    for path in paths:
        folders = path.relative_to(root).parent.parts
        split = folder_split(path, root)
        named = [folder for folder in folders if not split or split_name(folder) != split]
        if not named:
            reading.problem(path, "lies in no folder of a class; left out")
            continue
        reading.add(LabelledCrop(path, clean_label(named[0]), splits.of(path) or split))
    for what in splits.complaints(paths):
        reading.problem(splits.path or root, what)
    return reading.finish("folders")


def _unwrapped(folder: Path) -> Path:
    """The folder itself, or the only one in it: archives unpack into a folder of their own."""
    while True:
        entries = [e for e in folder.iterdir() if not e.name.startswith((".", "__MACOSX"))]
        inner = [e for e in entries if e.is_dir()]
        pictures = [e for e in entries if e.is_file() and has_image_name(e)]
        if len(inner) != 1 or pictures or not any(e.is_dir() for e in inner[0].iterdir()):
            return folder
        # One class folder with parts like MLL's 0001-1000 is a class, and train is a split.
        below = [e for e in inner[0].iterdir() if e.is_dir()]
        if all(e.name[:1].isdigit() for e in below) or folder_split(inner[0] / "x", folder):
            return folder
        folder = inner[0]


def _read_boxes(source: Path) -> CropSet:
    from cellcount.formats import read_annotations

    return boxes_as_crops(read_annotations(source))


def boxes_as_crops(annotated: AnnotatedSet) -> CropSet:
    """The boxes as cells, those of a field in the order of their corners."""
    items = tuple(
        LabelledCrop(image.path, label, image.split, box_xyxy=(box[0], box[1], box[2], box[3]))
        for image in annotated.images
        for label, box in sorted(
            zip(image.labels, image.boxes_xyxy.tolist(), strict=True), key=lambda pair: pair[1]
        )
    )
    return CropSet(items, annotated.classes, annotated.problems, f"boxes ({annotated.format})")


_READERS: dict[str, Callable[[Path], CropSet]] = {
    "table": _read_table,
    "lmu": _read_lmu,
    "boxes": _read_boxes,
    "folders": _read_folders,
}
