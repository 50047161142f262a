"""Taxonomies of cell types, as data: the types, their meaning, and mappings between them.

A taxonomy is a TOML file; those of the package lie in ``taxonomies/`` beside this module, and a
laboratory may name its own by path. A type has the names that data sets use for it, a lineage,
groups, the rows of a differential that it fills and its neighbours in maturation. Mappings lead
from the types of one taxonomy to those of a coarser one; each type is mapped or named as dropped.

Shapes: none; plain data.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from cellcount.differential.rows import COUNTED_ROWS, ROWS, SMEAR_KINDS, SmearKind
from cellcount.errors import UsageError
from cellcount.files.toml import check_keys, complain, nearest, one_of, texts

Lineage = Literal[
    "erythropoiesis", "granulopoiesis", "lymphopoiesis", "monopoiesis", "thrombopoiesis", "others"
]
PROFILES = SMEAR_KINDS
LINEAGES: tuple[str, ...] = get_args(Lineage)

#: Groups that a laboratory reports besides the types.
GROUPS = ("blasts", "immature granulocytes", "neutrophils", "erythroid", "lymphoid")

_FOLDER = resources.files("cellcount.models") / "taxonomies"


@dataclass(frozen=True, slots=True)
class CellType:
    """One type of cell.

    Attributes:
        id: short name used in column names, for example ``band_neutrophil``.
        name, plural: full names.
        abbreviation: the code of its data set, or the usual short form.
        lineage: one of ``LINEAGES``.
        groups: the ``GROUPS`` it counts towards.
        rows: the row of a differential that it fills; several where it pools them, none where it
            belongs to no row.
        in_denominator: whether it enters the percentages of its taxonomy's profile.
        neighbours: ids of the types next to it in maturation, which experts confuse too.
        synonyms: further names that data sets use for it.
        note: what a reader of its numbers must know, or "".
        white_cell: whether a detected white cell of this type stays one; False for platelets,
            artefacts and false finds.
    """

    id: str
    name: str
    plural: str
    abbreviation: str
    lineage: str
    groups: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    in_denominator: bool = True
    neighbours: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    note: str = ""
    white_cell: bool = True

    def labels(self) -> tuple[str, ...]:
        """All names of the type: id, abbreviation, name, plural and synonyms."""
        return (self.id, self.abbreviation, self.name, self.plural, *self.synonyms)


@dataclass(frozen=True)
class Taxonomy:
    """A set of cell types in the order of a classifier's outputs.

    Attributes:
        name: for example ``pbc-8``.
        title: in words.
        profile: the kind of smear it was made for.
        source: where the types come from.
        notes: what a reader of its numbers must know.
        types: the types; the position is the class index.
        mappings: the mappings that its file declares, by the name of the target.
        subset_of: the taxonomy whose types it selects, or "".
        also_for: other kinds of smear whose cells it names.
    """

    name: str
    title: str
    profile: SmearKind
    source: str
    notes: tuple[str, ...]
    types: tuple[CellType, ...]
    mappings: Mapping[str, TypeMapping]
    subset_of: str = ""
    also_for: tuple[SmearKind, ...] = ()

    def __len__(self) -> int:
        return len(self.types)

    @property
    def ids(self) -> tuple[str, ...]:
        """The types' ids, in their order."""
        return tuple(t.id for t in self.types)

    def index(self, label: str) -> int:
        """Position of the type called ``label``: id, name, code or synonym, in any case.

        Raises UsageError with the nearest name where there is none.
        """
        try:
            return self._index_of[normalised(label)]
        except KeyError:
            known = [name for t in self.types for name in (t.id, t.abbreviation, *t.synonyms)]
            raise UsageError(
                f"{label!r} is no type of {self.name}; {nearest(label, known)}"
                f"its types are {', '.join(self.ids)}"
            ) from None

    def knows(self, label: str) -> bool:
        """Return whether some type is called ``label``."""
        return normalised(label) in self._index_of

    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """For each type the positions of its neighbours in maturation, ascending."""
        position = {name: i for i, name in enumerate(self.ids)}
        return tuple(tuple(sorted(position[n] for n in t.neighbours)) for t in self.types)

    def members(self, *, group: str = "", lineage: str = "") -> tuple[int, ...]:
        """Positions of the types of a group, or of a lineage."""
        return tuple(
            i
            for i, t in enumerate(self.types)
            if (group and group in t.groups) or (lineage and lineage == t.lineage)
        )

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {normalised(name): i for i, t in enumerate(self.types) for name in t.labels()}


