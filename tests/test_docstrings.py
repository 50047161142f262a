"""Docstrings say their subject first: none opens as a riddle that only its author can solve."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

#: Openings that hold back the subject: "What came of looking again", "The same anew", "Those".
RIDDLES = re.compile(
    r"(What|Who|Whose|Where|How|Which|When|Why|As|Of|That|Those|It"
    r"|The same|All that|So many|So much)"
    r"\b"
)
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FOLDERS = ("benchmarks", "cellcount", "plugins", "tests", "tools")


def docstrings(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, first line, and whether it is of a function that is called, of every docstring.

    A text below an assignment is the docstring of what is assigned.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, DEFINITIONS):
            continue
        for before, after in pairwise(node.body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and text_of(after):
                yield after.lineno, text_of(after).splitlines()[0], False
        if text := ast.get_docstring(node):
            decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", ())]
            called = isinstance(node, ast.FunctionDef) and not any(
                "property" in decorator for decorator in decorators
            )
            yield getattr(node, "lineno", 1), text.splitlines()[0], called


def text_of(statement: ast.stmt) -> str:
    """The text that a statement consists of, "" for any other."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return str(value.value) if isinstance(value, ast.Constant) else ""


def riddles(source: str) -> list[str]:
    return [
        f"{line}: {first}"
        for line, first, called in docstrings(source)
        if RIDDLES.match(first) or (called and first.startswith("Whether "))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_say_their_subject_first(repo_root: Path, folder: str) -> None:
    found = [
        f"{path.relative_to(repo_root)}:{riddle}"
        for path in sorted((repo_root / folder).rglob("*.py"))
        for riddle in riddles(path.read_text("utf-8"))
    ]
    assert found == [], "begin with a verb (function) or a noun (class, module)"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""What came of it."""', 1),
        ('def f():\n    """Whether it is so."""', 1),
        ('class A:\n    @property\n    def f(self):\n        """Whether it is so."""', 0),
        ('class A:\n    """The same anew."""', 1),
        ('class A:\n    """Whereabouts of a cell."""', 0),
        ('async def f():\n    """Of all files."""', 1),
        ('def f():\n    """Return what was given."""', 0),
        ('TYPE = "x"\n"""What stands for it."""', 1),
        ('class A:\n    kind: str = "x"\n    """Which it is."""', 1),
        ('TYPE = "x"\n"""Type of a cell."""\n"""What is no docstring."""', 0),
    ],
)
def test_a_riddle_is_told_from_a_docstring(source: str, count: int) -> None:
    assert len(riddles(source)) == count
