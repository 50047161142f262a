"""The code keeps its shape: small files, small functions, everything annotated and documented."""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cellcount"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 500
LONGEST_FUNCTION = 80
P90_FUNCTION = 40
MOST_ROOMS = 25
#: Detectors and classifiers are trained by twins.
MIRRORED_MODULES = {
    "crop_classifier": ["engines", "engines/openvino"],
    "data": ["training/classifier", "training/detector"],
    "engine": ["engines/detectron2", "engines/openvino"],
    "settings": [".", "training", "training/classifier", "training/detector"],
    "start": ["training/classifier", "training/detector"],
    "train": ["training/classifier", "training/detector"],
}
#: At most three, each with its reason.
DOUBLED_CLASSES: set[str] = set()
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def public_definitions(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def is_overload_or_property(node: Function | ast.ClassDef) -> bool:
    names = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(names & {"overload", "override", "property", "cached_property", "setter"})


def is_protocol_stub(node: Function | ast.ClassDef) -> bool:
    return len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def too_long(path: Path, tree: ast.Module) -> Iterator[str]:
    """Files and functions are short."""
    if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST_FILE:
        yield f"{lines} lines"
    for function in functions(tree):
        if length(function) > LONGEST_FUNCTION:
            yield f"{function.name}: {length(function)} lines"


def not_annotated(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every function is annotated."""
    for function in functions(tree):
        a = function.args
        arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        missing = [
            x.arg for x in arguments if x.annotation is None and x.arg not in ("self", "cls")
        ]
        if missing or function.returns is None:
            yield f"{function.name}:{function.lineno} {missing or 'return'}"


def without_docstring(path: Path, tree: ast.Module) -> Iterator[str]:
    """Public things have a docstring, and modules say what they are for."""
    if not ast.get_docstring(tree):
        yield "the module"
    for node in public_definitions(tree.body):
        if (
            not ast.get_docstring(node)
            and not is_overload_or_property(node)
            and not is_protocol_stub(node)
        ):
            yield f"{node.name}:{node.lineno}"


def print_or_bare_except(path: Path, tree: ast.Module) -> Iterator[str]:
    """Nothing is printed, and no exception is caught unseen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"bare except:{node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"print:{node.lineno}"


def vague_name(path: Path, tree: ast.Module) -> Iterator[str]:
    """Names of modules say something."""
    yield from VAGUE_NAMES & {path.stem, *path.relative_to(PACKAGE).parts}


def without_shapes(path: Path, tree: ast.Module) -> Iterator[str]:
    """Modules that work on tensors open with their shapes."""
    if path.parent.name not in ("models", "engines") or path.name == "__init__.py":
        return
    works_on_tensors = any(
        isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            name.split(".")[0] in ("torch", "torchvision", "numpy")
            for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
        )
        for node in ast.walk(tree)
    )
    if works_on_tensors and "Shapes:" not in (ast.get_docstring(tree) or ""):
        yield "no 'Shapes:' in the docstring of the module"


Rule = Callable[[Path, ast.Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    too_long, not_annotated, without_docstring, print_or_bare_except, vague_name, without_shapes,
)  # fmt: skip


@cache
def offences() -> dict[Rule, list[str]]:
    """Every place where a file of the package breaks a rule; each file is parsed once."""
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        for rule in RULES:
            found[rule] += [f"{path.relative_to(PACKAGE)}: {text}" for text in rule(path, tree)]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    assert offences()[rule] == [], rule.__doc__


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (too_long, "engines/a.py", "\n" * 501),
        (too_long, "engines/a.py", "def f():\n" + "    1\n" * 81),
        (not_annotated, "engines/a.py", "def f(x) -> None: ..."),
        (not_annotated, "engines/a.py", "async def f(x: int): ..."),
        (without_docstring, "engines/a.py", "import os"),
        (without_docstring, "engines/a.py", '"""A."""\nclass A:\n    x = 1'),
        (without_docstring, "engines/a.py", '"""A."""\ndef f():\n    return 1'),
        (print_or_bare_except, "engines/a.py", "print(1)"),
        (print_or_bare_except, "engines/a.py", "try: f()\nexcept: pass"),
        (vague_name, "engines/utils.py", ""),
        (vague_name, "common/a.py", ""),
        (without_shapes, "engines/a.py", '"""A."""\nfrom torch import nn'),
        (without_shapes, "models/a.py", '"""A."""\nimport numpy as np'),
    ],
)
def test_a_file_that_breaks_a_rule_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule, name: str, source: str
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(source, "utf-8")
    assert len(list(rule(path, ast.parse(source)))) == 1


def test_nine_of_ten_functions_fit_on_a_screen() -> None:
    lengths = [length(f) for path in FILES for f in functions(ast.parse(path.read_text("utf-8")))]
    assert statistics.quantiles(lengths, n=10)[-1] <= P90_FUNCTION


def test_the_first_floor_is_seen_at_a_glance() -> None:
    """Rooms and loose modules of the package; weights are data."""
    rooms = {path.relative_to(PACKAGE).parts[0] for path in FILES} - {"__init__.py", "__main__.py"}
    assert len(rooms) <= MOST_ROOMS


def test_a_module_is_known_by_its_name() -> None:
    """Names occur twice only on floors that mirror each other on purpose.

    Commands are called as what they run.
    """
    places: dict[str, list[str]] = {}
    for path in FILES:
        if path.name != "__init__.py":
            folder = path.parent.relative_to(PACKAGE).as_posix()
            if not folder.startswith("commands"):
                places.setdefault(path.stem, []).append(folder)
    doubled = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert doubled == MIRRORED_MODULES


def test_a_public_class_is_known_by_its_name() -> None:
    found = Counter(
        node.name
        for path in FILES
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, times in found.items() if times > 1} <= DOUBLED_CLASSES
