"""Loading of plugins: from installed packages, or from a folder that the user names.

An installed package offers ``name = module:callable`` in an entry-point group. A folder given with
``--plugins DIR`` offers ``DIR/NAME.py`` or the package ``DIR/NAME/`` with a function
``build_backbone`` (or ``build_classifier``). Nothing is imported before it is asked for by name,
and no folder is looked into that the user has not named: a plugin is code.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from cellcount.errors import PluginError, UsageError

BACKBONES = "cellcount.backbones"
CLASSIFIERS = "cellcount.classifiers"
OUTPUTS = "cellcount.outputs"

_KINDS = {BACKBONES: "backbone", CLASSIFIERS: "classifier", OUTPUTS: "output form"}

# What a file in a plugin folder must define for each group. Output forms come from installed
# packages alone: a merge and a review write them again, and know of no folder.
FOLDER_FUNCTIONS = {BACKBONES: "build_backbone", CLASSIFIERS: "build_classifier"}

# Built-ins come through the same door, in the form of an installed package's entry points.
BUILT_IN = {
    BACKBONES: {"timm": "cellcount.models.backbone:timm_backbone"},
    CLASSIFIERS: {"timm": "cellcount.models.classifier:timm_classifier"},
    OUTPUTS: {},  # ours stand in cellcount.outputs.forms, with their options
}


def find(group: str, name: str, folder: Path | None = None) -> Callable[..., Any]:
    """Import the callable that ``name`` stands for.

    Args:
        group: ``BACKBONES``, ``CLASSIFIERS`` or ``OUTPUTS``.
        name: the entry point's name, or the file's name without ``.py``.
        folder: plugin folder named by the user, or None.

    Raises:
        PluginError: unknown name, offered twice, or broken; says by whom and what to do.
        UsageError: ``folder`` is no folder.
    """
    kind = _KINDS[group]
    offers = [offer for offer in _offers(group, folder) if offer.name == name]
    if not offers:
        raise PluginError(_unknown(group, name, folder))
    if len(offers) > 1:
        sources = " and by ".join(offer.source for offer in offers)
        raise PluginError(
            f"{kind} {name!r} is offered twice, by {sources}; rename or remove one of them"
        )
    offer = offers[0]
    try:
        target = offer.load()
    except Exception as error:
        raise PluginError(
            f"{kind} {name!r} of {offer.source} cannot be loaded: {offer.value} gave "
            f"{type(error).__name__}: {error}. Expected a function that builds the {kind}; "
            "run again with --debug to see where it fails, or remove the plugin"
        ) from error
    if not callable(target):
        raise PluginError(
            f"{kind} {name!r} of {offer.source}: {offer.value} is a {type(target).__name__}, "
            f"expected a function that builds the {kind}"
        )
    return target


def available(group: str, folder: Path | None = None) -> dict[str, str]:
    """Return name → distribution that offers it, sorted by name; nothing is imported."""
    sources: dict[str, list[str]] = {}
    for offer in _offers(group, folder):
        sources.setdefault(offer.name, []).append(offer.source)
    return {name: " and ".join(sources[name]) for name in sorted(sources)}


class _Offer(NamedTuple):
    """One offered name; ``load`` imports the object behind it."""

    name: str
    source: str
    value: str
    load: Callable[[], object]


def _offers(group: str, folder: Path | None) -> Iterator[_Offer]:
    built_in = [EntryPoint(name, value, group) for name, value in BUILT_IN[group].items()]
    for entry in [*built_in, *entry_points(group=group)]:
        source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "cellcount"
        yield _Offer(entry.name, source, entry.value, entry.load)
    if folder is not None and group in FOLDER_FUNCTIONS:
        yield from _offers_of_folder(FOLDER_FUNCTIONS[group], folder)


def _offers_of_folder(function: str, folder: Path) -> Iterator[_Offer]:
    if not folder.is_dir():
        raise UsageError(f"--plugins names {folder}, which is not a folder")
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        name = path.parent.name if path.name == "__init__.py" else path.stem
        # A look at the text tells backbones from classifiers without running either.
        if (
            name.isidentifier()
            and not name.startswith("_")
            and function in path.read_text("utf-8", errors="replace")
        ):
            yield _Offer(name, str(path), function, partial(_load_file, name, path, function))


def _load_file(name: str, path: Path, function: str) -> object:
    return getattr(_import_file(name, path.resolve()), function)


def _import_file(name: str, path: Path) -> ModuleType:
    module_name = f"cellcount_plugin_{name}"
    known = sys.modules.get(module_name)
    if known is not None and known.__file__ == str(path):
        return known
    parts = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(
        module_name, path, submodule_search_locations=parts
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before it runs, so that a package can import its parts
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _unknown(group: str, name: str, folder: Path | None) -> str:
    from difflib import get_close_matches

    names = list(available(group, folder))
    close = get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    where = f" or in {folder}" if folder else ""
    or_folder = f", or name the folder that holds {name}.py with --plugins"
    return (
        f"no {_KINDS[group]} {name!r} among the installed packages{where}; {guess}"
        f"known: {', '.join(names) or 'none'}. Install the package that offers it (entry-point "
        f"group {group})" + (or_folder if group in FOLDER_FUNCTIONS else "")
    )
