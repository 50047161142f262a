"""Single-cell data sets: one labelled cell per item, a whole picture or a box of one. No torch.

Read as they unpack:

- a table (``crop_table``) as CSV or TSV, which may be the ``splits.csv`` of the data set;
- a folder per class, nested as MLL unpacks it (``BLA/0001-1000/BLA_00001.jpg``) and perhaps below
  folders named after splits;
- LMU's ``annotations.dat`` beside its folders;
- boxes with types in any annotation format: the crop is cut when it is asked for.

Broken files are reported and survived.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from cellcount.datasets.annotated import AnnotatedSet, clean_label
from cellcount.datasets.annotations import READERS, read_annotations
from cellcount.datasets.crop_set import Collecting, CropSet, LabelledCrop
from cellcount.datasets.crop_table import read_crop_table, table_of
from cellcount.datasets.image_finder import ImageFinder
from cellcount.datasets.sources import MAX_SET_BYTES, read_text, unreadable_files, walk_files
from cellcount.datasets.splits import SplitTable, folder_split, split_name
from cellcount.errors import AnnotationError, UsageError
from cellcount.images.file_types import has_image_name

CropFormat = Literal["auto", "table", "lmu", "boxes", "folders"]
Labels = Literal["class", "code"]
CROP_FORMATS: tuple[str, ...] = get_args(CropFormat)

_LMU_FILE = "annotations.dat"


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
            f"{reasons or 'no image was found'}{unreadable_files(source)}"
        )
    return _by_code(crops, source) if labels == "code" else crops


def crop_format(source: Path) -> str:
    """Recognise the one of ``CROP_FORMATS`` that fits; raises AnnotationError where none does."""
    if table_of(source) is not None:
        return "table"
    if _lmu_file(source) is not None:
        return "lmu"
    if any(reader.sniff(source) for reader in READERS.values()):
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
    reading, finder = Collecting(root), ImageFinder(root)
    splits = SplitTable.beside(root)
    for number, line in enumerate(read_text(path, MAX_SET_BYTES).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        found = finder.find(words[0], path)
        image = found.path if len(words) > 1 else None
        if image is None:
            what = f"its image {words[0]} {found.why}" if len(words) > 1 else "it has no label"
            reading.problem(path, f"line {number}: {what}; left out")
            continue
        split = splits.of(image) or folder_split(image, root)
        reading.add(LabelledCrop(image, words[1], split), path)
    return reading.finish("lmu")


def _read_folders(source: Path) -> CropSet:
    if not source.is_dir():
        raise AnnotationError(f"{source} is a file, expected a folder with one folder per class")
    root = _unwrapped(source)
    reading, splits = Collecting(root), SplitTable.beside(root)
    paths = [p for p in walk_files(root) if "__MACOSX" not in p.parts and has_image_name(p)]
    named = splits.resolve(paths)
    for path in paths:
        folders = path.relative_to(root).parent.parts
        split = folder_split(path, root)
        kinds = [folder for folder in folders if not split or split_name(folder) != split]
        if not kinds:
            reading.problem(path, "lies in no folder of a class; left out")
            continue
        split_of_crop = (named[path] or "") if named[path] != "" else split
        reading.add(LabelledCrop(path, clean_label(kinds[0]), split_of_crop))
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
    "table": read_crop_table,
    "lmu": _read_lmu,
    "boxes": _read_boxes,
    "folders": _read_folders,
}
