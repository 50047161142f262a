"""Figures beside the shares: blasts, M:E, nucleated red cells, absolute counts, platelets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cellcount.differential.figures import (
    PERCENT,
    Assessment,
    Estimate,
    Figure,
)
from cellcount.differential.limits import corrected_wbc, mean_limits, ratio
from cellcount.differential.profile import MeRule
from cellcount.differential.tally import UNNAMED, Tally, scaled

PER_L = "10⁹/L"
_ODDS = "odds of wilson"


def measures(tally: Tally) -> Iterator[Figure]:
    """All measures that the profile and the sample call for, in the order of a report."""
    yield from _fields(tally)
    if tally.coverage.types:
        yield _cells_counted(tally)
        yield from _blasts(tally)
        yield from _me_ratios(tally)
        yield from _nrbc(tally)
    yield from _absolute(tally)
    yield from _platelets(tally)


def _measure(
    tally: Tally,
    id_: str,
    name: str,
    assessment: Assessment = "assessed",
    **rest: Any,  # noqa: ANN401 -- fields of a figure
) -> Figure:
    return tally.figure("measure", id_, name, assessment, **rest)


def _fields(tally: Tally) -> Iterator[Figure]:
    """The fields that cells were counted on, of all that there are."""
    sample = tally.sample
    if sample.fields is not None:
        yield _measure(
            tally,
            "fields_analysed",
            "fields analysed",
            n=sample.fields,
            denominator=sample.fields + sample.failed + sample.excluded,
            of="fields",
            note=f"{sample.failed:,} failed, {sample.excluded:,} excluded",
        )


def _cells_counted(tally: Tally) -> Figure:
    """The size of the denominator against the profile's targets."""
    slides = tally.sample.slides
    reached = [t for t in tally.profile.targets if tally.total >= t.cells and slides >= t.slides]
    ahead = [t for t in tally.profile.targets if t not in reached]
    parts = []
    if reached:
        parts.append(f"reaches {reached[-1].cells}, {reached[-1].meaning}")
    if ahead:
        several = f" on {ahead[0].slides} slides" if ahead[0].slides > 1 else ""
        parts.append(f"not yet {ahead[0].cells}{several}, {ahead[0].meaning}")
    return _measure(
        tally,
        "cells_counted",
        f"{tally.of} counted",
        n=tally.total,
        denominator=(ahead or reached)[0 if ahead else -1].cells if ahead or reached else None,
        of="target" if ahead or reached else "",
        note="; ".join(parts),
    )


def withheld_reason(tally: Tally) -> str:
    """Return the reason for which M:E and blast figures are withheld, "" where they are not."""
    if tally.coverage.complete:
        return ""
    rows = tally.coverage.missing
    what = f"does not name {tally.coverage.words(rows)}" if rows else "mixes rows in and outside"
    return f"withheld: the classifier {what}"


def _blasts(tally: Tally) -> Iterator[Figure]:
    rule, profile = tally.profile.blasts, tally.profile
    if rule is None:
        return
    name = profile.name_of(rule.row)
    none: tuple[str, ...] = ()
    asked = [("blasts_of_all", f"{name} of all {profile.cells}", profile.cells, none)]
    if rule.erythroid:
        cells = "non-erythroid cells"
        asked.append(("blasts_of_non_erythroid", f"{name} of {cells}", cells, rule.erythroid))
    members = tally.coverage.members([rule.row])
    for id_, title, of, left_out in asked:
        without = tally.coverage.members(left_out) if left_out else ()
        reason = withheld_reason(tally)
        if reason or members is None or without is None:
            reason = reason or f"withheld: {name} are not told apart from other rows"
            yield _measure(tally, id_, title, "withheld", note=reason)
            continue
        n, total = tally.cells(members), tally.total - tally.cells(without)
        value, limits = tally.percent(n, total)
        notes = [rule.note, *(tally.coverage.types[i].note for i in members)]
        yield _measure(
            tally,
            id_,
            title,
            n=n,
            denominator=total,
            of=of,
            value=value,
            unit=PERCENT,
            limits=limits,
            method=tally.rules.method if limits else "",
            note="; ".join(note for note in notes if note),
        )


def _me_ratios(tally: Tally) -> Iterator[Figure]:
    """The profile's convention first, then the other."""
    rule = tally.profile.me_ratio
    if rule is None:
        return
    icsh = ("me_ratio_icsh", "M:E, monocytes counted as myeloid (ICSH)", True)
    without = ("me_ratio_without_monocytes", "M:E, monocytes left out", False)
    asked = [icsh, without] if rule.convention == "icsh" else [without, icsh]
    for place, (id_, name, with_monocytes) in enumerate(asked):
        yield _me_ratio(tally, rule, id_, name, with_monocytes=with_monocytes, first=not place)


