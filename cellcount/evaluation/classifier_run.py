"""Running a classifier over labelled cells exactly as ``classify`` and ``analyze`` would.

Shapes: N cells, K types of the classifier, M reported types (one more where the mapping drops
some); logits (N, K), probabilities (N, M); pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.engines.cell_typer import field_crops
from cellcount.engines.classifier_input import prepare_picture
from cellcount.engines.type_map import TypeMap
from cellcount.errors import AnnotationError, ImageError
from cellcount.evaluation.calibration import probs_at
from cellcount.evaluation.classification import (
    ClassificationReport,
    Limits,
    evaluate_classification,
    expected_calibration_error,
    wilson_limits,
)
from cellcount.evaluation.perturbations import ORIGINAL, Variant
from cellcount.evaluation.true_types import DROPPED, TrueTypes
from cellcount.images.read import read_image
from cellcount.models.classifier_card import ClassifierCard
from cellcount.settings import DEFAULT_MAX_PIXELS

#: The scale is not told: a classifier that assumes one must bear cells of another.
RESIZES = (0.5, 0.75, 1.5, 2.0)
_CHUNK = 64  # cells whose inputs are in memory at once, for every variant

Crop = NDArray[np.uint8]


class Typing(Protocol):
    """Classifier as an evaluation uses it."""

    card: ClassifierCard

    def logits(self, crops: Sequence[Crop]) -> NDArray[np.float32]:
        """Logits (N, K)."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class TypedCells:
    """Logits of a classifier for labelled cells.

    Attributes:
        kept: position of each cell among those that were given; pictures that cannot be decoded
            have none.
        logits: name of the variant → float32 (N, K).
        problems: the pictures that could not be decoded.
    """

    kept: NDArray[np.intp]
    logits: Mapping[str, NDArray[np.float32]]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False, slots=True)
class ClassifierScores:
    """A classifier's scores on one variant of the cells.

    Attributes:
        report: of the calibrated probabilities.
        ece_before: calibration error without temperature, at the same prior.
        accepted: cells at or above the card's review threshold.
        accepted_right: those of them whose label is right.
    """

    report: ClassificationReport
    ece_before: float | None
    accepted: int
    accepted_right: int

    @property
    def accepted_share(self) -> float | None:
        """Share of the cells that are not sent to review."""
        return self.accepted / self.report.cells if self.report.cells else None

    @property
    def accepted_accuracy(self) -> float | None:
        """Share of right labels among the accepted cells."""
        return self.accepted_right / self.accepted if self.accepted else None

    @property
    def accepted_limits(self) -> Limits | None:
        """Wilson's 95 % limits of ``accepted_accuracy``."""
        return wilson_limits(self.accepted_right, self.accepted)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            **self.report.to_dict(),
            "ece_before_calibration": self.ece_before,
            "accepted": self.accepted,
            "accepted_share": self.accepted_share,
            "accepted_accuracy": self.accepted_accuracy,
            "accepted_limits": self.accepted_limits,
        }


