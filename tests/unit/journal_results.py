"""Results as tests of the journal keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellcount.core.records import Cells, Detections, ImageRef, ImageResult

FINGERPRINT = {"min_score": 0.5, "weights": {"blood": "abc"}, "classes": ["rbc", "wbc"]}


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
