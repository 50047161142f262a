"""Class names brought together: renaming labels, also to the three classes of a blood film."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from cellcount.core.blood import BLOOD_CLASSES, BLOOD_SYNONYMS
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.errors import AnnotationError


def map_labels(annotated: AnnotatedSet, mapping: Mapping[str, str]) -> AnnotatedSet:
    """Renames classes; several may become one, and a class not named keeps its name.

    Names are compared exactly first, then without regard to case, ``-``, ``_`` and plural s.
    """
    loose = {_loosely(name): new for name, new in mapping.items()}
    renamed = {
        name: mapping.get(name, loose.get(_loosely(name), name)) for name in annotated.classes
    }
    images = tuple(
        dataclasses.replace(image, labels=tuple(renamed[label] for label in image.labels))
        for image in annotated.images
    )
    return dataclasses.replace(
        annotated, images=images, classes=tuple(dict.fromkeys(renamed.values()))
    )


def blood_classes(annotated: AnnotatedSet) -> AnnotatedSet:
    """The set with the classes rbc, wbc, platelet, those that occur, in this order.

    Typed white cells become wbc. Raises AnnotationError where a class is none of the three.
    """
    mapped = map_labels(annotated, BLOOD_SYNONYMS)
    foreign = [name for name in mapped.classes if name not in BLOOD_CLASSES]
    if foreign:
        raise AnnotationError(
            f"the classes {foreign} are no red cells, white cells or platelets, expected "
            f"spellings of {', '.join(BLOOD_CLASSES)}; rename them with a mapping first"
        )
    present = tuple(name for name in BLOOD_CLASSES if name in mapped.classes)
    return dataclasses.replace(mapped, classes=present)


def _loosely(name: str) -> str:
    words = re.sub(r"[\s_-]+", " ", name.strip().casefold())
    return words.removesuffix("s")
