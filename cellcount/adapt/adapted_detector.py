"""A detector adapted to a laboratory: thresholds and scale from its corrected fields.

Shapes: M fields.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellcount.adapt.count_errors import CountFigures, SeenFields, figures_of
from cellcount.adapt.result_folder import base_facts, new_weights_path, write_figures
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import Problem, has_slides
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.errors import CellcountError, UsageError
from cellcount.evaluation.detector_run import detect_set
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_weights, resolve, write_weights
from cellcount.outputs.columns import Column, TypedTable
from cellcount.outputs.tables import single, write_table
from cellcount.training.run_folder import WEIGHTS_FILE

FEWEST_FIELDS = 5
"""Labelled fields from which anything is learned."""
FEWEST_CELLS = 20
"""Cells of some class from which anything is learned."""
SCALES = (1.0, 0.8, 0.9, 1.12, 1.25)
"""Sizes of red cells that are tried, relative to the detector's own."""
FIELDS_FILE = "fields.csv"

FIELDS_COLUMNS = (
    Column("path", "text", "", "labelled field"),
    Column("slide", "text", "", "its folder, where folders are slides; else the field itself"),
    Column("fold", "int", "", "fields of one number were held out together"),
    Column("class", "text", "", "class of the detector"),
    Column("true", "int", "", "labelled cells"),
    Column("counted_before", "int", "", "cells counted by the detector as it was"),
    Column("counted_after", "int", "", "cells counted by settings chosen without the fold"),
)
"""fields.csv of an adaptation, one row per labelled field and class."""


class NoBetterCountsError(CellcountError):
    """The adapted detector would not count better.

    Attributes:
        figures: that say so.
    """

    def __init__(self, figures: CountFigures) -> None:
        super().__init__(
            "adapting would not make the counts better, so nothing was written: on slides left "
            "out, the error a field is no smaller after than before; label more fields, of more "
            "slides"
        )
        self.figures = figures


@dataclass(frozen=True, slots=True)
class AdaptDetectorRequest:
    """Request to adapt a detector to a laboratory's fields.

    Attributes:
        fields: annotated fields in any form that trainings read.
        detector: packaged name, weight file or run.
        out: folder of the result.
        name: of the adapted detector; "" for the base's with ``-adapted``.
        engine, device, plugins: how the detector computes.
    """

    fields: Path
    detector: str
    out: Path
    name: str = ""
    engine: str = "auto"
    device: str = "auto"
    plugins: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AdaptedDetector:
    """Result of an adaptation.

    Attributes:
        weights: the adapted weight file.
        card: its card.
        base: card of the detector it was made of.
        figures: before and after.
        fields: number of labelled fields.
        slides: number of slides, 0 where fields are held out one by one.
        problems: of the annotations.
    """

    weights: Path
    card: DetectorCard
    base: DetectorCard
    figures: CountFigures
    fields: int
    slides: int
    problems: tuple[Problem, ...]


def adapt_detector(
    request: AdaptDetectorRequest,
    on_field: Callable[[int], Callable[[], None]] | None = None,
) -> AdaptedDetector:
    """Choose thresholds and scale on labelled fields; write the detector with its figures.

    Args:
        request: the detector, the fields and the folder for the result.
        on_field: given the number of looks at fields, returns what is called after each.

    Raises:
        UsageError: too few fields or cells.
        AnnotationError: the fields cannot be read.
        NoBetterCountsError: the result would not count better; nothing is written.
        OutputError: the folder cannot be written.
    """
    target = new_weights_path(request.out)
    weights = resolve(request.detector)
    base, state = read_weights(weights)
    annotated = blood_classes(read_annotations(request.fields))
    classes = tuple(c.id for c in base.classes)
    images = [i for i in annotated.images if any(label in classes for label in i.labels)]
    _check_enough(images, classes)
    # Slides of unlabelled fields cannot be held out.
    by_folder = has_slides(dataclasses.replace(annotated, images=tuple(images)))
    slides = [(i.path.parent if by_folder else i.path).as_posix() for i in images]
    tick = on_field(len(images) * len(SCALES)) if on_field else lambda: None
    seen = _seen(request, base, state, images, slides, tick)
    own = {name: base.threshold_of(name) for name in classes}
    figures = figures_of(seen, own)
    if not figures.is_better():
        raise NoBetterCountsError(figures)
    facts = _facts(base, weights, request, figures, len(images))
    card = _card(base, request, figures, facts)
    write_weights(target, card, state)
    write_figures(request.out, facts)
    rows = map(single, _rows(images, seen, figures))
    write_table(request.out / FIELDS_FILE, TypedTable("fields", FIELDS_COLUMNS, rows))
    count = len(set(slides)) if by_folder else 0
    return AdaptedDetector(target, card, base, figures, len(images), count, annotated.problems)


