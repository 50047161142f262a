"""The documents say what the program does: generated where possible, compared everywhere else.

``pytest --update-golden`` rewrites docs/commands.md, the column tables of the pages and the
settings of docs/training.md and docs/typing.md.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from cellcount import cli, errors
from cellcount.training.classifier.settings import CLASSIFIER_RECIPES, ClassifierTraining
from cellcount.training.detector.settings import RECIPES, DetectorTraining
from tests.documents import PAGES, fenced_blocks, leaves
from tests.tables import markdown

COLUMN_TABLES = {
    "counts": "docs/outputs.md",
    "cells": "docs/outputs.md",
    "slides": "docs/differential.md",
    "corrections": "docs/review.md",
    "history": "docs/review.md",
    "approvals": "docs/review.md",
    "control": "docs/control.md",
}
#: Options that a help may show without grouping them.
LONGEST_FLAT_LIST = 10


def command_reference() -> str:
    parts = [
        "# Commands\n\n"
        "Generated from the program by `pytest --update-golden`; do not edit by hand.\n\n"
        "`cellcount COMMAND --help` shows what stands here. `--debug`, anywhere on the line, adds\n"
        "the full trace to an error; `cellcount --version` says which version this is.\n"
    ]
    # As in a real call, -h too; click keeps the help option of the first context it sees.
    names = cli.cli.context_settings["help_option_names"]
    for name, command in leaves(cli.cli):
        context = command.context_class(
            command, info_name=name, terminal_width=90, help_option_names=names
        )
        parts.append(f"\n## {name}\n\n```\n{command.get_help(context).rstrip()}\n```\n")
    return "".join(parts)


def options(command: click.Command) -> set[str]:
    return {option for p in command.params for option in [*p.opts, *p.secondary_opts]}


def column_table(table: str) -> str:
    """The table that outputs.columns declares, for the packaged blood model and any classifier."""
    from cellcount.control.control_log import CONTROL_COLUMNS
    from cellcount.core.records import CellClass
    from cellcount.outputs.approval_table import APPROVAL_COLUMNS
    from cellcount.outputs.columns import (
        PICTURE_TYPES_COLUMNS,
        SLIDES_COLUMNS,
        TYPED_CELLS_COLUMNS,
        counts_columns,
    )
    from cellcount.outputs.review_tables import CORRECTIONS_COLUMNS, HISTORY_COLUMNS

    blood = (
        CellClass("rbc", "red cell", "red cells"),
        CellClass("wbc", "white cell", "white cells"),
        CellClass("platelet", "platelet", "platelets"),
    )
    columns = {
        "counts": counts_columns(blood, (CellClass("TYPE", "TYPE", "TYPE"),)),
        "cells": TYPED_CELLS_COLUMNS,
        "types": PICTURE_TYPES_COLUMNS,
        "slides": SLIDES_COLUMNS,
        "corrections": CORRECTIONS_COLUMNS,
        "history": HISTORY_COLUMNS,
        "approvals": APPROVAL_COLUMNS,
        "control": CONTROL_COLUMNS,
    }
    return markdown(columns[table]).strip()


Settings = type[DetectorTraining] | type[ClassifierTraining]


def described_settings(settings: Settings) -> list[tuple[list[str], str]]:
    """Names and meaning of each entry of the settings' docstring."""
    text = inspect.cleandoc(settings.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w[^:]*): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return [
        (names.split(", "), " ".join(meaning.split()).rstrip(".")) for names, meaning in entries
    ]


