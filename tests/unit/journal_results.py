"""Results as tests of the journal keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellcount.core.records import Cells, Detections, ImageRef, ImageResult
from cellcount.store.corrected import CorrectedImage, Editor
from cellcount.store.journal import Journal

FINGERPRINT = {"min_score": 0.5, "weights": {"blood": "abc"}, "classes": ["rbc", "wbc"]}
EDITOR = Editor("AB", "2026-01-01T00:00:00+00:00", "t.csv")


def result_of(path: Path, image: str, num_cells: int = 3, **facts: object) -> ImageResult:
    generator = np.random.default_rng(len(image) + num_cells)
    boxes = generator.uniform(0, 500, (num_cells, 4)).round(2).astype(np.float32)
    detections = Detections(
        boxes,
        generator.uniform(0, 1, num_cells).astype(np.float32),
        generator.integers(0, 3, num_cells),
    )
    cells = Cells(detections, generator.integers(0, 2, num_cells).astype(np.bool_))
    known = {"width_px": 640, "height_px": 480, "um_per_px": 0.1, "scale_factor": 1.25, **facts}
    ref = ImageRef(path, image, "slide 1", "specimen ü", "giemsa", 0.1, 7.5)
    return ImageResult(ref, "done", cells=cells, **known)  # type: ignore[arg-type]


def image_in(journal: Journal, ref: ImageRef) -> CorrectedImage:
    """An image that the journal has, with the ids of its cells."""
    image = journal.corrected(ref)
    assert image is not None
    return image


def retype(journal: Journal, ref: ImageRef, place: int, type_id: str) -> None:
    """A reviewer's label of one cell."""
    journal.add_edits([image_in(journal, ref).edit("retype", place, EDITOR, type_id=type_id)])
