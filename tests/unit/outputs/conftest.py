"""Results as the pipeline gives them, for the tests of everything that is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import CellClass, Cells, CellTypes, Detections, ImageRef, ImageResult

MakeResult = Callable[..., ImageResult]


@pytest.fixture(scope="session")
def blood() -> list[CellClass]:
    return [
        CellClass("rbc", "red cell", "red cells"),
        CellClass("wbc", "white cell", "white cells"),
        CellClass("platelet", "platelet", "platelets"),
    ]


@pytest.fixture(scope="session")
def types() -> list[CellClass]:
    return [
        CellClass("neutrophil", "neutrophil", "neutrophils", "NEU"),
        CellClass("monocyte", "monocyte", "monocytes", "MON"),
        CellClass("band_cell", "band cell", "band cells"),
    ]


@pytest.fixture(scope="session")
def said() -> CellTypes:
    """Types of five cells: untyped, sure, unsure, sure without a second, sure."""
    return CellTypes(
        best=np.array([-1, 0, 1, 2, 0]),
        prob=np.array([0, 0.9, 0.4, 1, 0.75], np.float32),
        second=np.array([-1, 1, 0, -1, 2]),
        second_prob=np.array([0, 0.0625, 0.35, 0, 0.25], np.float32),
        accepted=np.array([False, True, False, True, True]),
    )


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """``make_result(image, num_cells, **facts)``: a done image with random cells."""

    def make(image: str, num_cells: int = 3, **facts: object) -> ImageResult:
        generator = np.random.default_rng(num_cells + len(image))
        corners = generator.uniform(0, 400, (num_cells, 2))
        sides = generator.uniform(5, 60, (num_cells, 2))
        boxes = np.concatenate([corners, corners + sides], 1).round(2).astype(np.float32)
        detections = Detections(
            boxes,
            generator.uniform(0.3, 1, num_cells).astype(np.float32),
            np.arange(num_cells, dtype=np.int64) % 3,
        )
        cells = Cells(detections, np.arange(num_cells) % 4 == 0)
        known = {"width_px": 640, "height_px": 480, "scale_factor": 1.23456, **facts}
        ref = ImageRef(Path("smears") / "a.png", image, "slide", "specimen")
        return ImageResult(ref, "done", cells=cells, **known)  # type: ignore[arg-type]

    return make
