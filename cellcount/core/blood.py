"""The three classes of a blood film: ids, names, plurals, and the spellings that data sets use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

RBC, WBC, PLATELET = "rbc", "wbc", "platelet"


class BloodClass(NamedTuple):
    """One class of a detector for blood films.

    Attributes:
        id: as in column names.
        name: in words, singular.
        plural: of the name.
        spellings: met in published data sets; case, plural s, "-" and "_" need no entry.
    """

    id: str
    name: str
    plural: str
    spellings: tuple[str, ...]


_CLASSES = (
    BloodClass(
        RBC, "red cell", "red cells", ("rbc", "red blood cell", "red cell", "erythrocyte")
    ),
    BloodClass(
        WBC,
        "white or nucleated cell",
        "white or nucleated cells",
        (
            "wbc", "white blood cell", "white cell", "leukocyte", "leucocyte",
            "neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte",
        ),
    ),
    BloodClass(
        PLATELET, "platelet", "platelets", ("platelet", "plt", "thrombocyte", "blood platelet")
    ),
)  # fmt: skip

BLOOD: Mapping[str, BloodClass] = MappingProxyType({one.id: one for one in _CLASSES})
"""Id → class, in the order of the packaged detector's labels."""
BLOOD_CLASSES = tuple(BLOOD)
BLOOD_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {spelling: one.id for one in _CLASSES for spelling in one.spellings}
)


def is_white(class_id: str) -> bool:
    """Return whether a detector's class holds white cells: any class but red cells and platelets.

    A detector for marrow has nucleated cells under an id of its own.
    """
    return class_id not in (RBC, PLATELET)
