"""``cellcount profiles``: the rules of counting for each kind of smear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
import cloup

from cellcount.commands.terminal.reports import stdout_console
from cellcount.files.text import number_of, shown

if TYPE_CHECKING:
    from cellcount.differential.profile import Profile


@cloup.command("list")
def profiles_list() -> None:
    """List the packaged profiles, which --profile takes by name."""
    from rich.table import Table

    from cellcount.differential.profile import load_profile, profiles

    title = "Packaged profiles (--profile NAME)"
    table = Table(title=title, title_justify="left", min_width=len(title))
    for column in ("name", "version", "counts", "standard"):
        table.add_column(column)
    for name in profiles():
        one = load_profile(name)
        table.add_row(name, one.version, f"{one.cells}, {len(one.rows)} rows", one.standard)
    stdout_console().print(table)


@cloup.command("show")
@click.argument("profile", metavar="NAME|FILE.toml")
@click.option("--toml", "as_toml", is_flag=True, help="Print the file, to copy and change.")
def profiles_show(profile: str, as_toml: bool) -> None:
    """Show a profile: rows, groups, rules, targets."""
    from cellcount.differential.profile import load_profile, profile_text

    if as_toml:
        click.echo(profile_text(profile), nl=False)
        return
    click.echo("\n".join(_lines(load_profile(profile))))


@cloup.command("check")
@click.argument("profile", metavar="NAME|FILE.toml")
def profiles_check(profile: str) -> int:
    """Check that a profile can be used, and say what is wrong with it.

    \b
    Exit codes:
      0  it can be used
      2  it cannot; what is wrong is said
    """
    from cellcount.differential.profile import load_profile

    found = load_profile(profile)
    targets = f", targets {', '.join(str(t.cells) for t in found.targets)}" if found.targets else ""
    click.echo(
        f"{shown(profile)}: ok, {number_of(len(found.rows), 'row')} of {found.cells}{targets}"
    )
    return 0


def _lines(profile: Profile) -> list[str]:
    """The profile in words, in the order of a report."""
    from cellcount.commands.terminal.card_text import entry

    def words(rows: tuple[str, ...]) -> str:
        return ", ".join(profile.name_of(row) for row in rows)

    lines = [f"{profile.label()}, {profile.title}", ""]
    lines += entry("standard", profile.standard)
    lines += entry("denominator", f"{profile.cells}: {words(profile.rows)}")
    lines += entry("outside it", words(profile.outside))
    for group in profile.groups:
        lines += entry("group", f"{group.name}: {words(group.rows)}")
    for lineage in profile.lineages:
        lines += entry("lineage", f"{lineage.name}: {words(lineage.rows)}")
    for label, text in _rules(profile, words):
        lines += entry(label, text)
    for target in profile.targets:
        on = f" on {target.slides} slides" if target.slides > 1 else ""
        lines += entry("target", f"{target.cells} cells{on}, {target.meaning}")
    for name, threshold in profile.quality.items():
        lines += entry("quality", f"{name} {threshold:g}")
    for note in profile.notes:
        lines += entry("note", note)
    return [shown(line) for line in lines]


def _rules(profile: Profile, words: Callable[[tuple[str, ...]], str]) -> Iterator[tuple[str, str]]:
    if profile.blasts is not None:
        rule = profile.blasts
        yield "blasts", f"{profile.name_of(rule.row)} of all {profile.cells}"
        if rule.erythroid:
            yield "", f"also of non-erythroid cells, without {words(rule.erythroid)}"
        if rule.thresholds_percent:
            thresholds = ", ".join(f"{t:g}" for t in rule.thresholds_percent)
            yield "thresholds", f"{thresholds} %: more counting is advised where limits hold one"
    if profile.me_ratio is not None:
        ratio = profile.me_ratio
        yield "myeloid", words(ratio.myeloid)
        yield "erythroid", words(ratio.erythroid)
        counted = "counted as myeloid" if ratio.convention == "icsh" else "left out"
        yield "M:E", f"convention {ratio.convention}: {words(ratio.monocytes)} {counted}"
    if profile.nrbc:
        yield "per 100", f"{profile.name_of(profile.nrbc)} per 100 {profile.cells}"
    if profile.absolute is not None:
        group = profile.absolute.anc.replace("_", " ")
        counts = "counts NRBC" if profile.absolute.analyzer_counts_nrbc else "leaves NRBC out"
        yield "absolute", f"ANC from the group {group}; the analyzer {counts}"
    if profile.platelets is not None:
        rule_p = profile.platelets
        of = f"field of {rule_p.field_um2:,.0f} µm²" if rule_p.field_um2 else "image"
        yield "platelets", f"{rule_p.factor_10e9_per_l:g} × platelets per {of}, in 10⁹/L"
