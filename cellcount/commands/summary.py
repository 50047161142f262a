"""What a job came to, in a person's words: a rich table on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cellcount.commands.wording import duration, number_of, shown

if TYPE_CHECKING:
    from cellcount.records import CellClass
    from cellcount.runners.outcome import Outcome

_SHOWN = 10


def say_outcome(outcome: Outcome, classes: Sequence[CellClass]) -> None:
    """The summary on stdout; what is left to do on stderr."""
    click.echo(_headline(outcome))
    if outcome.totals.done:
        if sys.stdout.isatty():
            _table(outcome, classes)
        else:
            _lines(outcome, classes)
    _notes(outcome)
    click.echo("written: " + ", ".join(shown(path) for path in outcome.written))
    if outcome.gave_up:
        click.echo("stopped: more images failed than --max-failure-rate allows", err=True)
    if outcome.left:
        left = number_of(outcome.left, "image")
        click.echo(f"{left} left; give the same command again to go on", err=True)


def _headline(outcome: Outcome) -> str:
    totals = outcome.totals
    parts = [f"{totals.done:,} of {number_of(outcome.images, 'image')} done"]
    if outcome.failed:
        parts.append(f"{outcome.failed:,} failed")
    if totals.cautions:
        parts.append(f"{len(totals.cautions):,} with a caution")
    if outcome.analyzed_now and outcome.seconds:
        rate = outcome.analyzed_now / outcome.seconds
        earlier = totals.finished - outcome.analyzed_now
        now = f"{outcome.analyzed_now:,} now " if earlier else ""
        parts.append(f"{now}in {duration(outcome.seconds)} ({rate:.2f} images/s)")
    return ", ".join(parts)


def _rows(outcome: Outcome, classes: Sequence[CellClass]) -> list[tuple[str, str, str]]:
    """Name, cells and cells per image: one row a class, then all together."""
    totals = outcome.totals
    sums = [(c.plural, totals.counts[c.id]) for c in classes]
    return [
        (name, f"{cells:,}", f"{cells / totals.done:,.1f}")
        for name, cells in [*sums, ("all cells", totals.cells)]
    ]


def _table(outcome: Outcome, classes: Sequence[CellClass]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("cells", justify="right", style="bold")
    table.add_column("per image", justify="right")
    *rows, whole = _rows(outcome, classes)
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row(*whole)
    Console(highlight=False).print(table)


def _lines(outcome: Outcome, classes: Sequence[CellClass]) -> None:
    rows = _rows(outcome, classes)
    name_width, cells_width, mean_width = (max(len(row[i]) for row in rows) for i in range(3))
    for name, cells, mean in rows:
        click.echo(
            f"  {name:<{name_width}}  {cells:>{cells_width}}  {mean:>{mean_width}} per image"
        )


def _notes(outcome: Outcome) -> None:
    """The first failures, exclusions and cautions, and how many more there are."""
    notes = [(note.status, note) for note in outcome.totals.not_done]
    notes += [("caution", note) for note in outcome.totals.cautions]
    for kind, note in notes[:_SHOWN]:
        label = click.style(kind, fg="red" if kind == "failed" else "yellow")
        click.echo(f"{label}: {shown(note.name)}: {shown(note.reason)}")
    if len(notes) > _SHOWN:
        click.echo(f"{len(notes) - _SHOWN:,} more in {shown(outcome.written[0])}, column reason")
