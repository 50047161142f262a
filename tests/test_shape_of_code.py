"""The code keeps its shape: small files, small functions, everything annotated and documented."""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from collections.abc import Iterator
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
by_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


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


@by_file
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    too_long = {
        f.name: length(f) for f in functions(ast.parse(text)) if length(f) > LONGEST_FUNCTION
    }
    assert too_long == {}


def test_nine_of_ten_functions_fit_on_a_screen() -> None:
    lengths = [length(f) for path in FILES for f in functions(ast.parse(path.read_text("utf-8")))]
    assert statistics.quantiles(lengths, n=10)[-1] <= P90_FUNCTION


@by_file
def test_every_function_is_annotated(path: Path) -> None:
    bare = []
    for function in functions(ast.parse(path.read_text("utf-8"))):
        a = function.args
        arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        missing = [
            x.arg for x in arguments if x.annotation is None and x.arg not in ("self", "cls")
        ]
        if missing or function.returns is None:
            bare.append(f"{function.name}:{function.lineno} {missing or 'return'}")
    assert bare == []


@by_file
def test_public_things_have_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module says what it is for"
    silent = [
        f"{node.name}:{node.lineno}"
        for node in public_definitions(tree.body)
        if not ast.get_docstring(node)
        and not is_overload_or_property(node)
        and not is_protocol_stub(node)
    ]
    assert silent == []


@by_file
def test_no_print_and_no_bare_except(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"bare except:{node.lineno}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            found.append(f"print:{node.lineno}")
    assert found == []


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


@by_file
def test_names_say_something(path: Path) -> None:
    assert path.stem not in VAGUE_NAMES
    assert not VAGUE_NAMES & set(path.relative_to(PACKAGE).parts)


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.parent.name in ("models", "engines") and p.name != "__init__.py"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_tensor_files_open_with_their_shapes(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    works_on_tensors = any(
        isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            name.split(".")[0] in ("torch", "torchvision", "numpy")
            for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
        )
        for node in ast.walk(tree)
    )
    if works_on_tensors:
        assert "Shapes:" in (ast.get_docstring(tree) or "")