def _me_ratio(
    tally: Tally, rule: MeRule, id_: str, name: str, *, with_monocytes: bool, first: bool
) -> Figure:
    coverage = tally.coverage
    above = coverage.members((*rule.myeloid, *(rule.monocytes if with_monocytes else ())))
    below = coverage.members(rule.erythroid)
    reason = withheld_reason(tally)
    if reason or above is None or below is None:
        reason = reason or "withheld: myeloid and erythroid cells are not told apart from others"
        return _measure(tally, id_, name, "withheld", note=reason)
    found = ratio(tally.cells(above), tally.cells(below), confidence=tally.rules.confidence)
    notes = ["the convention of this profile" if first else "the other convention"]
    if tally.profile.blasts:
        notes += [coverage.types[i].note for i in coverage.own(tally.profile.blasts.row)]
    if found.value is None:
        notes.append("no erythroid cell, so the ratio is undefined")
    return _measure(
        tally,
        id_,
        name,
        n=tally.cells(above),
        denominator=tally.cells(below),
        of="erythroid cells",
        value=found.value,
        unit=":1",
        limits=found.limits,
        method=_ODDS if found.limits else "",
        note="; ".join(note for note in notes if note),
    )


def _nrbc(tally: Tally) -> Iterator[Figure]:
    """Nucleated red cells per 100 cells of the denominator, outside of which they stay."""
    row = tally.profile.nrbc
    if not row:
        return
    name = f"{tally.profile.name_of(row)} per 100 {tally.of}"
    if not tally.coverage.is_named(row):
        note = UNNAMED + tally.by_reviewers(tally.coverage.own(row))
        yield _measure(tally, "nrbc_per_100", name, "not assessed", note=note)
        return
    n = tally.cells(tally.coverage.own(row))
    found = ratio(n, tally.total, confidence=tally.rules.confidence)
    limits = None if found.value is None else scaled(found.limits, 100)
    yield _measure(
        tally,
        "nrbc_per_100",
        name,
        n=n,
        denominator=tally.total,
        of=tally.of,
        value=tally.nrbc_per_100,
        unit="per 100",
        limits=limits,
        method=_ODDS if limits else "",
        note="outside the denominator",
    )


def _absolute(tally: Tally) -> Iterator[Figure]:
    """White cell counts, given and corrected, and the absolute neutrophil count."""
    rule, given = tally.profile.absolute, tally.sample.wbc_10e9_per_l
    if rule is None or len(given) != 1:
        return
    basis = "corrected" if rule.analyzer_counts_nrbc else "given"
    name = "white cell count"
    yield _measure(
        tally,
        "wbc",
        f"{name}, as given",
        value=given[0],
        unit=PER_L,
        note="absolute counts rest on it" if basis == "given" else "",
    )
    if not tally.coverage.types:
        return
    if tally.nrbc_per_100 is None:
        note = "needs the nucleated red cells per 100 white cells"
        yield _measure(tally, "wbc_corrected", f"{name}, corrected", "not assessed", note=note)
    else:
        note = "WBC × 100 / (100 + NRBC per 100), for analyzers that count NRBC as white cells"
        rests = "; absolute counts rest on it" if basis == "corrected" else ""
        yield _measure(
            tally,
            "wbc_corrected",
            f"{name}, corrected",
            value=corrected_wbc(given[0], tally.nrbc_per_100),
            unit=PER_L,
            note=note + rests,
        )
    yield _anc(tally, rule.anc, basis)


def _anc(tally: Tally, group_id: str, basis: str) -> Figure:
    group = next(g for g in tally.profile.groups if g.id == group_id)
    name = "absolute neutrophil count (ANC)" if group_id == "neutrophils" else f"ANC ({group.name})"
    members = tally.coverage.members(group.rows)
    if members is None:
        return _measure(
            tally, "anc", name, "not assessed", note="the classifier cannot tell neutrophils"
        )
    absolute: Estimate | None = tally.shares([("group", group_id, name, members, "")])[
        "group", group_id
    ].absolute_10e9_per_l
    note = f"of the {basis} white cell count, whose own error is not in the limits"
    if not tally.coverage.complete:
        note += "; assessed cells taken for all white cells"
    return _measure(
        tally,
        "anc",
        name,
        n=tally.cells(members),
        denominator=tally.total,
        of=tally.of,
        value=None if absolute is None else absolute.value,
        unit=PER_L,
        limits=None if absolute is None else absolute.limits,
        method=tally.rules.method if absolute else "",
        note=note,
    )


def _platelets(tally: Tally) -> Iterator[Figure]:
    """The estimate from platelets per field and the laboratory's factor."""
    rule, sample = tally.profile.platelets, tally.sample
    if rule is None or rule.detector_class not in sample.objects or not sample.fields:
        return
    id_, name = "platelet_estimate", "platelets, estimated"
    if rule.field_um2 and sample.area_um2 is None:
        note = (
            f"withheld: the factor belongs to fields of {rule.field_um2:,.0f} µm², and the µm per "
            "pixel of some image is unknown"
        )
        yield _measure(tally, id_, name, "withheld", note=note)
        return
    fields, of = float(sample.fields), "image"
    if rule.field_um2 and sample.area_um2 is not None:
        fields, of = sample.area_um2 / rule.field_um2, f"field of {rule.field_um2:,.0f} µm²"
    n, factor = sample.objects[rule.detector_class], rule.factor_10e9_per_l
    yield _measure(
        tally,
        id_,
        name,
        n=n,
        denominator=sample.fields,
        of="fields",
        value=factor * n / fields,
        unit=PER_L,
        limits=scaled(mean_limits(n, 1, confidence=tally.rules.confidence), factor / fields),
        method="poisson",
        note=f"the profile's factor, {factor:g} × platelets per {of}",
    )
