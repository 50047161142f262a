"""Checks of a TOML file that a person wrote; every error names the place and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from cellcount.errors import UsageError

_KINDS: dict[type, str] = {
    str: "text",
    list: "a list of texts",
    dict: "a table",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? `` for an error message, "" where nothing is near."""
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), list(by_lower), n=1)
    return f"did you mean {by_lower[close[0]]!r}? " if close else ""


def complain(where: str, what: str, remedy: str) -> NoReturn:
    """Raise UsageError in the form ``place fault; remedy``."""
    raise UsageError(f"{where} {what}; {remedy}")


def one_of(where: str, key: str, value: str, known: Iterable[str]) -> None:
    """Complains of a value that is none of those known, with the nearest of them."""
    names = list(known)
    if value not in names:
        hint = nearest(str(value), names)
        complain(where, f"has {key} {value!r}", f"{hint}expected {', '.join(names)}")


def texts(where: str, key: str, value: object) -> list[str]:
    """The value, where it is a list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        complain(where, f"has {key} = {value!r}", "expected a list of texts")
    return value


def check_keys(
    where: str,
    entry: Mapping[str, Any],
    kinds: Mapping[str, type],
    *,
    needed: tuple[str, ...] = (),
    other_lists: tuple[str, ...] = (),
) -> None:
    """Complains of unknown, missing and wrongly typed keys.

    Args:
        where: file and place, for the message.
        entry: a table of the file.
        kinds: key → its type; a list holds texts, a float may be written as an int.
        needed: keys that must be there and not be empty.
        other_lists: keys of lists that hold something else than texts.
    """
    for key, value in entry.items():
        one_of(where, "a key", key, kinds)
        if not _is(value, kinds[key]):
            complain(where, f"has {key} = {value!r}", f"expected {_KINDS[kinds[key]]}")
        if kinds[key] is list and key not in other_lists:
            texts(where, key, value)
    missing = [key for key in needed if key not in entry or entry[key] in ("", [], {})]
    if missing:
        complain(where, f"has no {' and no '.join(missing)}", "add it")


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
