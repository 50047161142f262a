"""``cellcount datasets types``: list the taxonomies of cell types, or show one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import cloup

if TYPE_CHECKING:
    from rich.table import Table

    from cellcount.models.taxonomy import Taxonomy

_NARROWEST = 120


@cloup.command("types")
@click.argument("taxonomy", required=False, metavar="[NAME|FILE]")
def datasets_types(taxonomy: str | None) -> None:
    """List the taxonomies of cell types, or show one: a packaged name or your own TOML file.

    A type has a lineage, the groups and the rows of a differential that it counts towards, whether
    it enters the percentages, and its neighbours in maturation, which a tolerant evaluation counts
    as right. The names of taxonomies are for --taxonomy and --map.
    """
    from cellcount.commands.terminal.reports import stdout_console
    from cellcount.models.taxonomy import load_taxonomy

    console = stdout_console()
    console.width = max(console.width, _NARROWEST)
    if taxonomy is None:
        console.print(_all())
        return
    shown = load_taxonomy(taxonomy)
    console.print(f"{shown.name}: {shown.title} ({shown.profile})", markup=False)
    console.print(f"source: {shown.source}", markup=False)
    console.print(_one(shown))
    notes = [*shown.notes, *(f"{t.name}: {t.note}" for t in shown.types if t.note)]
    for note in notes:
        console.print(f"note: {note}", markup=False)
    for target, mapping in shown.mappings.items():
        dropped = f"leaves out {', '.join(mapping.dropped)}" if mapping.dropped else "keeps all"
        note = f". {mapping.note}" if mapping.note else ""
        console.print(f"--map {shown.name}:{target} {dropped}{note}", markup=False)


def _all() -> Table:
    """Tabulate the packaged taxonomies and the mappings from each."""
    from cellcount.models.taxonomy import load_taxonomy, taxonomies

    table = _table("name", "types", "smear", "what", "--map leads to")
    for name in taxonomies():
        one = load_taxonomy(name)
        table.add_row(name, str(len(one)), one.profile, one.title, ", ".join(one.mappings))
    return table


def _one(taxonomy: Taxonomy) -> Table:
    """The types of one taxonomy with everything that is known of them."""
    table = _table("", "id", "name", "lineage", "groups", "rows", "in %", "neighbours")
    abbreviations = {t.id: t.abbreviation for t in taxonomy.types}
    for t in taxonomy.types:
        table.add_row(
            t.abbreviation,
            t.id,
            t.name,
            t.lineage,
            ", ".join(t.groups),
            ", ".join(t.rows).replace("_", " "),
            "yes" if t.in_denominator else "no",
            ", ".join(abbreviations[n] for n in t.neighbours),
        )
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in ("id", "lineage", "smear"), overflow="fold")
    return table