@dataclass(frozen=True, slots=True)
class TypeMapping:
    """Mapping from the types of one taxonomy to those of another.

    Attributes:
        source, target: names of the taxonomies.
        target_of: source id → target id; None where the type is dropped.
        note: why, where it is not plain.
    """

    source: str
    target: str
    target_of: Mapping[str, str | None]
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the mapping, for example ``mll-21:lineage-5``."""
        return f"{self.source}:{self.target}"

    @property
    def dropped(self) -> tuple[str, ...]:
        """Source types without a target; their cells are left out, which must be reported."""
        return tuple(source for source, target in self.target_of.items() if target is None)

    def sources_of(self, target: str) -> tuple[str, ...]:
        """The source types that become ``target``; empty where nothing does."""
        return tuple(source for source, mapped in self.target_of.items() if mapped == target)


def taxonomies() -> tuple[str, ...]:
    """Names of the packaged taxonomies, sorted."""
    names = [entry.name for entry in _FOLDER.iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


@lru_cache(maxsize=64)
def load_taxonomy(name: str) -> Taxonomy:
    """A packaged taxonomy by name, or a laboratory's own by the path of its ``.toml`` file.

    Raises UsageError: unknown, or the file is not a valid taxonomy; says where and what to do.
    """
    if name.endswith(".toml"):
        path = Path(name)
        try:
            return parse_taxonomy(path.stem, path.read_text("utf-8"), origin=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the taxonomy {path} cannot be read: {error}") from error
    if name not in taxonomies():
        raise UsageError(
            f"there is no taxonomy {name!r}; {nearest(name, taxonomies())}known: "
            f"{', '.join(taxonomies())}; or name your own file, which ends in .toml"
        )
    text = (_FOLDER / f"{name}.toml").read_text("utf-8")
    return parse_taxonomy(name, text, origin=f"the packaged taxonomy {name}")


def mapping(name: str) -> TypeMapping:
    """The mapping ``SOURCE:TARGET``, for example ``mll-21:lineage-5``.

    It is declared in the source's file, or both are selections of the same types.

    Raises UsageError: not of that form, or no such mapping is declared.
    """
    source_name, colon, target_name = name.rpartition(":")
    if not colon or not source_name or not target_name:
        raise UsageError(f"{name!r} is no mapping, expected SOURCE:TARGET like mll-21:lineage-5")
    source = load_taxonomy(source_name)
    if target_name in source.mappings:
        return source.mappings[target_name]
    siblings = [load_taxonomy(other) for other in taxonomies() if other != source_name]
    selections = {t.name: t for t in siblings if _family(t) == _family(source)}
    if target_name not in selections:
        declared = [*source.mappings, *selections]
        known = ", ".join(f"{source_name}:{target}" for target in declared)
        raise UsageError(
            f"{source_name} has no mapping to {target_name!r}; "
            f"{nearest(target_name, declared)}known: {known or 'none'}"
        )
    kept = selections[target_name].ids
    target_of = {i: i if i in kept else None for i in source.ids}
    return TypeMapping(source_name, target_name, target_of, "The same types, as far as selected.")


def _family(taxonomy: Taxonomy) -> str:
    return taxonomy.subset_of or taxonomy.name


def fitting_taxonomies(labels: Iterable[str]) -> tuple[str, ...]:
    """Packaged taxonomies with a type for each label, the best first.

    The best tells the most of the labels apart; among equals, one of white cells alone, then the
    one with the fewest types.
    """
    wanted = set(labels)
    loaded = [load_taxonomy(name) for name in taxonomies()]
    fitting = [t for t in loaded if wanted and all(t.knows(label) for label in wanted)]
    told_apart = {t.name: len({t.index(label) for label in wanted}) for t in fitting}
    mixed = {t.name: any(not one.white_cell for one in t.types) for t in fitting}
    ranked = sorted(fitting, key=lambda t: (-told_apart[t.name], mixed[t.name], len(t), t.name))
    return tuple(t.name for t in ranked)


def plain_taxonomy(name: str, labels: Iterable[str], profile: SmearKind) -> Taxonomy:
    """A taxonomy of a laboratory's own labels, of which nothing but the name is known.

    Such types fill no row and enter no denominator: their counts are only listed.
    """
    types = tuple(
        CellType(_as_id(label), label, label, label, "others", in_denominator=False)
        for label in dict.fromkeys(labels)
    )
    ids = [t.id for t in types]
    if len(set(ids)) < len(ids) or "" in ids:
        raise UsageError(
            f"the labels {[t.name for t in types]} give the column names {ids}, expected each to "
            "have letters or digits of its own; rename the folders or labels"
        )
    notes = ("Types known by name only: no lineage, group or row of a differential.",)
    return Taxonomy(name, name, profile, "the training data's own labels", notes, types, {})


def _as_id(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def normalised(label: str) -> str:
    """A label without regard to case and to how its words are joined."""
    return re.sub(r"[\s_-]+", " ", label.strip().casefold())


_TOP_KEYS: dict[str, type] = {
    "title": str,
    "profile": str,
    "also_for": list,
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
    "white_cell": bool,
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
    for kind in (also_for := tuple(content.get("also_for", ()))):
        one_of(origin, "also_for", kind, PROFILES)
    types = tuple(_cell_type(entry, origin) for entry in content["types"])
    _check_names(types, origin)
    _check_neighbours(types, origin)
    mappings = {
        target: _declared(name, types, target, entry, origin)
        for target, entry in content.get("mappings", {}).items()
    }
    notes = tuple(content.get("notes", ()))
    title, profile, source = content["title"], content["profile"], content["source"]
    return Taxonomy(name, title, profile, source, notes, types, mappings, also_for=also_for)


def _subset(name: str, content: dict[str, Any], origin: str) -> Taxonomy:
    """Some types of another taxonomy, with its mappings as far as they concern these."""
    for key in ("types", "profile", "also_for", "mappings"):
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
    return dataclasses.replace(
        whole,
        name=name,
        title=content["title"],
        source=content["source"],
        notes=notes,
        types=types,
        mappings=mappings,
        subset_of=whole.name,
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
        white_cell=entry.get("white_cell", True),
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
