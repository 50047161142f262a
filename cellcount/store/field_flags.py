"""Flags of fields, derived from remarks: platelet clumps and smudge cells that a person saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cellcount.store.remarks import Remark

FLAGS: Mapping[str, str] = {
    "platelet_clumps": "platelet clumps",
    "smudge_cells": "smudge cells",
}
"""Flag → its words."""


@dataclass(frozen=True, slots=True)
class FieldFlag:
    """A flag that is set on a field.

    Attributes:
        flag: which.
        person: who raised it.
    """

    flag: str
    person: str

    @property
    def words(self) -> str:
        """The flag in words, as outputs state it."""
        return f"{FLAGS.get(self.flag, self.flag)} seen by {self.person}"


def flags_of(remarks: Iterable[Remark]) -> dict[str, tuple[FieldFlag, ...]]:
    """Key of an image → the flags that are set on it, in the order of ``FLAGS``."""
    up: dict[str, dict[str, FieldFlag]] = {}
    for remark in remarks:
        if remark.kind != "flag":
            continue
        flag, on_field = str(remark.facts["flag"]), up.setdefault(remark.subject, {})
        if remark.facts["is_up"]:
            on_field[flag] = FieldFlag(flag, remark.person)
        else:
            on_field.pop(flag, None)
    order = {flag: place for place, flag in enumerate(FLAGS)}
    ordered = {
        key: sorted(flags.values(), key=lambda f: (order.get(f.flag, len(order)), f.flag))
        for key, flags in up.items()
    }
    return {key: tuple(flags) for key, flags in ordered.items() if flags}
