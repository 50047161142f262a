"""LOINC codes of the rows of a differential, from the profile, for information systems.

A code stands in a profile only if it is sure, and a profile names the sources that it was checked
against. A percentage has its code as long as it is of all cells of the denominator: of assessed
cells alone it is another quantity, for which there is no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cellcount.files.toml import check_keys, complain, one_of, texts

_ENTRY = re.compile(r"(?P<code>\d{1,7}-\d) (?P<name>\S.*)")
_KEYS: dict[str, type] = {"sources": list, "percent": dict, "absolute": dict}


@dataclass(frozen=True, slots=True)
class LoincCode:
    """A code of LOINC.

    Attributes:
        code: such as ``26505-8``.
        name: LOINC's long common name.
    """

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class RowCodes:
    """The codes of a profile's rows and groups.

    Attributes:
        sources: what the codes were checked against, at least two.
        percent: row or group → code of its percentage of the denominator.
        absolute: row or group → code of its number per volume.
    """

    sources: tuple[str, ...] = ()
    percent: Mapping[str, LoincCode] = field(default_factory=dict)
    absolute: Mapping[str, LoincCode] = field(default_factory=dict)


def row_codes(origin: str, entry: dict[str, Any] | None, known: Iterable[str]) -> RowCodes:
    """The codes that the table ``[loinc]`` of a profile gives.

    Args:
        origin: the file, for messages.
        entry: the table, None where there is none.
        known: ids of rows and groups.

    Raises:
        UsageError: an unknown row, something that is no code, or fewer than two sources.
    """
    if entry is None:
        return RowCodes()
    where, ids = f"{origin}, loinc", list(known)
    check_keys(where, entry, _KEYS, needed=("sources",))
    sources = texts(where, "sources", entry["sources"])
    if len(set(sources)) < 2:
        complain(where, f"has sources = {sources}", "name two that the codes were checked against")
    percent, absolute = (
        _codes(f"{where}.{kind}", entry.get(kind, {}), ids) for kind in ("percent", "absolute")
    )
    return RowCodes(tuple(sources), percent, absolute)


def _codes(where: str, entry: dict[str, Any], known: list[str]) -> dict[str, LoincCode]:
    codes = {}
    for row, text in entry.items():
        one_of(where, "a row or group", row, known)
        found = _ENTRY.fullmatch(text) if isinstance(text, str) else None
        if found is None or not _is_sound(found["code"]):
            complain(
                where,
                f"has {row} = {text!r}",
                "expected a code with its check digit, and its name: '26450-7 Eosinophils/100 "
                "leukocytes in Blood'",
            )
        codes[row] = LoincCode(found["code"], found["name"])
    return codes


def _is_sound(code: str) -> bool:
    """Return whether the check digit of a code is that of its number (Luhn, or "mod 10")."""
    number, digit = code.split("-")
    total = 0
    for place, character in enumerate(reversed(number)):
        value = int(character) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return (-total) % 10 == int(digit)
