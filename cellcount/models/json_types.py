"""Type check of plain values, from JSON or from ``key=value``, against the fields they are for.

Shapes: none; plain data.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfits(kind: type, values: Mapping[str, object]) -> list[str]:
    """One sentence per value that does not fit the field of ``kind`` it is meant for."""
    hints = get_type_hints(kind)
    return [
        f"{key} is {value!r}, expected {describe(hints[key])}"
        for key, value in values.items()
        if not fits(value, hints[key])
    ]


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401 -- a type or a generic alias
    """Return whether ``value`` has the type ``hint``; a float must be finite, and may be an int."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _items_fit(value, arguments)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items()
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)


def _items_fit(value: tuple[object, ...], hints: tuple[Any, ...]) -> bool:
    if len(hints) == 2 and hints[1] is Ellipsis:
        return all(fits(item, hints[0]) for item in value)
    return len(value) == len(hints) and all(
        fits(item, hint) for item, hint in zip(value, hints, strict=True)
    )


def describe(hint: Any) -> str:  # noqa: ANN401 -- a type or a generic alias
    """The type in words for an error message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(repr(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of {describe(arguments[0])}"
        return f"a list of {len(arguments)} x {describe(arguments[0])}"
    if origin is dict:
        return f"an object of {describe(arguments[1])}"
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    words[types.NoneType] = "none"
    return words.get(hint, getattr(hint, "__name__", "anything"))
