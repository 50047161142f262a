"""What models can tell of a profile's rows, from their cards: which rows, which kind of smear.

Shapes: none; plain data.
"""

from __future__ import annotations

from collections.abc import Sequence

from cellcount.core.records import CellClass
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile
from cellcount.differential.rows import SmearKind
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import Card
from cellcount.models.taxonomy import Taxonomy, load_taxonomy, mapping

#: Classes of detectors for blood films: a marrow has nucleated cells, not white cells.
_BLOOD_CLASSES = {"rbc", "wbc", "platelet"}


def assessable_types(
    card: ClassifierCard,
    types: Sequence[CellClass],
    profile: Profile,
    map_name: str | None = None,
) -> tuple[TypeRows, ...]:
    """The rows of a profile that the types of a classifier fill, after its mapping.

    A type that the mapping makes up of others fills no row that none of them does: what a
    classifier never learned to name, no mapping teaches it.

    Args:
        card: of the classifier.
        types: that are reported.
        profile: whose names rows have, where cells go by another one in it.
        map_name: ``SOURCE:TARGET``, or None.
    """
    own = {t.id: _of_taxonomy(_taxonomy(card), t, profile) for t in card.types}
    if map_name is None:
        return tuple(own[t.id] for t in types)
    chosen = mapping(map_name)
    target = load_taxonomy(chosen.target)
    found = []
    for t in types:
        reported = _of_taxonomy(target, t, profile)
        sources = [own[i] for i in chosen.sources_of(t.id) if i in own]
        filled = {row for source in sources for row in source.rows}
        rows = tuple(row for row in reported.rows if row in filled)
        notes = (reported.note, *(source.note for source in sources if source.rows))
        note = "; ".join(dict.fromkeys(n for n in notes if n))
        found.append(TypeRows(t.id, t.plural, rows, note))
    return tuple(found)


def smear_of_classifier(card: ClassifierCard, map_name: str | None = None) -> SmearKind | None:
    """The kind of smear that a classifier's types are of, None where they are its own."""
    if map_name is not None:
        return load_taxonomy(map_name.partition(":")[2]).profile
    taxonomy = _taxonomy(card)
    return None if taxonomy is None else taxonomy.profile


def smear_of_detector(card: Card) -> SmearKind | None:
    """The kind of smear that a detector's classes are of, None where they do not tell."""
    return "peripheral-blood" if {c.id for c in card.classes} <= _BLOOD_CLASSES else None


def misfit(
    profile: Profile, detector: Card, classifier: ClassifierCard | None, map_name: str | None
) -> str:
    """Why the models cannot be used with a profile, "" where they can."""
    kind = smear_of_detector(detector)
    if kind is not None and kind != profile.kind:
        classes = ", ".join(c.id for c in detector.classes)
        return (
            f"the profile {profile.name} counts cells of {_words(profile.kind)}, but the detector "
            f"{detector.name!r} finds {classes} of {_words(kind)}"
        )
    kind = None if classifier is None else smear_of_classifier(classifier, map_name)
    if classifier is not None and kind is not None and kind != profile.kind:
        return (
            f"the profile {profile.name} counts cells of {_words(profile.kind)}, but the "
            f"classifier {classifier.name!r} names types of {_words(kind)}"
        )
    return ""


def _taxonomy(card: ClassifierCard) -> Taxonomy | None:
    return load_taxonomy(card.taxonomy) if card.taxonomy else None


def _of_taxonomy(taxonomy: Taxonomy | None, cell_type: CellClass, profile: Profile) -> TypeRows:
    """A reported type with what its taxonomy knows of it; nothing of a laboratory's own type."""
    if taxonomy is None or cell_type.id not in taxonomy.ids:
        return TypeRows(cell_type.id, cell_type.plural)
    known = taxonomy.types[taxonomy.index(cell_type.id)]
    return TypeRows(known.id, cell_type.plural, profile.own_rows(known.rows), known.note)


def _words(kind: SmearKind) -> str:
    return kind.replace("-", " ")
