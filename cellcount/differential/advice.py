"""Advice to the reader of a differential. It never stops anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cellcount.differential.figures import Advice, Figure, Rules, Sample
from cellcount.differential.limits import FEWEST_FIELDS, MOST_CELLS, cells_to_settle, straddles
from cellcount.differential.tally import Tally, scaled
from cellcount.files.text import number_of

#: Fewer nucleated red cells per 100 white cells hardly change a white cell count.
_MANY_NRBC = 5


def advice_of(tally: Tally, figures: Sequence[Figure]) -> tuple[Advice, ...]:
    """Return all advice on one sample, the most important first."""
    return tuple(_advice(tally, {(f.kind, f.id): f for f in figures}))


def experimental(rules: Rules | None) -> Iterator[Advice]:
    """Say that the detector is an experiment, and why."""
    if rules is not None and rules.experimental:
        yield Advice(
            "experimental",
            f"the detector is experimental: {rules.experimental}; no count is to be relied on",
        )


def _advice(tally: Tally, figures: dict[tuple[str, str], Figure]) -> Iterator[Advice]:
    if tally.rules.forced:
        yield Advice(
            "forced",
            f"the profile {tally.profile.name} was forced on models of another kind of smear; "
            "these numbers are not to be relied on",
        )
    yield from experimental(tally.rules)
    yield from unfinished(tally.sample)
    if not tally.counted:
        reason = _left_out(tally) or "there is none"
        yield Advice("empty", f"there are no counts, for no field was analysed: {reason}")
        return
    yield from _on_fields(tally)
    if not tally.coverage.types:
        yield Advice("no_classifier", "no classifier ran, so there is no differential")
        yield from _on_white_cell_count(tally)
        return
    if not tally.total:
        yield Advice("empty", f"the differential is empty: none of the {_what(tally)} was found")
    yield from _on_assessment(tally)
    if tally.total:
        yield from _on_number(tally)
        yield from _on_thresholds(tally, figures.get(("measure", "blasts_of_all")))
    yield from _on_rejected(tally)
    yield from _on_unclassified(tally)
    yield from _on_white_cell_count(tally)
    yield from _on_adjustment(tally)


def unfinished(sample: Sample) -> Iterator[Advice]:
    """Warn of numbers that will change when an unfinished run goes on."""
    if not sample.outstanding:
        return
    known = (sample.fields or 0) + sample.failed + sample.excluded + sample.outstanding
    yield Advice(
        "unfinished",
        f"unfinished: {sample.outstanding:,} of {number_of(known, 'field')} have no result yet, so "
        "these numbers are not final; give the same command again",
    )


def _what(tally: Tally) -> str:
    fields = tally.sample.fields
    where = "" if fields is None else f" on {number_of(fields, 'field')}"
    return f"{tally.profile.cells} that it counts{where}"


def _on_fields(tally: Tally) -> Iterator[Advice]:
    if reason := _left_out(tally):
        yield Advice("fields_left_out", f"fields that are not in it: {reason}")


def _left_out(tally: Tally) -> str:
    """Return the numbers of failed and excluded fields in words, "" where there are none."""
    sample = tally.sample
    counts = {
        "failed": sample.failed,
        "excluded": sample.excluded,
        "without a result yet": sample.outstanding,
    }
    return ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)


def _on_assessment(tally: Tally) -> Iterator[Advice]:
    coverage = tally.coverage
    if coverage.complete:
        return
    rows = coverage.missing
    what = f"cannot name {coverage.words(rows)}" if rows else "mixes rows of the denominator"
    withheld = [
        name
        for name, rule in (("M:E", tally.profile.me_ratio), ("blast figures", tally.profile.blasts))
        if rule is not None
    ]
    then = f", and {' and '.join(withheld)} are withheld" if withheld else ""
    yield Advice(
        "of_assessed_cells",
        f"the classifier {what}: percentages are of assessed cells{then}; such cells, if there "
        "were any, stand under other names",
    )


def _on_number(tally: Tally) -> Iterator[Advice]:
    targets, slides = tally.profile.targets, tally.sample.slides
    if targets and tally.total < targets[0].cells:
        yield Advice(
            "few_cells",
            f"{number_of(tally.total, 'cell')} counted, fewer than the {targets[0].cells:,} of the "
            f"profile's first target ({targets[0].meaning})",
        )
    short = [t for t in targets if tally.total >= t.cells and slides < t.slides]
    if short:
        yield Advice(
            "few_slides",
            f"{short[-1].cells:,} cells are reached, but on {number_of(slides, 'slide')}; "
            f"{short[-1].slides} are asked for ({short[-1].meaning})",
        )
    fields = tally.sample.fields
    if tally.sample.per_field is not None and fields is not None and fields < FEWEST_FIELDS:
        yield Advice(
            "few_fields",
            f"fewer than {FEWEST_FIELDS} fields do not show how cells cluster; the limits hold for "
            "cells that lie at random, so they are the narrowest possible",
        )


def _on_thresholds(tally: Tally, blasts: Figure | None) -> Iterator[Advice]:
    """Advise on each threshold that lies within the limits of the blasts."""
    rule = tally.profile.blasts
    if rule is None or blasts is None or blasts.limits is None or blasts.n is None:
        return
    for threshold in rule.thresholds_percent:
        if not straddles(scaled(blasts.limits, 0.01), threshold / 100):
            continue
        needed = cells_to_settle(
            blasts.n,
            tally.total,
            threshold / 100,
            method=tally.rules.method,
            confidence=tally.rules.confidence,
        )
        if needed is None:
            remedy = f"more counting will not settle this (up to {MOST_CELLS:,} cells)"
        else:
            remedy = (
                f"count more: about {needed:,} {tally.profile.cells} in all would settle it if "
                "the share stays"
            )
        high = blasts.limits.high if blasts.limits.high is not None else 100.0
        counted = number_of(tally.total, tally.profile.cells.removesuffix("s"))
        yield Advice(
            f"blasts_near_{threshold:g}",
            f"blasts {blasts.value:.1f} % ({blasts.limits.low:.1f}–{high:.1f}) of {counted} leave "
            f"the threshold of {threshold:g} % open; {remedy}",
        )


def _on_rejected(tally: Tally) -> Iterator[Advice]:
    n = tally.sample.rejected
    if n:
        names = ", ".join(t.name for t in tally.coverage.types if not t.white_cell)
        yield Advice(
            "rejected",
            f"{number_of(n, 'detected white cell')} typed as {names}: in no count of white cells; "
            "cells.csv lists each one for review, and --keep-rejected counts them all the same",
        )


def _on_unclassified(tally: Tally) -> Iterator[Advice]:
    typed = int(tally.by_type.sum()) + tally.unclassified
    most = tally.profile.unclassified_percent
    if typed and 100 * tally.unclassified / typed > most:
        yield Advice(
            "unclassified",
            f"unclassified {tally.unclassified:,} of {number_of(typed, 'typed cell')}, more than "
            f"{most:g} %; none of it is in any percentage, so look before you rely on one",
        )


def _on_white_cell_count(tally: Tally) -> Iterator[Advice]:
    rule, given = tally.profile.absolute, tally.sample.wbc_10e9_per_l
    if rule is None or not given:
        return
    if len(given) > 1:
        several = ", ".join(f"{value:g}" for value in given)
        yield Advice(
            "wbc_differs",
            f"the manifest gives several white cell counts ({several}), so there are no absolute "
            "counts; give one for each specimen",
        )
    elif tally.nrbc_per_100 is not None and tally.nrbc_per_100 >= _MANY_NRBC:
        says = "counts them as white cells" if rule.analyzer_counts_nrbc else "leaves them out"
        basis = "corrected" if rule.analyzer_counts_nrbc else "given"
        yield Advice(
            "nrbc",
            f"{tally.nrbc_per_100:.0f} nucleated red cells per 100 {tally.of}: absolute counts "
            f"rest on the {basis} white cell count, as the profile says that the analyzer {says}",
        )


def _on_adjustment(tally: Tally) -> Iterator[Advice]:
    confusion = tally.rules.confusion
    if confusion is None:
        return
    if not tally.adjustable:
        text = f"nothing is adjusted: {confusion.source} does not know all types found here"
    else:
        text = (
            f"adjusted figures undo the classifier's confusions as found in {confusion.source}; "
            "they hold where cells are confused here as they were there"
        )
        if labelled := int(tally.reviewed.sum()):
            text += f"; {number_of(labelled, 'cell')} that a person labelled are taken as they are"
    yield Advice("adjusted", text)