def type_labelled(
    items: Sequence[LabelledCrop],
    classifier: Typing,
    *,
    variants: Sequence[Variant] = (ORIGINAL,),
    rbc_px: float | None = None,
    on_cell: Callable[[], None] | None = None,
) -> TypedCells:
    """Types every cell under every variant; each picture is decoded once.

    Args:
        items: labelled cells, those of one picture in a row.
        classifier: what types them.
        variants: how the pictures are changed before.
        rbc_px: red-cell diameter in the unchanged pictures' pixels where they do not say it
            themselves; None for the card's.
        on_cell: called after each cell.

    Raises:
        AnnotationError: boxes of fields need ``rbc_px``.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {v.name: [] for v in variants}
    pending: dict[str, list[Crop]] = {v.name: [] for v in variants}
    kept: list[int] = []
    problems: list[Problem] = []

    def flush() -> None:
        for name, crops in pending.items():
            parts[name].append(classifier.logits(crops))
            crops.clear()

    for found in _pictures(items, problems):
        pixels, positions, boxes_xyxy = found
        diameter = items[positions[0]].rbc_px or rbc_px
        for variant in variants:
            pending[variant.name] += _inputs(
                variant.prepared(variant.apply(pixels)),
                boxes_xyxy,
                classifier.card,
                diameter,
                variant.factor,
            )
        kept += positions
        if len(pending[variants[0].name]) >= _CHUNK:
            flush()
        for _ in positions:
            if on_cell is not None:
                on_cell()
    flush()
    logits = {name: np.concatenate(chunks) for name, chunks in parts.items()}
    return TypedCells(np.array(kept, np.intp), logits, tuple(problems))


def _pictures(
    items: Sequence[LabelledCrop], problems: list[Problem]
) -> Iterator[tuple[Crop, list[int], NDArray[np.float32] | None]]:
    """Pixels of each picture, the positions of its cells, and their boxes if it is a field."""
    for path, group in groupby(enumerate(items), key=lambda pair: pair[1].path):
        members = list(group)
        try:
            ref = ImageRef(path, path.name, "")
            pixels = read_image(ref, max_pixels=DEFAULT_MAX_PIXELS).pixels
        except ImageError as error:
            problems.append(Problem(path, f"cannot be decoded ({error}); left out"))
            continue
        boxed = [item.box_xyxy for _, item in members]
        if boxed[0] is None:
            for position, _ in members:
                yield pixels, [position], None
        else:
            yield pixels, [position for position, _ in members], np.array(boxed, np.float32)


def _inputs(
    pixels: Crop,
    boxes_xyxy: NDArray[np.float32] | None,
    card: ClassifierCard,
    rbc_px: float | None,
    factor: float,
) -> list[Crop]:
    """Make the classifier's inputs; a resize by ``factor`` scales the boxes, too."""
    if boxes_xyxy is None:
        return [prepare_picture(pixels, card, rbc_px)]
    boxes_xyxy = boxes_xyxy * np.float32(factor)
    if card.crop.window_rbc == 0:  # it learned from whole pictures: the box is the picture
        sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1).tolist()
        return [
            field_crops(pixels, box[None], card, side)[0]
            for box, side in zip(boxes_xyxy, sides, strict=True)
        ]
    if rbc_px is None:
        raise AnnotationError(
            f"these cells are boxes in fields, and the classifier {card.name!r} looks at windows "
            f"of {card.crop.window_rbc:g} red-cell diameters; state the diameter in the fields' "
            "pixels with --rbc-px"
        )
    return field_crops(pixels, boxes_xyxy, card, card.crop.window_rbc * rbc_px)


def score(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    truth: TrueTypes,
    card: ClassifierCard,
    prior: Mapping[str, float] | None = None,
) -> ClassifierScores:
    """Scores of logits against true types.

    Args:
        logits: (N, K).
        labels: (N,), positions among the reported types.
        truth: names the reported types.
        card: of the classifier.
        prior: type id of the classifier → share that probabilities are stated at; the card's where
            it is None.
    """
    stated = card.prior if prior is None else prior
    types, probs = reported_probs(logits, truth.reported, card, stated, card.temperature)
    _, plain = reported_probs(logits, truth.reported, card, stated, 1.0)
    neighbours = truth.neighbours and (*truth.neighbours, *[()] * (len(types) - len(truth.ids)))
    reported = probs[:, : len(truth.ids)]  # as in analyze, which does not see what was dropped
    best = reported.argmax(axis=1)
    accepted = reported.max(axis=1) >= truth.reported.least_probs(card)[best]
    right = best == labels
    return ClassifierScores(
        report=evaluate_classification(labels, probs, types, neighbours=neighbours),
        ece_before=expected_calibration_error(labels, plain),
        accepted=int(accepted.sum()),
        accepted_right=int((accepted & right).sum()),
    )


def reported_probs(
    logits: NDArray[np.float32],
    reported: TypeMap,
    card: ClassifierCard,
    prior: Mapping[str, float],
    temperature: float,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Reported types and their probabilities (N, M), each row with a sum of 1.

    Where the mapping drops types, a last one stands for all of these.
    """
    ids = [t.id for t in card.types]
    trained = [card.trained_prior.get(i, 1 / len(ids)) for i in ids]
    wanted = [prior.get(i, share) for i, share in zip(ids, trained, strict=True)]
    of_card = probs_at(logits, temperature, wanted, trained)
    types = tuple(t.id for t in reported.types)
    probs = of_card @ reported.sums
    if not reported.sums.any(axis=1).all():
        rest = np.clip(1 - probs.sum(axis=1, keepdims=True), 0, None)
        return (*types, DROPPED), np.concatenate([probs, rest], axis=1)
    return types, probs
