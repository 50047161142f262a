"""Running a detector over an annotated set exactly as ``analyze`` would, and scoring it.

Shapes: pixels uint8 (H, W, 3); boxes (N, 4) xyxy in pixels of the image that is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Detections, LabelledImage, Picture
from cellcount.core.side_by_side import SideBySide
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.red_cells import red_cell_diameter_px
from cellcount.evaluation.detection import DetectionReport, Truth, evaluate_detections
from cellcount.evaluation.perturbations import ORIGINAL, RED_CELL_SHIFTS, Variant, variants
from cellcount.images.lit_field import lit_part
from cellcount.images.scale import factor_from_red_cells, factor_from_um_per_px
from cellcount.images.source import Field

RESIZES = (0.4, 0.6, 1.5, 2.5)


def robustness_variants() -> list[Variant]:
    """The original, the resized and the ``shift`` suite, with other laboratories' red cells."""
    shifts = [Variant(name, change=change) for name, change in RED_CELL_SHIFTS.items()]
    return [*variants(RESIZES), *shifts]


def truth_of(
    image: LabelledImage, classes: Sequence[str], shape: tuple[int, ...], factor: float = 1.0
) -> Truth:
    """Truth of an image of ``shape`` (H, W, ...); boxes of other classes are left out."""
    index = {name: i for i, name in enumerate(classes)}
    keep = np.array([name in index for name in image.labels], bool)
    labels = np.array([index[n] for n in image.labels if n in index], np.int64)
    boxes = (image.boxes_xyxy[keep] * factor).astype(np.float32)
    return Truth(str(image.path), boxes, labels, shape[1], shape[0])


def field_factor(
    detector: FieldDetector, pixels: NDArray[np.uint8], um_per_px: float | None
) -> float:
    """Scale of a single image that is a slide of its own."""
    card = detector.engine.card
    if um_per_px is not None:
        return factor_from_um_per_px(um_per_px, card.rbc_diameter_px)
    diameter = red_cell_diameter_px(detector.engine, pixels)
    return factor_from_red_cells([] if diameter is None else [diameter], card.rbc_diameter_px)


def detect_field(
    detector: FieldDetector, pixels: NDArray[np.uint8], um_per_px: float | None = None
) -> Detections:
    """Detections on a single image that is a slide of its own, as ``analyze`` makes them.

    What lies around the lit field is painted over before, and nothing is found there.
    """
    seen, lit = lit_part(Field(Picture(pixels)))
    painted = pixels if seen.picture is None else seen.picture.pixels
    found = detector.detect(painted, field_factor(detector, painted, um_per_px)).detections
    return found if lit is None else found[lit.holds(found.boxes_xyxy)]


def detect_set(
    images: Sequence[LabelledImage],
    detector: FieldDetector,
    *,
    variant: Variant = ORIGINAL,
    um_per_px: float | None = None,
    on_image: Callable[[], None] | None = None,
) -> tuple[list[Truth], list[Detections]]:
    """Truth and detections of every image; each image is scaled as a slide of its own.

    Images are looked at side by side, and ``on_image`` is called in the threads that do it.

    NOTE: images of a labelled set come from different slides, so the median over a slide that
    ``analyze`` uses is not available here; the estimate rests on one field.
    """
    classes = [c.id for c in detector.engine.card.classes]
    scale = None if um_per_px is None else um_per_px / variant.factor

    def look(image: LabelledImage) -> tuple[Truth, Detections]:
        pixels = variant.apply(read_pixels(image))
        truth = truth_of(image, classes, pixels.shape, variant.factor)
        found = detect_field(detector, variant.prepared(pixels), scale)
        if on_image is not None:
            on_image()
        return truth, found

    seen = SideBySide(detector.images_at_once).map(look, images)
    return [truth for truth, _ in seen], [found for _, found in seen]


def evaluate_detector(
    images: Sequence[LabelledImage],
    detector: FieldDetector,
    *,
    thresholds: dict[str, float],
    variant: Variant = ORIGINAL,
    um_per_px: float | None = None,
    on_image: Callable[[], None] | None = None,
) -> DetectionReport:
    """Detects on every image and scores the whole."""
    truths, found = detect_set(
        images, detector, variant=variant, um_per_px=um_per_px, on_image=on_image
    )
    classes = [c.id for c in detector.engine.card.classes]
    return evaluate_detections(truths, found, classes, thresholds=thresholds)
