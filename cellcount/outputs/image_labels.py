"""Labels of the cells of one image for other programs, and the names of their files.

A typed cell is called by its type, every other by its class.

Shapes: N cells; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from cellcount.core.records import UNCLASSIFIED, ImageResult, LabelledImage
from cellcount.images.file_types import IMAGE_SUFFIXES
from cellcount.outputs.run_content import Labels, ResultStream
from cellcount.outputs.typed import type_values


def called(result: ImageResult, labels: Labels) -> list[str]:
    """Label each of the N cells with its type, else its class."""
    classes = [labels.classes[label].id for label in result.cells.detections.labels.tolist()]
    said = result.cells.types
    if said is None:
        return classes
    typed = type_values(said, labels.types)["type"]
    return [
        label if name in (None, UNCLASSIFIED) else str(name)
        for name, label in zip(typed, classes, strict=True)
    ]


def labelled_image(result: ImageResult, labels: Labels) -> LabelledImage:
    """Make an annotated image of a result."""
    return LabelledImage(
        Path(result.ref.image),
        result.cells.detections.boxes_xyxy,
        tuple(called(result, labels)),
        result.width_px,
        result.height_px,
    )


def stems(results: ResultStream) -> Callable[[str], str]:
    """Name the file of labels of an image: its stem where no other image shares it, else whole.

    Where programs go by the stem alone, such images are refused before they are analysed; what is
    whole here tells its image itself, or belongs to a run of 0.1.0 that is written again.
    """
    counts = Counter(stem_of(result.ref.image).lower() for result in results())

    def name(image: str) -> str:
        stem = stem_of(image)
        return image if counts[stem.lower()] > 1 else stem

    return name


def stem_of(image: str) -> str:
    """Take the suffix of an image file from an image's name; pages of a TIFF keep theirs."""
    path = PurePosixPath(image)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else image


def as_utf8(text: str) -> str:
    """Escape bytes of a name that are no UTF-8, so that other programs can read it."""
    return text.encode("utf-8", "backslashreplace").decode()
