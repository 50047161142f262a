"""Settings that differ from those of a stored run, as a person reads them.

Shapes: none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What a journal keeps under a name.
Json = dict[str, Any] | list[Any] | str | float | None

_HASH_DIGITS = 12  # enough to tell two files apart


def differences(stored: Json, asked: Json, name: str = "") -> list[str]:
    """A line ``name: stored -> asked`` per setting that differs, nested ones by dotted names.

    Of a model that is another one, its name and version are enough to tell.
    """
    if isinstance(stored, dict) and isinstance(asked, dict):
        if _model_in_words(stored) != _model_in_words(asked):
            return [f"{name}: {_model_in_words(stored)} -> {_model_in_words(asked)}"]
        lines: list[str] = []
        for key in sorted(stored.keys() | asked.keys()):
            dotted = f"{name}.{key}" if name else key
            lines += differences(stored.get(key), asked.get(key), dotted)
        return lines
    if stored == asked:
        return []
    return [f"{name}: {_in_words(stored)} -> {_in_words(asked)}"]


def _model_in_words(value: Mapping[str, Any]) -> str:
    """Name, version and first digits of the hash of a model; "" of anything else."""
    if not {"name", "version", "sha256"} <= value.keys():
        return ""
    return f"{value['name']} {value['version']} (sha256 {value['sha256'][:_HASH_DIGITS]}…)"


def _in_words(value: Json) -> str:
    """A setting as a person writes it, not as JSON."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        told = [f"{key} {_in_words(one)}" for key, one in value.items()]
        return _model_in_words(value) or ", ".join(told) or "none"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:_HASH_DIGITS]}…"
    return str(value)