def _check_enough(images: list[LabelledImage], classes: tuple[str, ...]) -> None:
    if len(images) < FEWEST_FIELDS:
        raise UsageError(
            f"{len(images)} fields have labelled cells of the detector's classes "
            f"({', '.join(classes)}), expected {FEWEST_FIELDS} or more; label more fields"
        )
    cells = {c: sum(label == c for i in images for label in i.labels) for c in classes}
    if max(cells.values()) < FEWEST_CELLS:
        told = ", ".join(f"{count} of {name}" for name, count in cells.items())
        raise UsageError(
            f"the fields have {told}, expected {FEWEST_CELLS} cells of one class at least; label "
            "more fields"
        )


def _seen(
    request: AdaptDetectorRequest,
    card: DetectorCard,
    state: dict[str, Any],
    images: list[LabelledImage],
    slides: list[str],
    tick: Callable[[], None],
) -> SeenFields:
    """Detect the cells of the fields as analysis does, once for each scale."""
    options = EngineOptions(request.device, "fp32", plugin_folder=request.plugins)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, WEIGHTS_FILE)
        for scale in SCALES:
            write_weights(file, _scaled(card, scale), state)
            detector = FieldDetector(load_engine(request.engine, file, options))
            truths, found[scale] = detect_set(images, detector, on_image=tick)
    return SeenFields(tuple(c.id for c in card.classes), truths, found, slides)


def _scaled(card: DetectorCard, scale: float) -> DetectorCard:
    return dataclasses.replace(card, rbc_diameter_px=round(card.rbc_diameter_px * scale, 2))


def _facts(
    base: DetectorCard,
    weights: Path,
    request: AdaptDetectorRequest,
    figures: CountFigures,
    fields: int,
) -> dict[str, Any]:
    return {
        "base": base_facts(base, weights),
        "data": request.fields.name,
        "fields": fields,
        "scale": figures.scale,
        "thresholds": figures.thresholds,
        "before": {name: error.as_json() for name, error in figures.before.items()},
        "after": {name: error.as_json() for name, error in figures.after.items()},
    }


def _card(
    base: DetectorCard, request: AdaptDetectorRequest, figures: CountFigures, facts: dict[str, Any]
) -> DetectorCard:
    errors = ", ".join(
        f"{name} {before.mean_error:.2f} before and {figures.after[name].mean_error:.2f} after"
        for name, before in figures.before.items()
    )
    note = (
        f"Adapted from {base.name} {base.version} to {facts['fields']} fields of one laboratory: "
        f"error a field {errors}, each by settings that had not seen its slide. The weights are "
        "the base's; its notes and data follow."
    )
    return dataclasses.replace(
        _scaled(base, figures.scale),
        name=request.name or f"{base.name}-adapted",
        thresholds=figures.thresholds,
        data=(*base.data, {"name": request.fields.name, "use": "thresholds and scale"}),
        training={**base.training, "adapted": facts},
        evaluations=(),  # those of the base were made with other thresholds
        notes=(note, *base.notes),
    )


def _rows(
    images: list[LabelledImage], seen: SeenFields, figures: CountFigures
) -> Iterator[dict[str, Any]]:
    for place, image in enumerate(images):
        for column, name in enumerate(seen.labelled()):
            true, before, after = figures.counts[place, column].tolist()
            yield {
                "path": image.path.as_posix(),
                "slide": seen.groups[place],
                "fold": int(figures.folds[place]) + 1,
                "class": name,
                "true": true,
                "counted_before": before,
                "counted_after": after,
            }
