"""The statistics of a run: which profile, what the models can tell of it, and slides.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cellcount import __version__
from cellcount.analysis.loaded_models import LoadedClassifier
from cellcount.core.blood import BLOOD_CLASSES
from cellcount.core.records import CellClass
from cellcount.differential.confusion import check_confusion, confusion_of_card, read_confusion
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import Profile, load_profile
from cellcount.differential.rows import SmearKind
from cellcount.errors import UsageError
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import DetectorCard
from cellcount.models.taxonomy import Taxonomy, load_taxonomy, mapping
from cellcount.settings import ADJUST_BY_CARD, DifferentialSettings

_DEFAULT = "peripheral-blood"
_MARROW_DETECTOR = "marrow"


def counting_of(
    settings: DifferentialSettings,
    detector: tuple[DetectorCard, str],
    classifier: LoadedClassifier | None,
    *,
    wanted: bool,
) -> Counting:
    """Set up the counting of a run's cells.

    Args:
        settings: what was asked for.
        detector: its card and the hash of its weights.
        classifier: what types the cells, None where nothing does.
        wanted: a differential is asked for, so that a profile must fit.

    Raises:
        UsageError: no such profile, or it does not fit the models; no usable confusion matrix.
    """
    card, sha256 = detector
    profile = _profile(settings, card, classifier)
    typing, map_name = _typing(classifier)
    reason = misfit(profile, card, typing, map_name)
    unfit = "" if settings.force_profile or not reason else reason + _remedy(profile)
    if unfit and (wanted or settings.profile is not None):
        raise UsageError(unfit)
    types: tuple[TypeRows, ...] = ()
    if classifier is not None:
        types = assessable_types(classifier.card, classifier.types, profile, map_name)
    if settings.keep_rejected:
        types = tuple(replace(t, white_cell=True) for t in types)
    rules = Rules(
        method=settings.limits,
        confusion=_confusion(settings.adjust, classifier),
        forced=bool(reason) and settings.force_profile,
        experimental=card.experimental,
    )
    models = _models(card, sha256, classifier)
    return Counting(profile, types, card.classes, rules, models, unfit)


def profile_facts(counting: Counting) -> dict[str, Any]:
    """The profile and how limits are made, JSON-ready: for run.json."""
    profile, rules = counting.profile, counting.rules
    rejected = counting.no_white_types
    return {
        "name": profile.name,
        "version": profile.version,
        "kind": profile.kind,
        "forced": rules.forced,
        **({"experimental": rules.experimental} if rules.experimental else {}),
        "limits": rules.method,
        "confidence": rules.confidence,
        "quality": dict(profile.quality),
        "adjusted_by": None if rules.confusion is None else rules.confusion.source,
        **({"rejected_types": list(rejected)} if rejected else {}),
    }


def _typing(classifier: LoadedClassifier | None) -> tuple[Any, str | None]:
    return (None, None) if classifier is None else (classifier.card, classifier.map_name)


def _profile(
    settings: DifferentialSettings, card: DetectorCard, classifier: LoadedClassifier | None
) -> Profile:
    """Load the profile asked for, else that of the smears that the models were trained on."""
    if settings.profile is not None:
        return load_profile(settings.profile)
    kind = smear_of_detector(card)
    if kind is None and classifier is not None:
        kind = next(iter(smears_of_classifier(classifier.card, classifier.map_name)), None)
    return load_profile(kind or _DEFAULT)


def _remedy(profile: Profile) -> str:
    models = "choose models for it"
    if profile.kind == "bone-marrow":
        models = f"use --detector {_MARROW_DETECTOR}, train your own"
    return (
        f"; {models}, or name another --profile; --force-profile counts all the same and marks "
        "every output"
    )


def _confusion(adjust: str | None, classifier: LoadedClassifier | None) -> Confusion | None:
    if adjust is None:
        return None
    if classifier is None:
        raise UsageError(
            "--adjust undoes the confusions of a classifier, but none runs; name one with "
            "--classifier, or leave out --adjust"
        )
    ids = [t.id for t in classifier.types]
    if adjust != ADJUST_BY_CARD:
        confusion = read_confusion(Path(adjust))
    elif classifier.map_name is not None:
        raise UsageError(
            f"--adjust {ADJUST_BY_CARD} takes the confusions of the classifier's own types, but "
            f"--map {classifier.map_name} reports others; give a table with these: cellcount "
            f"evaluate classifier DATA --map {classifier.map_name} --out FOLDER"
        )
    else:
        card = classifier.card
        confusion = confusion_of_card(card.name, ids, card.evaluations)
    check_confusion(confusion, ids)
    return confusion


def _models(card: DetectorCard, sha256: str, classifier: LoadedClassifier | None) -> dict[str, str]:
    """Return the facts of program and models for slides.csv."""
    said = {"program": f"cellcount {__version__}", "detector": _model(card, sha256)}
    if card.experimental:
        said["experimental"] = f"detector {card.name}: {card.experimental}"
    if card.densest_field:
        said["densest_field"] = f"{card.densest_field} cells on the densest field of its training"
    if classifier is None:
        return said | {"classifier": "none"}
    typing = classifier.card
    said["classifier"] = _model(typing, classifier.sha256)
    if classifier.map_name is not None:
        said["map"] = classifier.map_name
    notes = {f"classifier_note_{i}": note for i, note in enumerate(typing.notes, 1)}
    return said | notes


def _model(card: Any, sha256: str) -> str:  # noqa: ANN401 -- a card of either kind
    return f"{card.name} {card.version}, sha256 {sha256}"


def assessable_types(
    card: ClassifierCard,
    types: Sequence[CellClass],
    profile: Profile,
    map_name: str | None = None,
) -> tuple[TypeRows, ...]:
    """The rows of a profile that the types of a classifier fill, after its mapping.

    A type that the mapping makes up of others fills no row that none of them does: what a
    classifier never learned to name, no mapping teaches it. It is that of a white cell where one
    of them is.

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
        white = reported.white_cell and any(source.white_cell for source in sources)
        found.append(TypeRows(t.id, t.plural, rows, note, white_cell=white))
    return tuple(found)


