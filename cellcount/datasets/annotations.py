"""Annotated fields: COCO, Pascal VOC, YOLO, VIA, LabelMe and CSV tables of boxes. No torch.

``read_annotations`` finds the format by itself; every reader survives broken boxes and files and
reports them as problems.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from cellcount.datasets import coco, csv_boxes, labelme, via, voc, yolo
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.sources import unreadable_files
from cellcount.errors import AnnotationError, UsageError
from cellcount.files.text import listed

READERS: dict[str, ModuleType] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "via": via,
    "labelme": labelme,
    "csv": csv_boxes,
}
_SHOWN = 8
FORMATS = ("auto", *READERS)


def read_annotations(
    source: Path, *, format: str = "auto", split: str | None = None
) -> AnnotatedSet:
    """Reads an annotated data set.

    Args:
        source: folder of the data set, or its annotation file.
        format: one of ``FORMATS``; ``auto`` looks for each of them.
        split: keep only the images of this split.

    Raises:
        AnnotationError: no or several formats fit, no image is usable, or the split is unknown.
        UsageError: there is no such format.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}, expected one of {', '.join(FORMATS)}")
    source = Path(source)
    if not source.exists():
        raise AnnotationError(f"{source} does not exist, expected a data set's folder or file")
    reader = READERS[_sniffed(source) if format == "auto" else format]
    annotated: AnnotatedSet = reader.read(source)
    if not annotated.images:
        reasons = "; ".join(str(problem) for problem in annotated.problems[:3])
        raise AnnotationError(
            f"{source} was read as {annotated.format} but holds no usable image: "
            f"{reasons or 'no image was found'}"
        )
    return annotated if split is None else annotated.subset(split)


def _sniffed(source: Path) -> str:
    """The one format that fits; raises AnnotationError for none or several."""
    fitting = [name for name, reader in READERS.items() if reader.sniff(source)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise AnnotationError(
            f"{source} can be read as {' and as '.join(fitting)}; name one as the format"
        )
    looked_for = "\n".join(f"  - {reader.LOOKED_FOR}" for reader in READERS.values())
    raise AnnotationError(
        f"{source} fits no known annotation format. Looked for:\n{looked_for}\n"
        f"Found: {_contents(source)}{unreadable_files(source)}"
    )


def _contents(source: Path) -> str:
    """List the entries of a source in one line."""
    if source.is_file():
        return f"one file of {source.stat().st_size:,} bytes"
    names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in source.iterdir())
    return listed(names, _SHOWN) or "nothing"
