"""Reading and checking a taxonomy's TOML file; every complaint says where and what was expected.

A file either lists ``[[types]]``, or names another taxonomy with ``subset_of`` and the ids it
keeps with ``keep``. ``[mappings.TARGET]`` lists ids that keep their name (``keep``), ids that are
left out (``drop``) and, in ``to``, the ids that become each target type.

Shapes: none; plain data.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections import Counter
from typing import Any

from cellcount.differential.rows import COUNTED_ROWS, ROWS
from cellcount.errors import UsageError
from cellcount.files.toml import check_keys, complain, one_of, texts
from cellcount.models.taxonomy import (
    GROUPS,
    LINEAGES,
    PROFILES,
    CellType,
    Taxonomy,
    TypeMapping,
    load_taxonomy,
    normalised,
)

_TOP_KEYS: dict[str, type] = {
    "title": str,
    "profile": str,
    "source": str,
    "notes": list,
    "types": list,
    "mappings": dict,
    "subset_of": str,
    "keep": list,
}
_TYPE_KEYS: dict[str, type] = {
    "id": str,
    "name": str,
    "plural": str,
    "abbreviation": str,
    "lineage": str,
    "groups": list,
    "rows": list,
    "denominator": bool,
    "neighbours": list,
    "synonyms": list,
    "note": str,
}
_MAPPING_KEYS: dict[str, type] = {"note": str, "keep": list, "drop": list, "to": dict}
_NEEDED_OF_TYPE = ("id", "name", "plural", "abbreviation", "lineage")
_ID = re.compile(r"[a-z][a-z0-9_]*")


def parse_taxonomy(name: str, text: str, *, origin: str) -> Taxonomy:
    """The taxonomy that a file's text describes.

    Args:
        name: what it is called.
        text: TOML.
        origin: the file, for messages.

    Raises:
        UsageError: not TOML, an unknown or missing key, an unknown row, group or lineage, a name
            used twice, neighbours that do not know each other, or a mapping that forgets a type.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin} is not valid TOML: {error}") from error
    check_keys(origin, content, _TOP_KEYS, needed=("title", "source"), other_lists=("types",))
    if "subset_of" in content:
        return _subset(name, content, origin)
    if not content.get("types"):
        complain(origin, "has no [[types]]", "list at least one, or name subset_of and keep")
    one_of(origin, "profile", content.get("profile", ""), PROFILES)
    types = tuple(_cell_type(entry, origin) for entry in content["types"])
    _check_names(types, origin)
    _check_neighbours(types, origin)
    mappings = {
        target: _declared(name, types, target, entry, origin)
        for target, entry in content.get("mappings", {}).items()
    }
    notes = tuple(content.get("notes", ()))
    return Taxonomy(
        name, content["title"], content["profile"], content["source"], notes, types, mappings
    )


def _subset(name: str, content: dict[str, Any], origin: str) -> Taxonomy:
    """Some types of another taxonomy, with its mappings as far as they concern these."""
    for key in ("types", "profile", "mappings"):
        if key in content:
            complain(origin, f"has both subset_of and {key}", f"leave out {key}")
    whole = load_taxonomy(content["subset_of"])
    keep = content.get("keep", [])
    for wanted in keep:
        one_of(origin, "keep", wanted, whole.ids)
    kept = set(keep)
    types = tuple(
        dataclasses.replace(t, neighbours=tuple(n for n in t.neighbours if n in kept))
        for t in whole.types
        if t.id in kept
    )
    mappings = {
        target: dataclasses.replace(
            m, source=name, target_of={k: v for k, v in m.target_of.items() if k in kept}
        )
        for target, m in whole.mappings.items()
    }
    notes = tuple(content.get("notes", ()))
    return Taxonomy(
        name, content["title"], whole.profile, content["source"], notes, types, mappings, whole.name
    )