def smears_of_classifier(card: ClassifierCard, map_name: str | None = None) -> list[SmearKind]:
    """The kinds of smear that a classifier's types are of, none where the types are its own."""
    taxonomy = load_taxonomy(map_name.partition(":")[2]) if map_name else _taxonomy(card)
    return [] if taxonomy is None else [taxonomy.profile, *taxonomy.also_for]


def smear_of_detector(card: DetectorCard) -> SmearKind | None:
    """The kind of smear that a detector's card or its classes name, None where none does."""
    if card.smear:
        return cast(SmearKind, card.smear)
    return "peripheral-blood" if {c.id for c in card.classes} <= set(BLOOD_CLASSES) else None


def misfit(
    profile: Profile,
    detector: DetectorCard,
    classifier: ClassifierCard | None,
    map_name: str | None,
) -> str:
    """Return the reason why the models cannot be used with a profile, "" where they can."""
    kind = smear_of_detector(detector)
    if kind is not None and kind != profile.kind:
        classes = ", ".join(c.id for c in detector.classes)
        return (
            f"the profile {profile.name} counts cells of {_words(profile.kind)}, but the detector "
            f"{detector.name!r} finds {classes} of {_words(kind)}"
        )
    kinds = [] if classifier is None else smears_of_classifier(classifier, map_name)
    if classifier is not None and kinds and profile.kind not in kinds:
        return (
            f"the profile {profile.name} counts cells of {_words(profile.kind)}, but the "
            f"classifier {classifier.name!r} names types of {_words(kinds[0])}"
        )
    return ""


def _taxonomy(card: ClassifierCard) -> Taxonomy | None:
    return load_taxonomy(card.taxonomy) if card.taxonomy else None


def _of_taxonomy(taxonomy: Taxonomy | None, cell_type: CellClass, profile: Profile) -> TypeRows:
    """A reported type with what its taxonomy knows of it; nothing of a laboratory's own type."""
    if taxonomy is None or cell_type.id not in taxonomy.ids:
        return TypeRows(cell_type.id, cell_type.plural)
    known = taxonomy.types[taxonomy.index(cell_type.id)]
    rows = profile.own_rows(known.rows)
    return TypeRows(known.id, cell_type.plural, rows, known.note, white_cell=known.white_cell)


def _words(kind: SmearKind) -> str:
    return kind.replace("-", " ")
