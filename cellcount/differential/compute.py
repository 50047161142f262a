"""The differential itself: every figure of a profile from counts of types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cellcount.core.records import REJECTED, UNCLASSIFIED
from cellcount.differential.advice import advice_of
from cellcount.differential.coverage import Coverage
from cellcount.differential.figures import (
    Advice,
    Differential,
    Figure,
    Kind,
    Rules,
    Sample,
    TypeRows,
)
from cellcount.differential.limits import mean_limits
from cellcount.differential.measures import measures
from cellcount.differential.profile import Profile, RowSet
from cellcount.differential.tally import UNNAMED, Tally

_Asked = tuple[Kind, str, str, tuple[int, ...], str]


def differential(
    counts: Mapping[str, int],
    profile: Profile,
    assessable: Sequence[TypeRows],
    *,
    sample: Sample | None = None,
    rules: Rules | None = None,
) -> Differential:
    """The differential of one sample: a slide, a specimen, a manual count.

    A row that no assessable type fills is not assessed, never 0. Where such a row belongs to the
    denominator, percentages are of assessed cells, and M:E and blast figures are withheld.

    Args:
        counts: type → cells; ``unclassified`` for those that a classifier left open.
        profile: what is counted, and by which rules.
        assessable: the types that could be counted, with the rows they fill; none without a
            classifier, and no differential then.
        sample: what was counted on; None where nothing is known of it.
        rules: how limits are made; None for Wilson's 95 %.

    Raises:
        ValueError: a count of a type that is not assessable, a negative one, or more cells
            reviewed than counted.
    """
    rules = rules or Rules()
    coverage = Coverage(profile, assessable)
    tally = Tally(counts, coverage, sample or Sample(), rules)
    figures = [*_objects(tally), *measures(tally)]
    if assessable:
        figures = [*_shares(tally), *_outside(tally), *figures]
    has_total = bool(assessable) and tally.counted
    return Differential(
        profile=profile,
        rules=rules,
        total=tally.total if has_total else None,
        complete=coverage.complete,
        figures=tuple(figures),
        advice=advice_of(tally, figures),
    )


def counts_only(whole: Differential) -> Differential:
    """Return the counts of a differential without shares, as for a run, which pools people."""
    figures = tuple(
        replace(
            figure,
            denominator=None,
            of="",
            value=None,
            unit="",
            limits=None,
            method="",
            bootstrap=None,
            adjusted=None,
            absolute_10e9_per_l=None,
        )
        for figure in whole.figures
        if figure.kind != "measure"
    )
    said = Advice("counts_only", "a run pools people, so it has counts and no percentages")
    return replace(whole, figures=figures, advice=(said,))


def _shares(tally: Tally) -> Iterator[Figure]:
    """Rows of the profile in their order, each pool after its first row, groups and lineages."""
    found = tally.shares([*_classes(tally.coverage), *_pools(tally.coverage), *_sets(tally)])
    for row in tally.profile.rows:
        yield found.get(("class", row)) or _unnamed(tally, row)
        pool = tally.coverage.pool_of(row)
        if pool is not None and pool[0] == row:
            for rows in tally.coverage.pools:
                if rows[0] == row:
                    yield found["pool", "+".join(rows)]
    several: tuple[tuple[Kind, tuple[RowSet, ...]], ...] = (
        ("group", tally.profile.groups),
        ("lineage", tally.profile.lineages),
    )
    for kind, sets in several:
        for one in sets:
            yield found.get((kind, one.id)) or _outside_set(tally, kind, one)


def _classes(coverage: Coverage) -> Iterator[_Asked]:
    for row in coverage.profile.rows:
        if coverage.is_named(row):
            members = coverage.own(row)
            notes = [coverage.types[i].note for i in members if coverage.types[i].note]
            pool = coverage.pool_of(row)
            if pool is not None:
                notes.append(f"some may stand under {coverage.words(pool)}, which are not split")
            yield "class", row, coverage.profile.name_of(row), members, "; ".join(notes)


def _pools(coverage: Coverage) -> Iterator[_Asked]:
    for rows, members in coverage.pools.items():
        notes = [coverage.types[i].note for i in members if coverage.types[i].note]
        name = " or ".join(t.name for t in (coverage.types[i] for i in members) if t.rows[1:])
        note = "; ".join([f"{coverage.words(rows)}, not split", *notes])
        yield "pool", "+".join(rows), name, members, note


def _sets(tally: Tally) -> Iterator[_Asked]:
    """Groups and lineages of the denominator that can be counted."""
    counted = set(tally.profile.rows)
    kinds: tuple[tuple[Kind, tuple[RowSet, ...]], ...] = (
        ("group", tally.profile.groups),
        ("lineage", tally.profile.lineages),
    )
    for kind, sets in kinds:
        for one in sets:
            members = tally.coverage.members(one.rows)
            if members is not None and set(one.rows) <= counted:
                yield kind, one.id, one.name, members, ""


def _unnamed(tally: Tally, row: str) -> Figure:
    """Figure of a row of the denominator that the classifier cannot name by itself."""
    coverage, name = tally.coverage, tally.profile.name_of(row)
    pool, members = coverage.pool_of(row), coverage.own(row)
    if pool is not None:
        note = f"counted, but only together: {coverage.words(pool)}"
        note += tally.by_reviewers(members, ", counted with them")
        return tally.figure("class", row, name, "pooled", note=note)
    note = UNNAMED + tally.by_reviewers(members, ", which the denominator holds")
    return tally.figure("class", row, name, "not assessed", note=note)


def _outside_set(tally: Tally, kind: Kind, rows: RowSet) -> Figure:
    """Figure of a group or lineage that lies outside the denominator, or cannot be counted."""
    members = tally.coverage.members(rows.rows)
    if members is None:
        return tally.figure(
            kind,
            rows.id,
            rows.name,
            "not assessed",
            note=f"the classifier cannot tell all of {tally.coverage.words(rows.rows)}",
        )
    note = "outside the denominator"
    return tally.figure(kind, rows.id, rows.name, n=tally.cells(members), note=note)


def _outside(tally: Tally) -> Iterator[Figure]:
    """Figures of cells outside the denominator: counted and listed, never part of a percentage."""
    coverage = tally.coverage
    for row in tally.profile.outside:
        name = tally.profile.name_of(row)
        members = coverage.own(row)
        if coverage.is_named(row):
            yield tally.figure("outside", row, name, n=tally.cells(members))
        else:
            note = UNNAMED + tally.by_reviewers(members)
            yield tally.figure("outside", row, name, "not assessed", note=note)
    for i in coverage.elsewhere:
        one, note = coverage.types[i], f"no row of {tally.profile.name}"
        if one.searched:
            yield tally.figure("outside", one.id, one.name, n=tally.cells([i]), note=note)
        else:
            note = f"{note}; {UNNAMED}{tally.by_reviewers([i])}"
            yield tally.figure("outside", one.id, one.name, "not assessed", note=note)
    note = "the classifier was not sure enough"
    if left := tally.sample.left_open:
        note += f"; {left:,} of them a reviewer has looked at and left unclassified"
    yield tally.figure("outside", UNCLASSIFIED, UNCLASSIFIED, n=tally.unclassified, note=note)


def _objects(tally: Tally) -> Iterator[Figure]:
    """Yield the counts of the detector's classes, per field."""
    sample = tally.sample
    found = [(name, sample.object_names.get(name, name), n) for name, n in sample.objects.items()]
    if sample.rejected is not None:
        found.append((REJECTED, "detected as white cells, typed as none", sample.rejected))
    for id_, name, n in found:
        fields = sample.fields
        limits = None
        if fields is not None:
            limits = mean_limits(n, fields, confidence=tally.rules.confidence)
        yield tally.figure(
            "object",
            id_,
            name,
            n=n,
            denominator=fields,
            of="fields" if fields else "",
            value=n / fields if fields else None,
            unit="per field" if fields else "",
            limits=limits,
            method="poisson" if limits else "",
        )
