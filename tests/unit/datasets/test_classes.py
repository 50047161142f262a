"""Renaming classes and the blood synonyms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.classes import blood_classes, map_labels
from cellcount.errors import AnnotationError


def with_classes(*classes: str) -> AnnotatedSet:
    """One image with one box of each class."""
    boxes = np.array([[i, 0, i + 1, 1] for i in range(len(classes))], np.float32).reshape(-1, 4)
    return AnnotatedSet((LabelledImage(Path("a.jpg"), boxes, classes),), classes, (), "made")


def test_map_labels_merges_and_keeps_what_is_not_named() -> None:
    mapped = map_labels(with_classes("Blast", "lymph", "Lymphs", "other"), {"LYMPH": "lymphocyte"})
    assert mapped.classes == ("Blast", "lymphocyte", "other")
    assert mapped.images[0].labels == ("Blast", "lymphocyte", "lymphocyte", "other")
    assert mapped.images[0].boxes_xyxy[:, 0].tolist() == [0, 1, 2, 3]


def test_an_exact_name_goes_before_a_loose_one() -> None:
    mapped = map_labels(with_classes("RBC", "rbc"), {"rbc": "small", "RBC": "large"})
    assert mapped.images[0].labels == ("large", "small")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("RBC", "rbc"),
        ("rbcs", "rbc"),
        ("Red Blood Cells", "rbc"),
        ("red_blood-cell", "rbc"),
        ("Erythrocyte", "rbc"),
        ("WBC", "wbc"),
        ("white blood cell", "wbc"),
        ("Leucocytes", "wbc"),
        ("Neutrophil", "wbc"),
        ("Platelets", "platelet"),
        ("Platelet", "platelet"),
        ("PLT", "platelet"),
        ("thrombocytes", "platelet"),
    ],
)
def test_spellings_of_published_data_sets(spelling: str, name: str) -> None:
    assert blood_classes(with_classes(spelling)).classes == (name,)


def test_blood_classes_have_one_order() -> None:
    annotated = blood_classes(with_classes("Platelets", "WBC", "RBC"))
    assert annotated.classes == ("rbc", "wbc", "platelet")
    assert annotated.images[0].labels == ("platelet", "wbc", "rbc")
    assert blood_classes(with_classes("wbc", "rbc")).classes == ("rbc", "wbc")


def test_a_foreign_class_is_an_error() -> None:
    with pytest.raises(AnnotationError, match="'Parasite'"):
        blood_classes(with_classes("RBC", "Parasite"))
