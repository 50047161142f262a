"""The statistics of a run: which profile, what the models can tell of it, and slides.csv."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cellcount import __version__
from cellcount.analysis.assessable import (
    assessable_types,
    misfit,
    smear_of_classifier,
    smear_of_detector,
)
from cellcount.analysis.loaded_classifier import LoadedClassifier
from cellcount.core.records import ImageResult
from cellcount.differential.confusion import check_confusion, confusion_of_card, read_confusion
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import Profile, load_profile
from cellcount.differential.rollup import FieldCounts, field_counts
from cellcount.errors import UsageError
from cellcount.models.detector_card import Card
from cellcount.outputs.slides import Counting
from cellcount.settings import ADJUST_BY_CARD, DifferentialSettings

_DEFAULT = "peripheral-blood"


def counting_of(
    settings: DifferentialSettings,
    detector: tuple[Card, str],
    classifier: LoadedClassifier | None,
    *,
    wanted: bool,
) -> Counting:
    """How the cells of a run are counted.

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
    if reason and not settings.force_profile and (wanted or settings.profile is not None):
        raise UsageError(reason + _remedy(profile))
    types: tuple[TypeRows, ...] = ()
    if classifier is not None:
        types = assessable_types(classifier.card, classifier.types, profile, map_name)
    rules = Rules(
        method=settings.limits,
        confusion=_confusion(settings.adjust, classifier),
        forced=bool(reason) and settings.force_profile,
    )
    models = _models(card, sha256, classifier)
    return Counting(profile, types, card.classes, rules, models)


def fields_of(results: Iterable[ImageResult], counting: Counting) -> Iterator[FieldCounts]:
    """What each field of a run contributes, one result in memory at a time."""
    ids = [t.id for t in counting.assessable]
    return (field_counts(result, len(counting.classes), ids) for result in results)


def profile_facts(counting: Counting) -> dict[str, Any]:
    """The profile and how limits are made, JSON-ready: for run.json."""
    profile, rules = counting.profile, counting.rules
    return {
        "name": profile.name,
        "version": profile.version,
        "kind": profile.kind,
        "forced": rules.forced,
        "limits": rules.method,
        "confidence": rules.confidence,
        "quality": dict(profile.quality),
        "adjusted_by": None if rules.confusion is None else rules.confusion.source,
    }


def _typing(classifier: LoadedClassifier | None) -> tuple[Any, str | None]:
    return (None, None) if classifier is None else (classifier.card, classifier.map_name)


def _profile(
    settings: DifferentialSettings, card: Card, classifier: LoadedClassifier | None
) -> Profile:
    """The one asked for, else that of the smears that the models were made for."""
    if settings.profile is not None:
        return load_profile(settings.profile)
    kind = smear_of_detector(card)
    if kind is None and classifier is not None:
        kind = smear_of_classifier(classifier.card, classifier.map_name)
    return load_profile(kind or _DEFAULT)


def _remedy(profile: Profile) -> str:
    packaged = ""
    if profile.kind == "bone-marrow":
        packaged = "no detector for bone marrow is packaged: train your own, "
    else:
        packaged = "choose models for it, "
    return (
        f"; {packaged}or name another --profile; --force-profile counts all the same and marks "
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


def _models(card: Card, sha256: str, classifier: LoadedClassifier | None) -> dict[str, str]:
    """What slides.csv says of program and models."""
    said = {"program": f"cellcount {__version__}", "detector": _model(card, sha256)}
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
