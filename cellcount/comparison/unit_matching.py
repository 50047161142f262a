"""Matching of the slides or specimens of two tables.

A slide is known by its specimen and its name, for different people's slides may share a name.
Where a table names no specimen for a slide, the name alone must tell which one it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cellcount.comparison.count_tables import CountedUnit, CountTable, Level, Share
from cellcount.errors import UsageError
from cellcount.files.names import loosely

_LISTED = 6
Shares = dict[str, dict[str, Share]]


@dataclass(frozen=True, slots=True)
class CommonUnits:
    """Slides or specimens of a table under test and of a reference.

    Attributes:
        predicted, reference: those in both tables: name → class → share, in the same order.
        only_predicted, only_reference: names of the others.
        pooled_predicted, pooled_reference: names of those with several rows.
    """

    predicted: Shares
    reference: Shares
    only_predicted: tuple[str, ...]
    only_reference: tuple[str, ...]
    pooled_predicted: tuple[str, ...]
    pooled_reference: tuple[str, ...]


def common_units(predicted: CountTable, reference: CountTable, level: Level) -> CommonUnits:
    """Match the units of both tables, by names that tell slides of different specimens apart.

    Raises:
        UsageError: a slide of one table could be either of several of the other.
    """
    ours, theirs = predicted.units(level), reference.units(level)
    by_slide = _by_slide(ours), _by_slide(theirs)
    if level == "slide":
        for slide in by_slide[0]:
            _check_is_one(slide, (predicted, by_slide[0]), (reference, by_slide[1]))
    partner = {unit: _partner(unit, theirs, by_slide[1]) for unit in ours}
    pairs = {unit: other for unit, other in partner.items() if other is not None}
    pairs = _with_other_spellings(pairs, ours, theirs)
    as_ours = {other: unit for unit, other in pairs.items()}
    lone = [unit for unit in theirs if unit not in as_ours]
    shared = _shared_names((*ours, *lone))
    return CommonUnits(
        predicted={_name(unit, shared): ours[unit] for unit in pairs},
        reference={_name(unit, shared): theirs[other] for unit, other in pairs.items()},
        only_predicted=tuple(_name(unit, shared) for unit in ours if unit not in pairs),
        only_reference=tuple(_name(unit, shared) for unit in lone),
        pooled_predicted=tuple(_name(unit, shared) for unit in predicted.several(level)),
        pooled_reference=tuple(
            _name(as_ours.get(unit, unit), shared) for unit in reference.several(level)
        ),
    )


def _by_slide(units: Iterable[CountedUnit]) -> dict[str, list[str]]:
    """Name of a slide → the specimens that have one of that name, "" for none stated."""
    found: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        found[unit.slide].append(unit.specimen)
    return dict(found)


def _partner(
    unit: CountedUnit, theirs: Iterable[CountedUnit], by_slide: dict[str, list[str]]
) -> CountedUnit | None:
    """Find the same slide in the other table; one without specimen goes by its name."""
    if unit in theirs:
        return unit
    there = by_slide.get(unit.slide, [])
    if unit.slide and len(there) == 1 and "" in (unit.specimen, there[0]):
        return CountedUnit(there[0], unit.slide)
    return None


def _with_other_spellings(
    pairs: Mapping[CountedUnit, CountedUnit],
    ours: Collection[CountedUnit],
    theirs: Iterable[CountedUnit],
) -> dict[CountedUnit, CountedUnit]:
    """Add pairs of units without a partner whose names differ in letter case alone."""
    taken = set(pairs.values())
    left = ([u for u in ours if u not in pairs], [u for u in theirs if u not in taken])
    spelled: tuple[dict[CountedUnit, list[CountedUnit]], ...] = (
        defaultdict(list),
        defaultdict(list),
    )
    for units, found in zip(left, spelled, strict=True):
        for unit in units:
            found[CountedUnit(*map(loosely, unit))].append(unit)
    more = {
        mine[0]: spelled[1][key][0]
        for key, mine in spelled[0].items()
        if len(mine) == len(spelled[1].get(key, ())) == 1
    }
    return {unit: other for unit in ours if (other := pairs.get(unit) or more.get(unit))}


def _check_is_one(slide: str, *tables: tuple[CountTable, dict[str, list[str]]]) -> None:
    """Refuses a slide whose specimen a table leaves open where it matters."""
    specimens = [by_slide.get(slide, []) for _, by_slide in tables]
    if not all(specimens) or max(map(len, specimens)) == 1:
        return
    silent = [table for (table, _), known in zip(tables, specimens, strict=True) if "" in known]
    if not silent:
        return
    named = sorted({name for known in specimens for name in known} - {""})
    shown = ", ".join(named[:_LISTED]) + (", …" if len(named) > _LISTED else "")
    raise UsageError(
        f"{silent[0].path} does not say of which specimen its slide {slide!r} is, and there is "
        f"one of {shown}; give {silent[0].path.name} a column specimen that says so, or give each "
        "slide a name of its own in both tables"
    )


def _shared_names(units: Iterable[CountedUnit]) -> set[str]:
    """Names of slides that more than one specimen has."""
    return {slide for slide, specimens in _by_slide(units).items() if len(specimens) > 1}


def _name(unit: CountedUnit, shared: set[str]) -> str:
    """The slide's name, with its specimen where the name alone would not tell."""
    if not unit.slide:
        return unit.specimen
    if unit.slide not in shared:
        return unit.slide
    return f"{unit.slide} of {unit.specimen or 'no specimen'}"
