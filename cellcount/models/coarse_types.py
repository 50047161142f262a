"""Coarse labels: names that stand for several types of a taxonomy at once.

PBC's ``neutrophil`` is segmented or band, its ``ig`` any immature granulocyte. A taxonomy knows
such names by its mappings and its groups; the probability of one is the sum over its types.

Shapes: none; plain data.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellcount.core.records import CellClass
from cellcount.models.taxonomy import GROUPS, CellType, Taxonomy, load_taxonomy, normalised


@dataclass(frozen=True, slots=True)
class CoarseType:
    """A type that several others make up.

    Attributes:
        named: what it is called.
        members: ids of the types that it stands for, two or more.
    """

    named: CellClass
    members: tuple[str, ...]


def meant_by(taxonomy: Taxonomy, label: str) -> tuple[str, ...]:
    """Ids of the types that a label may mean: one, several of a coarse label, none of another."""
    if taxonomy.knows(label):
        return (taxonomy.ids[taxonomy.index(label)],)
    coarse = coarse_type(taxonomy, label)
    return () if coarse is None else coarse.members


def coarse_type(taxonomy: Taxonomy, label: str) -> CoarseType | None:
    """The coarse type that a label names, None where it names none.

    That is a type of a taxonomy to which a mapping leads, if the types mapped to it share a group
    (a lineage or a rest is no type of cell), or a group itself.
    """
    by_id = {t.id: t for t in taxonomy.types}
    for target, mapped in taxonomy.mappings.items():
        reached = load_taxonomy(target)
        if not reached.knows(label):
            continue
        named = reached.types[reached.index(label)]
        members = mapped.sources_of(named.id)
        if len(members) > 1 and _share_a_group([by_id[i] for i in members]):
            return CoarseType(_class_of(named), members)
    for group in GROUPS:
        if normalised(group) == normalised(label):
            members = tuple(t.id for t in taxonomy.types if group in t.groups)
            if len(members) > 1:
                return CoarseType(CellClass(group.replace(" ", "_"), group, group), members)
    return None


def _share_a_group(types: list[CellType]) -> bool:
    return bool(set.intersection(*(set(t.groups) for t in types)))


def _class_of(named: CellType) -> CellClass:
    return CellClass(named.id, named.name, named.plural, named.abbreviation, named.lineage)
