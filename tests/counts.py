"""Numbers of boxes and cells of each class in a data set."""

from __future__ import annotations

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.crop_set import CropSet


def box_counts(annotated: AnnotatedSet) -> dict[str, int]:
    """Boxes per class, in the order of the classes, those without any as well."""
    labels = [label for image in annotated.images for label in image.labels]
    return {name: labels.count(name) for name in annotated.classes}


def label_counts(crops: CropSet) -> dict[str, int]:
    """Cells per class, in the order of the classes, those without any as well."""
    labels = [item.label for item in crops.items]
    return {name: labels.count(name) for name in crops.classes}
