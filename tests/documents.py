"""The documents, and the commands that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

#: Pages with prose; docs/commands.md is generated.
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/analyze.md",
    "docs/cluster.md",
    "docs/comparison.md",
    "docs/control.md",
    "docs/data-sets.md",
    "docs/differential.md",
    "docs/images.md",
    "docs/index.md",
    "docs/laboratory-systems.md",
    "docs/outputs.md",
    "docs/performance.md",
    "docs/plugins.md",
    "docs/python.md",
    "docs/review.md",
    "docs/stain.md",
    "docs/training.md",
    "docs/typing.md",
    "docs/whole-slides.md",
    "cellcount/weights/README.md",
    "plugins/cellcount-seeds/README.md",
    "plugins/cellcount-tinynet/README.md",
    "sample_data/README.md",
)


def leaves(group: click.Group, path: str = "cellcount") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, under its full name."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def fenced_blocks(text: str) -> list[str]:
    """The contents of the code blocks of a page."""
    return re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Calls of cellcount in the code blocks of a page, without what stands before them."""
    lines = [line for block in fenced_blocks(text) for line in block.splitlines()]
    found = (re.search(r"(?:^|/bin/|-m )(cellcount .*)", line) for line in lines)
    return [match[1] for match in found if match]


def script_lines(text: str) -> list[str]:
    """Calls of cellcount in a shell script, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    found = (re.match(r"\s*(?:exec )?(cellcount .*)", line) for line in lines)
    return [match[1] for match in found if match]