def settings_table(settings: Settings) -> str:
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}

    def shown(name: str) -> str:
        default = defaults[name]
        return "none" if default in (None, dataclasses.MISSING) else str(default) or '""'

    rows = [
        f"| {', '.join(f'`{n}`' for n in names)} | {', '.join(map(shown, names))} "
        f"| {meaning.replace('``', '`')} |"
        for names, meaning in described_settings(settings)
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def recipes_table(recipes: Mapping[str, Mapping[str, object]]) -> str:
    rows = [
        f"| `{name}` | {', '.join(f'{k}={v}' for k, v in preset.items()) or 'the defaults'} |"
        for name, preset in recipes.items()
    ]
    return "\n".join(["| `--recipe` | sets |", "|---|---|", *rows])


def marked_block(text: str, mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n(.*?)<!-- end -->$", text, re.DOTALL | re.MULTILINE)
    assert found, f"the page has no block <!-- {mark} --> … <!-- end -->"
    return found[1].strip()


def with_block(text: str, mark: str, block: str) -> str:
    """The page with the content of one marked block replaced."""
    start = text.index(f"<!-- {mark} -->") + len(f"<!-- {mark} -->")
    end = text.index("<!-- end -->", start)
    return f"{text[:start]}\n\n{block}\n\n{text[end:]}"


@pytest.fixture
def readme(repo_root: Path) -> str:
    return (repo_root / "README.md").read_text("utf-8")


def test_command_reference_is_current(
    repo_root: Path, update_golden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever plugins are installed here.
    monkeypatch.setattr("cellcount.commands.options.available", lambda _group: {})
    path = repo_root / "docs" / "commands.md"
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(command_reference(), "utf-8")
    assert path.read_text("utf-8") == command_reference(), "run pytest --update-golden"


def test_help_of_analyze_is_in_groups(repo_root: Path) -> None:
    text = (repo_root / "docs" / "commands.md").read_text("utf-8")
    shown = text.partition("## cellcount analyze\n")[2].partition("\n## ")[0]
    assert re.findall(r"^([A-Z][a-z ]+):$", shown.partition("Exit codes:")[2], re.MULTILINE) == [
        "Input",
        "Models",
        "What is counted",
        "Outputs",
        "Exports",
        "Computing",
        "Batch jobs",
        "Other options",
    ]


def test_no_long_help_is_one_flat_list() -> None:
    for name, command in leaves(cli.cli):
        ungrouped = getattr(command, "ungrouped_options", command.params)
        assert len(ungrouped) <= LONGEST_FLAT_LIST, f"{name}: put its options into groups"


@pytest.mark.parametrize("table", COLUMN_TABLES)
def test_column_tables_are_current(repo_root: Path, table: str, update_golden: bool) -> None:
    mark = f"columns: {table}"
    path = repo_root / COLUMN_TABLES[table]
    page = path.read_text("utf-8")
    if update_golden:
        page = with_block(page, mark, column_table(table))
        path.write_text(page, "utf-8")
    assert marked_block(page, mark) == column_table(table), "run pytest --update-golden"


@pytest.mark.parametrize(
    ("page", "settings", "recipes"),
    [
        ("training.md", DetectorTraining, RECIPES),
        ("typing.md", ClassifierTraining, CLASSIFIER_RECIPES),
    ],
)
def test_training_tables_are_current(
    repo_root: Path,
    page: str,
    settings: Settings,
    recipes: Mapping[str, Mapping[str, object]],
    update_golden: bool,
) -> None:
    path = repo_root / "docs" / page
    for mark, table in (
        ("settings", settings_table(settings)),
        ("recipes", recipes_table(recipes)),
    ):
        if update_golden:
            path.write_text(with_block(path.read_text("utf-8"), mark, table), "utf-8")
        assert marked_block(path.read_text("utf-8"), mark) == table, "run pytest --update-golden"


@pytest.mark.parametrize("settings", [DetectorTraining, ClassifierTraining])
def test_every_training_setting_is_described(settings: Settings) -> None:
    described = [name for names, _ in described_settings(settings) for name in names]
    assert sorted(described) == sorted(f.name for f in dataclasses.fields(settings))


def test_every_command_stands_in_the_index_of_the_docs(repo_root: Path) -> None:
    index = (repo_root / "docs" / "index.md").read_text("utf-8")
    assert [name for name, _ in leaves(cli.cli) if f"`{name}`" not in index] == []


def test_every_page_stands_in_the_index_of_the_docs(repo_root: Path) -> None:
    index = (repo_root / "docs" / "index.md").read_text("utf-8")
    pages = {path.name for path in (repo_root / "docs").glob("*.md")} - {"index.md"}
    assert pages - set(re.findall(r"\(([\w-]+\.md)\)", index)) == set()
    assert {f"docs/{page}" for page in pages} - set(PAGES) == {"docs/commands.md"}


def test_the_readme_is_one_page_with_two_pictures(repo_root: Path, readme: str) -> None:
    assert len(readme.encode()) <= 9_000
    pictures = re.findall(r"!\[[^\]]{20,}\]\(([^)]+)\)", readme)
    assert len(pictures) == 2
    for picture in pictures:
        assert (repo_root / picture).stat().st_size <= 200_000


@pytest.mark.parametrize("page", [p for p in PAGES if p != "CONTRIBUTING.md"])
def test_every_option_exists(repo_root: Path, page: str) -> None:
    known = {"--debug", "--version", "--help", "--nproc-per-node"}  # the last one is torchrun's
    known = known.union(*(options(c) for _, c in leaves(cli.cli)))
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", (repo_root / page).read_text("utf-8")))
    assert used - known == set()


def test_exit_codes_are_those_of_the_program(repo_root: Path) -> None:
    page = (repo_root / "docs" / "analyze.md").read_text("utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    actual = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert documented == actual


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(repo_root: Path, page: str) -> None:
    path = repo_root / page
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", path.read_text("utf-8")):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_the_readme_keeps_its_two_marked_commands(readme: str) -> None:
    """.ci/run reads them from there, so each must be one line in one fenced block."""
    for mark, part in (
        ("first command", "cellcount analyze sample_data"),
        ("test command", "pytest"),
    ):
        (block,) = fenced_blocks(marked_block(readme, mark) + "\n")
        assert part in block
        assert len(block.splitlines()) == 1
