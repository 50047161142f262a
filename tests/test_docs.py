"""The documents say what the program does: generated where possible, compared everywhere else.

``pytest --update-golden`` rewrites docs/commands.md and the column tables of the README.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cellcount import cli, errors

COLUMN_TABLES = ("counts", "cells")


def leaves(group: click.Group, path: str = "cellcount") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, under its full name."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def command_reference() -> str:
    parts = [
        "# Commands\n\n"
        "Generated from the program by `pytest --update-golden`; do not edit by hand.\n\n"
        "`cellcount COMMAND --help` shows what stands here. `--debug`, anywhere on the line, adds\n"
        "the full trace to an error; `cellcount --version` says which version this is.\n"
    ]
    for name, command in leaves(cli.cli):
        context = click.Context(command, info_name=name, terminal_width=90)
        parts.append(f"\n## {name}\n\n```\n{command.get_help(context).rstrip()}\n```\n")
    return "".join(parts)


def options(command: click.Command) -> set[str]:
    return {option for p in command.params for option in [*p.opts, *p.secondary_opts]}


def column_table(table: str) -> str:
    """The table that outputs.schema declares, for the classes of the packaged blood model."""
    from cellcount.outputs import schema
    from cellcount.records import CellClass

    blood = (
        CellClass("rbc", "red cell", "red cells"),
        CellClass("wbc", "white cell", "white cells"),
        CellClass("platelet", "platelet", "platelets"),
    )
    columns = schema.counts_columns(blood) if table == "counts" else schema.CELLS_COLUMNS
    return schema.markdown(columns).strip()


def fenced_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def marked_block(text: str, mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n(.*?)<!-- end -->$", text, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no block <!-- {mark} --> … <!-- end -->"
    return found[1].strip()


@pytest.fixture
def readme(repo_root: Path) -> str:
    return (repo_root / "README.md").read_text("utf-8")


def test_command_reference_is_current(repo_root: Path, update_golden: bool) -> None:
    path = repo_root / "docs" / "commands.md"
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(command_reference(), "utf-8")
    assert path.read_text("utf-8") == command_reference(), "run pytest --update-golden"


@pytest.mark.parametrize("table", COLUMN_TABLES)
def test_column_tables_are_current(
    repo_root: Path, readme: str, table: str, update_golden: bool
) -> None:
    mark = f"columns: {table}"
    if update_golden:
        start = readme.index(f"<!-- {mark} -->") + len(f"<!-- {mark} -->")
        end = readme.index("<!-- end -->", start)
        readme = f"{readme[:start]}\n\n{column_table(table)}\n\n{readme[end:]}"
        (repo_root / "README.md").write_text(readme, "utf-8")
    assert marked_block(readme, mark) == column_table(table), "run pytest --update-golden"


def test_every_command_stands_in_the_readme(readme: str) -> None:
    missing = [name for name, _ in leaves(cli.cli) if name not in " ".join(readme.split())]
    assert missing == []


def test_every_option_in_the_readme_exists(readme: str) -> None:
    known = {"--debug", "--version", "--help"}.union(*(options(c) for _, c in leaves(cli.cli)))
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme))
    assert used - known == set()


def test_every_command_line_in_the_readme_is_possible(readme: str) -> None:
    commands = dict(leaves(cli.cli))
    lines = [line for block in fenced_blocks(readme) for line in block.splitlines()]
    calls = [line.split("/bin/")[-1] for line in lines if re.search(r"(^|/bin/)cellcount ", line)]
    assert len(calls) >= 4
    for call in calls:
        (name,) = (name for name in commands if call.startswith(f"{name} "))
        used = {word for word in shlex.split(call) if word.startswith("--")}
        assert used - options(commands[name]) == set(), call


def test_exit_codes_are_those_of_the_program(readme: str) -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", readme, re.MULTILINE)}
    actual = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert documented == actual


def test_links_lead_somewhere(repo_root: Path) -> None:
    for page in ("README.md", "CONTRIBUTING.md", "plugins/cellcount-tinynet/README.md"):
        text = (repo_root / page).read_text("utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (repo_root / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_the_readme_keeps_its_two_marked_commands(readme: str) -> None:
    """.ci/run reads them from there, so each must be one line in one fenced block."""
    for mark, part in (
        ("first command", "cellcount analyze sample_data"),
        ("test command", "pytest"),
    ):
        (block,) = fenced_blocks(marked_block(readme, mark) + "\n")
        assert part in block
        assert len(block.splitlines()) == 1
