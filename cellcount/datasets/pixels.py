"""Pixels and scale of labelled images, as analysis would see them. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, LabelledImage
from cellcount.errors import AnnotationError
from cellcount.images.read import read_image

_MAX_PIXELS = 200_000_000


def red_cell_diameter_px(image: LabelledImage, scale_class: str) -> float | None:
    """Median diameter of the whole red cells of a labelled image, None with fewer than three."""
    boxes = image.boxes_xyxy[np.array([name == scale_class for name in image.labels], bool)]
    if image.width_px and image.height_px and len(boxes):
        limits = np.array([image.width_px, image.height_px])
        inside = (boxes[:, :2] > 1).all(1) & (boxes[:, 2:] < limits - 1).all(1)
        boxes = boxes[inside]
    if len(boxes) < 3:
        return None
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(np.median(np.sqrt(sides[:, 0] * sides[:, 1])))


def scale_factors(
    images: Sequence[LabelledImage], *, scale_class: str, target_px: float, given_px: float | None
) -> list[float]:
    """Factor per image that brings its red cells to ``target_px``.

    Where an image shows too few red cells, the median of the images of its size stands in, then
    that of all images.

    Raises:
        AnnotationError: no image shows red cells and no diameter is given.
    """
    if given_px is not None:
        return [target_px / given_px] * len(images)
    own = [red_cell_diameter_px(image, scale_class) for image in images]
    known = [d for d in own if d is not None]
    if not known:
        raise AnnotationError(
            f"no image has three or more whole {scale_class!r} boxes, so the scale of the images "
            "is unknown; state the red-cell diameter in pixels with --rbc-px"
        )
    by_size: dict[tuple[int, int], list[float]] = {}
    for image, diameter in zip(images, own, strict=True):
        if diameter is not None:
            by_size.setdefault((image.width_px, image.height_px), []).append(diameter)
    fallback = float(np.median(known))
    factors = []
    for image, diameter in zip(images, own, strict=True):
        alike = by_size.get((image.width_px, image.height_px), [fallback])
        factors.append(target_px / (diameter or float(np.median(alike))))
    return factors


def read_pixels(image: LabelledImage) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of a labelled image, through the reader that analysis uses."""
    ref = ImageRef(image.path, image.path.name, image.path.parent.name)
    return read_image(ref, max_pixels=_MAX_PIXELS).pixels
