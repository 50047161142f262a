"""Fingerprint of a run: the facts that decide its numbers, by name, as its journal keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcount import __version__
from cellcount.engines.field_detector import FieldDetector
from cellcount.images.stain_reference import load_stain_reference
from cellcount.models.detector_card import DetectorCard
from cellcount.settings import AnalyzeSettings

#: Counts changes of the method that change numbers while the version stays: results of another
#: number are not mixed with new ones but analysed again. 2: scales are held against red cells, and
#: nothing is counted outside the lit field. 3: tiles begin on the model's grid.
METHOD = 3


def thresholds_of(card: DetectorCard, min_score: float | None) -> dict[str, float]:
    """Score from which each class is counted: the card's, or one for all."""
    return {c.id: card.threshold_of(c.id) if min_score is None else min_score for c in card.classes}


def fingerprint(
    settings: AnalyzeSettings,
    detector: FieldDetector,
    weights_sha256: str,
    classifier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the facts that decide the numbers, for the journal.

    Args:
        settings: as asked.
        detector: as loaded.
        weights_sha256: of the detector's weight file.
        classifier: all that decides the types, JSON-ready, None where cells stay untyped.
    """
    engine = detector.engine
    fields = settings.fingerprint_fields()
    fields.update(
        detector=engine.card.name,
        detector_sha256=weights_sha256,
        engine=engine.name,
        device=engine.device.partition(":")[0],
        precision=engine.precision,
        batch_size=engine.batch_size,
        refine_steps=engine.card.refinement.steps,
        classes=[c.id for c in engine.card.classes],
        thresholds=thresholds_of(engine.card, settings.min_score),
        version=__version__,
        method=METHOD,
    )
    stain = load_stain_reference(settings.stain_reference)
    fields["stain_reference"] = None if stain is None else stain.facts()  # not a path
    if classifier is not None:
        fields["classifier"] = dict(classifier)  # not the name or path that was asked for
    return fields
