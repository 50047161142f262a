"""Nouns of a differential: figures with limits, advice, and the sample that they rest on.

Shapes: F fields, K types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellcount.differential.limits import Limits, Method
from cellcount.differential.profile import Profile

Kind = Literal["class", "pool", "group", "lineage", "outside", "object", "measure"]
Assessment = Literal["assessed", "pooled", "not assessed", "withheld", "not counted"]
KINDS: tuple[Kind, ...] = ("class", "pool", "group", "lineage", "outside", "object", "measure")
ASSESSMENTS: tuple[Assessment, ...] = (
    "assessed", "pooled", "not assessed", "withheld", "not counted",
)  # fmt: skip

PERCENT = "%"
ASSESSED_CELLS = "assessed cells"


@dataclass(frozen=True, slots=True)
class TypeRows:
    """A type of cell that may be counted, and the rows of a differential that it fills.

    Attributes:
        id: name in the counts.
        name: of several such cells, in words.
        rows: the row it fills; several where it pools them; none where it belongs to no row.
        note: what a reader of its numbers must know.
        searched: every cell was asked whether it is one. False for a type that only a reviewer
            gave: its cells count, but their absence says nothing.
        white_cell: a detected white cell of this type counts as one; False for platelets,
            artefacts and false finds, which leave the count of white cells.
    """

    id: str
    name: str
    rows: tuple[str, ...] = ()
    note: str = ""
    searched: bool = True
    white_cell: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its limits."""

    value: float
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a differential; None where it cannot be known, never 0.

    Attributes:
        kind: a row of the profile (``class``), rows that the classifier does not tell apart
            (``pool``), a ``group``, a ``lineage``, cells ``outside`` the denominator, an
            ``object`` of the detector, or a ``measure`` such as the M:E ratio.
        id, name: which one, also in words.
        assessment: ``assessed``; ``pooled``: counted, but only together with other rows; ``not
            assessed``: the classifier cannot name it; ``withheld``: it would mislead; ``not
            counted``: no field could be analysed.
        n: cells counted.
        denominator: cells, fields or whatever ``of`` says that ``value`` is stated of.
        of: what the denominator is, in words.
        value: the number itself, in ``unit``.
        unit: ``%``, ``10⁹/L`` or whatever else, "" for a plain number.
        limits: of ``value``, in its unit.
        method: of the limits.
        bootstrap: limits of ``value`` when fields are drawn again.
        adjusted: ``value`` corrected for the classifier's confusions.
        absolute_10e9_per_l: the same share of the white cell count.
        note: what a reader of it must know.
    """

    kind: Kind
    id: str
    name: str
    assessment: Assessment = "assessed"
    n: int | None = None
    denominator: int | None = None
    of: str = ""
    value: float | None = None
    unit: str = ""
    limits: Limits | None = None
    method: str = ""
    bootstrap: Limits | None = None
    adjusted: Estimate | None = None
    absolute_10e9_per_l: Estimate | None = None
    note: str = ""

    @property
    def percent(self) -> float | None:
        """The value where it is a percentage."""
        return self.value if self.unit == PERCENT else None


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence for the reader; it never stops anything."""

    id: str
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class Confusion:
    """Confusion matrix of a classifier, on cells of known type.

    Attributes:
        ids: K types.
        cells: int64 (K, K), row true type, column type given.
        source: where it comes from.
    """

    ids: tuple[str, ...]
    cells: NDArray[np.int64]
    source: str


@dataclass(frozen=True, eq=False, slots=True)
class Rules:
    """Rules by which limits are made.

    Attributes:
        method: of the limits of shares.
        confidence: of all limits.
        confusion: where figures are adjusted for it, else None.
        forced: the profile was made to apply to models of another kind of smear.
        experimental: why no count of the detector can be relied on yet, "" where it can.
    """

    method: Method = "wilson"
    confidence: float = 0.95
    confusion: Confusion | None = None
    forced: bool = False
    experimental: str = ""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sample:
    """Fields and slides that the cells were counted on; every part may be unknown.

    Attributes:
        fields: fields analysed, None where cells were not counted on fields.
        failed, excluded: fields that could not be analysed, or were left out on purpose.
        outstanding: fields that an unfinished run has not come to yet.
        slides: slides they lie on.
        per_field: cells of each field and type (F, K), in the order of the assessable types.
        reviewed: type → cells among the counted ones that a person has labelled.
        left_open: unclassified cells that a person has looked at and left so.
        objects: class of the detector → objects; rejected ones are in none of them.
        rejected: detected white cells of a type that is none; None where no type is.
        object_names: class of the detector → its name in words.
        area_um2: of all fields analysed, None where the scale of one is unknown.
        wbc_10e9_per_l: the different white cell counts that were given for them.
    """

    fields: int | None = None
    failed: int = 0
    excluded: int = 0
    outstanding: int = 0
    slides: int = 1
    per_field: NDArray[np.int64] | None = None
    reviewed: Mapping[str, int] = field(default_factory=dict)
    left_open: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    rejected: int | None = None
    object_names: Mapping[str, str] = field(default_factory=dict)
    area_um2: float | None = None
    wbc_10e9_per_l: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Differential:
    """Everything that is known of one sample's cells.

    Attributes:
        profile: by which it was counted.
        rules: how limits were made.
        total: cells of the denominator; None where nothing was counted or no classifier ran.
        complete: the classifier can name every row of the denominator.
        figures: in the order of a report.
        advice: likewise.
    """

    profile: Profile
    rules: Rules
    total: int | None
    complete: bool
    figures: tuple[Figure, ...]
    advice: tuple[Advice, ...]

    def figure(self, kind: Kind, id_: str) -> Figure:
        """The figure of that kind and id.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if (figure.kind, figure.id) == (kind, id_):
                return figure
        raise KeyError(f"{kind} {id_}")

    def of_kind(self, *kinds: Kind) -> tuple[Figure, ...]:
        """The figures of some kinds, in their order."""
        return tuple(figure for figure in self.figures if figure.kind in kinds)
