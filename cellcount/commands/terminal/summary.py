"""Summary of a job in words: a rich table on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from cellcount.commands.terminal.reports import stdout_console
from cellcount.files.text import duration, listed, number_of, shown, speed

if TYPE_CHECKING:
    from cellcount.analysis.job import Job
    from cellcount.analysis.outcome import Outcome
    from cellcount.core.records import CellClass
    from cellcount.images.find import Plan

_SHOWN = 10


class _Part(NamedTuple):
    """A part of the summary: names with numbers of cells, under a heading or none."""

    heading: str
    rows: list[tuple[str, int]]


def say_passed_over(plan: Plan) -> None:
    """Print the files in the INPUTs that get no row, on stderr."""
    for item in plan.passed_over[:_SHOWN]:
        click.echo(f"passed over: {shown(item.path)}: {shown(item.reason)}", err=True)
    more = len(plan.passed_over) - _SHOWN
    if more > 0:
        click.echo(f"passed over: {more:,} more", err=True)


def say_outcome(
    outcome: Outcome, classes: Sequence[CellClass], types: Sequence[CellClass] = ()
) -> None:
    """The summary of an analysis on stdout; what is left to do on stderr.

    Args:
        outcome: what the job came to.
        classes: of the detector.
        types: of the classifier; none where none ran.
    """
    totals = outcome.totals
    parts = [
        _Part("", [(c.plural, totals.counts[c.id]) for c in classes]),
        _Part("", [("all cells", totals.cells)]),
    ]
    if totals.rejected:
        parts.append(_Part("", [("rejected: not white cells", totals.rejected)]))
    if types:
        found = {c.plural for c in classes}
        rows = [
            (f"{name} among the cells typed" if name in found else name, n)
            for name, n in _typed(totals.types, types)
        ]
        parts.append(_Part("by type", rows))
    _say(outcome, parts, images=totals.done)


def say_counting(job: Job) -> None:
    """Print the warnings that the reader of a differential needs at once, on stderr."""
    profile, rules = job.counting.profile, job.counting.rules
    if rules.forced:
        click.echo(
            f"the profile {profile.name} was forced on models of another kind of smear; every "
            "output is marked",
            err=True,
        )
    slides = job.request.output.forms.get("slides")
    if slides is not None and not job.types:
        click.echo(
            f"no classifier ran, so {shown(slides)} has no differential; name "
            "one with --classifier",
            err=True,
        )


def say_typed(outcome: Outcome, types: Sequence[CellClass]) -> None:
    """The summary of pictures of single cells: how many of each type and of each lineage."""
    from cellcount.core.records import UNCLASSIFIED

    totals = outcome.totals
    parts = [_Part("by type", _typed(totals.types, types))]
    if any(t.lineage for t in types):
        lineages: dict[str, int] = {}
        for cell_type in types:
            name = cell_type.lineage or "others"
            lineages[name] = lineages.get(name, 0) + totals.types[cell_type.id]
        lineages[UNCLASSIFIED] = totals.types[UNCLASSIFIED]
        parts.append(_Part("by lineage", list(lineages.items())))
    parts.append(_Part("", [("all cells", totals.cells)]))
    _say(outcome, parts)


def _typed(counts: Mapping[str, int], types: Sequence[CellClass]) -> list[tuple[str, int]]:
    from cellcount.core.records import UNCLASSIFIED

    return [(t.plural, counts[t.id]) for t in types] + [(UNCLASSIFIED, counts[UNCLASSIFIED])]


def _say(outcome: Outcome, parts: Sequence[_Part], images: int = 0) -> None:
    """The whole summary; with a number of images each row says how many cells each has."""
    click.echo(_headline(outcome))
    if outcome.totals.done:
        if sys.stdout.isatty():
            _table(parts, images)
        else:
            _lines(parts, images)
    _notes(outcome)
    click.echo("written: " + ", ".join(shown(path) for path in outcome.written))
    for note in outcome.notes:
        click.echo(f"note: {shown(note)}", err=True)
    if outcome.gave_up:
        click.echo("stopped: more images failed than --max-failure-rate allows", err=True)
    if outcome.left:
        _say_unfinished(outcome)


def _say_unfinished(outcome: Outcome) -> None:
    """Say on stderr how much is left, and which slides' numbers are not final."""
    left = number_of(outcome.left, "image")
    click.echo(f"{left} left; give the same command again to go on", err=True)
    slides = [
        f"{slide or 'without a name'} ({n:,} outstanding)"
        for (_, slide), n in outcome.totals.outstanding.items()
    ]
    if slides:
        which = shown(listed(slides, _SHOWN))
        click.echo(f"not final yet, and marked so: slide {which}", err=True)


def _headline(outcome: Outcome) -> str:
    totals = outcome.totals
    parts = [f"{totals.done:,} of {number_of(outcome.images, 'image')} done"]
    if outcome.failed:
        parts.append(f"{outcome.failed:,} failed")
    if excluded := len(totals.not_done) - outcome.failed:
        parts.append(f"{excluded:,} excluded")
    if totals.cautions:
        parts.append(f"{len(totals.cautions):,} with a caution")
    if outcome.analyzed_now and outcome.seconds:
        rate = speed(outcome.analyzed_now / outcome.seconds)
        earlier = totals.finished - outcome.analyzed_now
        now = f"{outcome.analyzed_now:,} now " if earlier else ""
        how_fast = f" ({rate})" if outcome.analyzed_now > 1 else ""
        parts.append(f"{now}in {duration(outcome.seconds)}{how_fast}")
    return ", ".join(parts)


def _texts(row: tuple[str, int], images: int) -> tuple[str, str, str]:
    """Name, cells and cells per image as texts; the last is empty where it would be meaningless."""
    name, cells = row
    return name, f"{cells:,}", f"{cells / images:,.1f}" if images else ""


def _table(parts: Sequence[_Part], images: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("cells", justify="right", style="bold")
    if images:
        table.add_column("per image", justify="right")
    for part in parts:
        table.add_section()
        if part.heading:
            table.add_row(f"[dim]{part.heading}[/dim]")
        for row in part.rows:
            table.add_row(*_texts(row, images)[: len(table.columns)])
    stdout_console().print(table)


def _lines(parts: Sequence[_Part], images: int) -> None:
    texts = [_texts(row, images) for part in parts for row in part.rows]
    name_width, cells_width, mean_width = (max(len(text[i]) for text in texts) for i in range(3))
    for part in parts:
        if part.heading:
            click.echo(f"  {part.heading}:")
        for row in part.rows:
            name, cells, mean = _texts(row, images)
            line = f"  {name:<{name_width}}  {cells:>{cells_width}}"
            click.echo(f"{line}  {mean:>{mean_width}} per image" if images else line)


def _notes(outcome: Outcome) -> None:
    """The first failures, exclusions and cautions, and how many more there are."""
    notes = [(note.status, note) for note in outcome.totals.not_done]
    notes += [("caution", note) for note in outcome.totals.cautions]
    for kind, note in notes[:_SHOWN]:
        label = click.style(kind, fg="red" if kind == "failed" else "yellow")
        click.echo(f"{label}: {shown(note.name)}: {shown(note.reason)}")
    if len(notes) > _SHOWN:
        click.echo(f"{len(notes) - _SHOWN:,} more in {shown(outcome.written[0])}, column reason")
