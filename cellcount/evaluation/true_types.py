"""Mapping of the labels of a data set to the types that a classifier reports.

Shapes: M reported types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cellcount.core.records import CellClass
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.engines.type_map import TypeMap, type_map
from cellcount.errors import AnnotationError
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.coarse_types import coarse_type
from cellcount.models.taxonomy import (
    Taxonomy,
    TypeMapping,
    load_taxonomy,
    mapping,
    normalised,
    taxonomies,
)

#: Outcome of a cell that is most likely of a type which the mapping drops.
DROPPED = "dropped"

TypeOf = Callable[[str], str | None]


@dataclass(frozen=True, eq=False, slots=True)
class TrueTypes:
    """The cells of a data set that a classifier can be measured on.

    Attributes:
        items: the cells.
        labels: position of the true type of each among the reported types.
        reported: from the classifier's types to the reported ones, M.
        neighbours: positions of each reported type's neighbours in maturation; empty where no
            taxonomy tells.
        left_out: label → cells whose type the classifier does not report.
        merged: reported type → the classifier's types that it stands for, because labels do not
            tell them apart.
    """

    items: tuple[LabelledCrop, ...]
    labels: tuple[int, ...]
    reported: TypeMap
    neighbours: tuple[tuple[int, ...], ...]
    left_out: Counter[str]
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """The reported types."""
        return tuple(t.id for t in self.reported.types)


def true_types(crops: CropSet, card: ClassifierCard, map_name: str | None) -> TrueTypes:
    """Finds the reported type of every cell.

    A mapping names the types that are reported. It is applied to the classifier's types where it
    starts from them, and to the labels as far as they are of its source. Without one, labels pass
    through the mapping that the classifier was trained with, if any; others are read as types of
    its taxonomy. A coarse label, such as PBC's ``neutrophil`` for a classifier that tells band from
    segmented ones, makes its types one, whose probability is their sum, for all cells.

    Raises:
        AnnotationError: no label is of a reported type.
        UsageError: the mapping fits neither the classifier's types nor leads to them.
    """
    taxonomy = load_taxonomy(card.taxonomy) if card.taxonomy in taxonomies() else None
    chosen = mapping(map_name) if map_name else None
    reported = TypeMap.unchanged(card)
    if chosen is not None:
        taxonomy = load_taxonomy(chosen.target)
        if not _leads_to(card, chosen):
            reported = type_map(card, map_name)
    type_of = _reader(card, taxonomy, chosen or _trained_mapping(card))
    of_label = {label: type_of(label) for label in crops.classes}
    merged: dict[str, tuple[str, ...]] = {}
    if chosen is None and taxonomy is not None:
        unknown = [label for label, found in of_label.items() if found is None]
        reported, merged, coarse = _coarse(card, taxonomy, unknown)
        renamed = {i: name for name, members in merged.items() for i in members}
        of_label = {k: renamed.get(v, v) if v else coarse.get(k) for k, v in of_label.items()}
    ids = [t.id for t in reported.types]
    kept = [(item, ids.index(t)) for item in crops.items if (t := of_label[item.label]) in ids]
    left_out = Counter(i.label for i in crops.items if of_label[i.label] not in ids)
    if not kept:
        raise AnnotationError(
            f"the labels {', '.join(sorted(left_out)[:10])} are no types that the classifier "
            f"{card.name!r} reports, which are {', '.join(ids)}; a mapping (--map) may lead there"
        )
    return TrueTypes(
        items=tuple(item for item, _ in kept),
        labels=tuple(label for _, label in kept),
        reported=reported,
        neighbours=_neighbours(taxonomy, ids, merged),
        left_out=left_out,
        merged=merged,
    )


def _coarse(
    card: ClassifierCard, taxonomy: Taxonomy, labels: Sequence[str]
) -> tuple[TypeMap, dict[str, tuple[str, ...]], dict[str, str]]:
    """The reported types where some labels stand for several of the classifier's.

    Returns:
        From the classifier's types to the reported ones; reported type → types it stands for;
        label → reported type.
    """
    own = [t.id for t in card.types]
    named: dict[str, CellClass] = {}
    merged: dict[str, tuple[str, ...]] = {}
    of_label: dict[str, str] = {}
    for label in labels:
        coarse = coarse_type(taxonomy, label)
        if coarse is None or not set(coarse.members) <= set(own):
            continue
        same = next((k for k, v in merged.items() if set(v) & set(coarse.members)), None)
        if same is None:
            same = coarse.named.id
            named[same], merged[same] = coarse.named, coarse.members
        of_label[label] = same
    target = {i: name for name, members in merged.items() for i in members}
    types = tuple(dict.fromkeys(named[target[t.id]] if t.id in target else t for t in card.types))
    sums = [[float(target.get(i, i) == t.id) for t in types] for i in own]
    return TypeMap(types, np.array(sums, np.float32)), merged, of_label


def _leads_to(card: ClassifierCard, chosen: TypeMapping) -> bool:
    """Return whether a mapping ends at the classifier's types and does not start from them."""
    own = {t.id for t in card.types}
    return own <= set(chosen.target_of.values()) and not own <= chosen.target_of.keys()


def _trained_mapping(card: ClassifierCard) -> TypeMapping | None:
    """The mapping that turned the training's labels into the card's types."""
    name = card.training.get("type_map")
    return mapping(name) if isinstance(name, str) and name else None


def _reader(card: ClassifierCard, taxonomy: Taxonomy | None, chosen: TypeMapping | None) -> TypeOf:
    """Return a function from a label to its type: a source type of the mapping first."""
    source = load_taxonomy(chosen.source) if chosen else None
    own = {normalised(name): t.id for t in card.types for name in (t.id, t.name, t.abbreviation)}

    def type_of(label: str) -> str | None:
        if chosen and source and source.knows(label):
            return chosen.target_of[source.ids[source.index(label)]]
        if taxonomy and taxonomy.knows(label):
            return taxonomy.ids[taxonomy.index(label)]
        return own.get(normalised(label))

    return type_of


def _neighbours(
    taxonomy: Taxonomy | None, ids: list[str], merged: Mapping[str, Sequence[str]]
) -> tuple[tuple[int, ...], ...]:
    """Neighbours of each reported type; those of its types where it stands for several."""
    if taxonomy is None:
        return ()
    near = {t.id: t.neighbours for t in taxonomy.types}
    named = {i: name for name, members in merged.items() for i in members}
    found = []
    for i in ids:
        every = {named.get(n, n) for member in merged.get(i, (i,)) for n in near.get(member, ())}
        found.append(tuple(sorted(ids.index(n) for n in every - {i} if n in ids)))
    return tuple(found)
