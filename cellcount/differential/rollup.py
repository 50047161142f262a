"""Roll-up of the counts of fields to slides, specimens and the run.

Shapes: K types and, last, unclassified cells, (K + 1,); C classes of the detector; F fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellcount.core.cells import count_by_class, count_by_type
from cellcount.core.records import UNCLASSIFIED, CellClass, ImageRef, ImageResult, Status
from cellcount.differential.advice import experimental, unfinished
from cellcount.differential.compute import counts_only, differential
from cellcount.differential.figures import Advice, Differential, Rules, Sample, TypeRows
from cellcount.differential.profile import Profile

Level = Literal["slide", "specimen", "run"]
LEVELS: tuple[Level, ...] = ("slide", "specimen", "run")


@dataclass(frozen=True, eq=False, slots=True)
class FieldCounts:
    """Counts of one field.

    Attributes:
        ref: which field.
        status: ``done``, else there is nothing else to know of it.
        types: int64 (K + 1,).
        objects: int64 (C,); rejected cells are in none of them.
        area_um2: None where its scale is unknown.
        reviewed: int64 (K,), the cells of ``types`` that a person has labelled; None where none.
        rejected: detected white cells whose type is that of none.
        left_open: unclassified cells that a person has looked at and left so.
    """

    ref: ImageRef
    status: Status
    types: NDArray[np.int64]
    objects: NDArray[np.int64]
    area_um2: float | None = None
    reviewed: NDArray[np.int64] | None = None
    rejected: int = 0
    left_open: int = 0


def field_counts(
    result: ImageResult,
    num_classes: int,
    type_ids: Sequence[str],
) -> FieldCounts:
    """The counts of one field.

    Args:
        result: the field with its cells, reviewed ones by their reviewed types.
        num_classes: of the detector, C.
        type_ids: the types that may be given, K, the classifier's first and in its order.
    """
    types = count_by_type(result.cells.types, len(type_ids))
    area = None
    if result.um_per_px is not None:
        area = result.width_px * result.height_px * result.um_per_px**2
    objects = count_by_class(result.cells, num_classes)
    reviewed, left_open, said = None, 0, result.cells.types
    if result.reviewed and said is not None:
        looked_at = np.isin(np.arange(len(said)), list(result.reviewed)) & (said.best >= 0)
        by_person = looked_at & said.accepted
        left_open = int((looked_at & ~said.accepted).sum())
        reviewed = np.bincount(said.best[by_person], minlength=len(type_ids)).astype(np.int64)
    rejected = len(result.cells) - result.cells.counted
    return FieldCounts(
        result.ref, result.status, types, objects, area, reviewed, rejected, left_open
    )


@dataclass(frozen=True, eq=False, slots=True)
class Unit:
    """Fields that are counted together.

    Attributes:
        level: ``slide``, ``specimen`` (one patient, one draw) or the whole ``run``.
        specimen, slide: who, "" where the level or the manifest names none.
        fields: its fields, failed and outstanding ones included.
    """

    level: Level
    specimen: str
    slide: str
    fields: tuple[FieldCounts, ...]

    @property
    def done(self) -> int:
        """Fields that were analysed and count."""
        return sum(one.status == "done" for one in self.fields)

    @property
    def outstanding(self) -> int:
        """Fields that an unfinished run has not analysed yet."""
        return sum(one.status == "outstanding" for one in self.fields)


def roll_up(fields: Iterable[FieldCounts]) -> list[Unit]:
    """Slides in the order of their first field, then named specimens likewise, then the run."""
    every = tuple(fields)
    slides: dict[tuple[str, str], list[FieldCounts]] = {}
    specimens: dict[str, list[FieldCounts]] = {}
    for one in every:
        slides.setdefault((one.ref.specimen, one.ref.slide), []).append(one)
        if one.ref.specimen:
            specimens.setdefault(one.ref.specimen, []).append(one)
    return [
        *(Unit("slide", who, slide, tuple(f)) for (who, slide), f in slides.items()),
        *(Unit("specimen", who, "", tuple(f)) for who, f in specimens.items()),
        Unit("run", "", "", every),
    ]


def unit_differential(
    unit: Unit,
    profile: Profile,
    assessable: Sequence[TypeRows],
    classes: Sequence[CellClass],
    rules: Rules | None = None,
) -> Differential:
    """The differential of a slide or specimen; of a run, which pools people, counts alone.

    Args:
        unit: the fields.
        profile: what is counted.
        assessable: the types of the fields' counts, in their order.
        classes: of the detector, in the order of the fields' objects.
        rules: how limits are made.
    """
    done = [one for one in unit.fields if one.status == "done"]
    per_field = np.array([one.types for one in done], np.int64)
    per_field = per_field.reshape(len(done), len(assessable) + 1)
    labelled = [one.reviewed for one in done if one.reviewed is not None]
    reviewed = np.sum(labelled, axis=0).tolist() if labelled else [0] * len(assessable)
    objects = np.array([one.objects for one in done], np.int64).reshape(-1, len(classes))
    areas = [one.area_um2 for one in done]
    given = {one.ref.wbc_10e9_per_l for one in unit.fields} - {None}
    sample = Sample(
        fields=len(done),
        failed=sum(one.status == "failed" for one in unit.fields),
        excluded=sum(one.status == "excluded" for one in unit.fields),
        outstanding=unit.outstanding,
        slides=len({one.ref.slide for one in done}),
        per_field=per_field[:, :-1] if done else None,
        left_open=sum(one.left_open for one in done),
        reviewed={t.id: n for t, n in zip(assessable, reviewed, strict=True) if n},
        objects={c.id: int(n) for c, n in zip(classes, objects.sum(axis=0), strict=True)},
        object_names={c.id: c.plural for c in classes},
        rejected=None if all(t.white_cell for t in assessable) else sum(f.rejected for f in done),
        area_um2=None if None in areas else float(sum(a for a in areas if a is not None)),
        wbc_10e9_per_l=tuple(sorted(wbc for wbc in given if wbc is not None)),
    )
    ids = [*(t.id for t in assessable), UNCLASSIFIED]
    counts = dict(zip(ids, per_field.sum(axis=0).tolist(), strict=True)) if assessable else {}
    if unit.level == "run":
        sample = replace(sample, per_field=None)
        plain = replace(rules or Rules(), confusion=None)
        whole = counts_only(differential(counts, profile, assessable, sample=sample, rules=plain))
        forced = rules is not None and rules.forced
        first = [*_forced(profile, forced=forced), *experimental(rules), *unfinished(sample)]
        return replace(whole, advice=(*first, *whole.advice))
    return differential(counts, profile, assessable, sample=sample, rules=rules)


def _forced(profile: Profile, *, forced: bool) -> tuple[Advice, ...]:
    text = f"the profile {profile.name} was forced on models of another kind of smear"
    return (Advice("forced", text),) if forced else ()