def _cell_type(entry: object, origin: str) -> CellType:
    if not isinstance(entry, dict):
        complain(origin, f"has the type {entry!r}", "each type is a [[types]] table")
    where = f"{origin}, type {entry.get('id', '(without id)')!r}"
    check_keys(where, entry, _TYPE_KEYS, needed=_NEEDED_OF_TYPE)
    if not _ID.fullmatch(entry["id"]):
        complain(where, f"has the id {entry['id']!r}", "use lower-case letters, digits and _")
    one_of(where, "lineage", entry["lineage"], LINEAGES)
    for group in entry.get("groups", ()):
        one_of(where, "groups", group, GROUPS)
    for row in entry.get("rows", ()):
        one_of(where, "rows", row, ROWS)
    counted = bool(entry.get("rows")) and set(entry["rows"]) <= set(COUNTED_ROWS)
    if counted != entry.get("denominator", True):
        complain(
            where,
            f"has rows {entry.get('rows', [])} and denominator = {str(not counted).lower()}",
            "a type enters the denominator if it fills rows of the differential, and only then",
        )
    texts = {key: entry[key] for key in (*_NEEDED_OF_TYPE, "note") if key in entry}
    return CellType(
        **texts,
        groups=tuple(entry.get("groups", ())),
        rows=tuple(entry.get("rows", ())),
        in_denominator=counted,
        neighbours=tuple(entry.get("neighbours", ())),
        synonyms=tuple(entry.get("synonyms", ())),
    )


def _check_names(types: tuple[CellType, ...], origin: str) -> None:
    """No name may stand for two types."""
    owners: dict[str, str] = {}
    for cell_type in types:
        for label in sorted({normalised(label) for label in cell_type.labels()}):
            if label in owners:
                complain(
                    origin,
                    f"uses the name {label!r} for {owners[label]} and for {cell_type.id}",
                    "give each name to one type",
                )
            owners[label] = cell_type.id


def _check_neighbours(types: tuple[CellType, ...], origin: str) -> None:
    by_id = {t.id: t for t in types}
    for cell_type in types:
        for other in cell_type.neighbours:
            others = [i for i in by_id if i != cell_type.id]
            one_of(f"{origin}, type {cell_type.id!r}", "neighbours", other, others)
    for cell_type in types:
        where = f"{origin}, type {cell_type.id!r}"
        for other in cell_type.neighbours:
            if cell_type.id not in by_id[other].neighbours:
                complain(
                    where,
                    f"has the neighbour {other}, which does not have {cell_type.id} as its own",
                    f"add {cell_type.id} to the neighbours of {other}, or take {other} away here",
                )


def _declared(
    source: str, types: tuple[CellType, ...], target: str, entry: object, origin: str
) -> TypeMapping:
    """One mapping of the file, total or explicitly dropping."""
    where = f"{origin}, mapping to {target!r}"
    if not isinstance(entry, dict):
        complain(where, f"is {entry!r}", "expected a table with keep, drop and to")
    check_keys(where, entry, _MAPPING_KEYS)
    targets = load_taxonomy(target).ids
    ids = [t.id for t in types]
    pairs: list[tuple[str, str | None]] = [(i, i) for i in entry.get("keep", ())]
    pairs += [(i, None) for i in entry.get("drop", ())]
    for to, several in entry.get("to", {}).items():
        pairs += [(i, to) for i in texts(where, f"to.{to}", several)]
    for mapped, to in pairs:
        one_of(where, "a source type", mapped, ids)
        if to is not None:
            one_of(where, "a target type", to, targets)
    twice = [i for i, times in Counter(i for i, _ in pairs).items() if times > 1]
    if twice:
        complain(where, f"names {', '.join(twice)} more than once", "map each type once")
    target_of = dict(pairs)
    forgotten = [i for i in ids if i not in target_of]
    if forgotten:
        complain(
            where,
            f"says nothing of {', '.join(forgotten)}",
            "map them with to or keep, or drop them",
        )
    return TypeMapping(source, target, {i: target_of[i] for i in ids}, entry.get("note", ""))
