"""Common parts of commands that report: console, progress, warnings, CSV and JSON files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellcount.files.text import escape_text, number_of, shown
from cellcount.settings import CsvForm

if TYPE_CHECKING:
    from rich.console import Console

    from cellcount.datasets.annotated import Problem

_SHOWN = 10
_WIDTH = 100
_PLAIN = CsvForm()


def stdout_console() -> Console:
    """Make the console for tables: as wide as the terminal, 100 columns where there is none.

    A table that is wider is printed in full: what a person must copy is never cut.
    """
    import sys

    from cellcount.commands.terminal.whole_tables import WholeTables

    return WholeTables(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


@contextmanager
def counter(name: str, total: int, unit: str = "image") -> Iterator[Callable[[], None]]:
    """Progress on stderr: a bar on a terminal, one line in a batch job."""
    import sys

    if not sys.stderr.isatty():
        click.echo(f"{name}: {number_of(total, unit)}", err=True)
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)


def say_problems(problems: Sequence[Problem]) -> None:
    """Print the problems of a data set that did not end the command, on stderr."""
    for problem in problems[:_SHOWN]:
        click.echo(f"warning: {shown(problem)}", err=True)
    if len(problems) > _SHOWN:
        left_out = sum(problem.pictures for problem in problems)
        pictures = f"; {number_of(left_out, 'picture')} left out in all" if left_out else ""
        click.echo(f"warning: {len(problems) - _SHOWN:,} more problems{pictures}", err=True)


def write_csv(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    form: CsvForm = _PLAIN,
) -> None:
    """Write rows as CSV, with the columns of the first row unless they are named.

    None becomes an empty field. Names come from strangers' files: none may run as a formula.
    """
    import codecs
    import csv
    import io

    from cellcount.files.atomic import atomic_write

    def field(value: object) -> object:
        if value is None:
            return ""
        if isinstance(value, str):
            return escape_text(value)
        return form.number(str(value)) if isinstance(value, float) else value

    text = io.StringIO(newline="")
    names = list(rows[0]) if columns is None else columns
    writer = csv.DictWriter(text, names, delimiter=form.separator)
    writer.writerow({name: field(name) for name in names})
    writer.writerows({name: field(value) for name, value in row.items()} for row in rows)
    with atomic_write(path) as file:
        if form.bom:
            file.write(codecs.BOM_UTF8)
        file.write(text.getvalue().encode())


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A document as indented JSON."""
    import json

    from cellcount.files.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
