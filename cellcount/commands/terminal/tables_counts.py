"""A method comparison on a terminal; each table fits into 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cellcount.files.text import listed, number_of, shown

if TYPE_CHECKING:
    from cellcount.comparison.compare import Comparison
    from cellcount.comparison.result_tables import TextTable

_LISTED = 8
_LONGEST_HEADER = 8
_NAME_WIDTH = 11


def show_tables(console: Console, tables: Sequence[TextTable]) -> None:
    """Tables of texts; limits stand below their figure."""
    for table in tables:
        console.print(_rich(table))


def show_comparison(console: Console, comparison: Comparison, tables: Sequence[TextTable]) -> None:
    """Print the methods compared, the tables, and the units that were left out."""
    level = comparison.level
    console.print(
        f"{comparison.predicted.name} (predicted) against {comparison.reference.name} "
        f"(reference): {number_of(len(comparison.units), level)} in both",
        markup=False,
    )
    show_tables(console, tables)
    by_note: dict[str, list[str]] = {}
    for one in comparison.classes:
        for note in one.notes:
            by_note.setdefault(note, []).append(one.name)
    for note, of in by_note.items():
        console.print(shown(f"{listed(of, _LISTED)}: {note}"), markup=False)
    for one in comparison.classes:
        if one.missing:
            missing = f"{one.name}: not assessed by both on {listed(one.missing, _LISTED)}"
            console.print(shown(missing), markup=False)
    rest = (
        (f"{level}s only in the table under test", comparison.only_predicted),
        (f"{level}s only in the reference", comparison.only_reference),
        ("classes only in the table under test", comparison.classes_only_predicted),
        ("classes only in the reference", comparison.classes_only_reference),
    )
    for what, names in rest:
        if names:
            console.print(shown(f"{what}: {listed(names, _LISTED)}"), markup=False)
    for note in comparison.notes:
        console.print(shown(note), markup=False)


def _rich(table: TextTable) -> Table:
    drawn = Table(
        title=escape(table.caption),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        # Names may take two lines, figures and their limits must not; headers wrap by themselves.
        drawn.add_column(
            column.replace(" ", "\n") if len(column) > _LONGEST_HEADER else column,
            justify="right" if index else "left",
            no_wrap=bool(index),
            min_width=0 if index else _NAME_WIDTH,
        )
    for row in table.rows:
        texts = [f"{cell.text}\n[dim]{escape(shown(cell.below))}[/dim]" if cell.below
                 else escape(shown(cell.text)) for cell in row]  # fmt: skip
        drawn.add_row(*texts)
    return drawn
