"""From the labels of a data set to the types that a classifier reports.

Shapes: M reported types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.engines.crop_classifier import TypeMap, type_map
from cellcount.errors import AnnotationError
from cellcount.models.classifier_card import ClassifierCard
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
    """

    items: tuple[LabelledCrop, ...]
    labels: tuple[int, ...]
    reported: TypeMap
    neighbours: tuple[tuple[int, ...], ...]
    left_out: Counter[str]

    @property
    def ids(self) -> tuple[str, ...]:
        """The reported types."""
        return tuple(t.id for t in self.reported.types)


def true_types(crops: CropSet, card: ClassifierCard, map_name: str | None) -> TrueTypes:
    """Finds the reported type of every cell.

    A mapping names the types that are reported. It is applied to the classifier's types where it
    starts from them, and to the labels as far as they are of its source. Without one, labels pass
    through the mapping that the classifier was trained with, if any; others are read as types of
    its taxonomy.

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
    ids = [t.id for t in reported.types]
    of_label = {label: type_of(label) for label in crops.classes}
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
        neighbours=_neighbours(taxonomy, ids),
        left_out=left_out,
    )


def _leads_to(card: ClassifierCard, chosen: TypeMapping) -> bool:
    """Whether a mapping ends at the classifier's types and does not start from them."""
    own = {t.id for t in card.types}
    return own <= set(chosen.target_of.values()) and not own <= chosen.target_of.keys()


def _trained_mapping(card: ClassifierCard) -> TypeMapping | None:
    """The mapping that turned the training's labels into the card's types."""
    name = card.training.get("type_map")
    return mapping(name) if isinstance(name, str) and name else None


def _reader(card: ClassifierCard, taxonomy: Taxonomy | None, chosen: TypeMapping | None) -> TypeOf:
    """What a label means: a source type of the mapping first, then a reported type."""
    source = load_taxonomy(chosen.source) if chosen else None
    own = {normalised(name): t.id for t in card.types for name in (t.id, t.name, t.abbreviation)}

    def type_of(label: str) -> str | None:
        if chosen and source and source.knows(label):
            return chosen.target_of[source.ids[source.index(label)]]
        if taxonomy and taxonomy.knows(label):
            return taxonomy.ids[taxonomy.index(label)]
        return own.get(normalised(label))

    return type_of


def _neighbours(taxonomy: Taxonomy | None, ids: list[str]) -> tuple[tuple[int, ...], ...]:
    if taxonomy is None:
        return ()
    near = {t.id: t.neighbours for t in taxonomy.types}
    return tuple(tuple(sorted(ids.index(n) for n in near.get(i, ()) if n in ids)) for i in ids)
