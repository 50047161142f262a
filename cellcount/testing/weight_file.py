"""Checks of a weight file: a detector is tried on fields, a classifier on cells.

Shapes: tiles of a detector and crops of a classifier are uint8 (H, W, 3) RGB; probabilities of N
crops and K types float32 (N, K).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cellcount.errors import CellcountError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cellcount.core.records import Detections
    from cellcount.engines.base import Engine
    from cellcount.engines.crop_classifier import CropClassifier
    from cellcount.models.classifier_card import ClassifierCard
    from cellcount.models.detector_card import DetectorCard


def check_weights(weights: Path, plugins: Path | None = None) -> list[str]:
    """Check a weight file; one sentence per problem, empty when it is sound.

    The card is validated, the tensors are loaded with every name and shape compared, and the model
    is tried: a detector on an empty and on a rendered field, a classifier on blank and on coloured
    cells.

    Args:
        weights: safetensors file with its card.
        plugins: folder that holds its backbone or classifier, where that is a plugin.
    """
    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.engines.crop_classifier import load_classifier
    from cellcount.models.detector_card import DetectorCard
    from cellcount.models.weights import read_any_card

    options = EngineOptions("cpu", "fp32", 2, plugins)
    try:
        if isinstance(read_any_card(weights), DetectorCard):
            engine = load_engine("auto", weights, options)
            promises = [_card_problems(engine.card), _detection_problems(engine)]
        else:
            classifier = load_classifier(weights, options)
            promises = [_classifier_card_problems(classifier.card), _typing_problems(classifier)]
    except CellcountError as error:
        return [str(error)]
    problems = list(_number_problems(weights))
    for promise in promises:
        try:
            problems += promise
        except Exception as error:  # noqa: BLE001 -- a plugin's network may do anything
            problems.append(f"trying it gave {type(error).__name__}: {error}")
    return problems


def _number_problems(weights: Path) -> Iterator[str]:
    from cellcount.models.weights import read_tensors

    for name, tensor in read_tensors(weights).items():
        if not tensor.isfinite().all():
            yield f"tensor {name} holds values that are not finite"


def _card_problems(card: DetectorCard) -> Iterator[str]:
    unstated = [c.id for c in card.classes if c.id not in card.thresholds]
    if unstated:
        yield f"the card states no threshold for {', '.join(unstated)}, so 0.5 is used"
    if not card.data:
        yield "the card names no training data"
    if card.inference.margin_px < card.rbc_diameter_px:
        yield (
            f"tiles overlap by {card.inference.margin_px} px, expected at least a red cell of "
            f"{card.rbc_diameter_px:g} px: cells on seams would be lost"
        )


def _detection_problems(engine: Engine) -> Iterator[str]:
    """Check a detector on an empty and a rendered field, alone and in one batch."""
    import numpy as np

    from cellcount.evaluation.cost import reference_field

    rendered = reference_field(engine.card.rbc_diameter_px)
    tiles = {"an empty field": np.full_like(rendered, 235), "a rendered field": rendered}
    together = engine.detect(list(tiles.values()))
    for (name, tile), found in zip(tiles.items(), together, strict=True):
        yield from (f"on {name} {what}" for what in _output_problems(engine.card, tile, found))
        (alone,) = engine.detect([tile])
        if len(alone) != len(found) or not np.array_equal(alone.boxes_xyxy, found.boxes_xyxy):
            yield f"on {name} the detections depend on the other tile of the batch"
    counted = _counted(engine.card, together[0])
    if counted:
        yield f"on an empty field it counts {counted} cells, expected none"


def _output_problems(
    card: DetectorCard, tile: NDArray[np.uint8], found: Detections
) -> Iterator[str]:
    import numpy as np

    height, width = tile.shape[:2]
    boxes, scores, labels = found.boxes_xyxy, found.scores, found.labels
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        yield "boxes or scores are not finite"
    elif len(boxes) and (boxes.min() < 0 or (boxes.max(0) > [width, height] * 2).any()):
        yield f"boxes leave the tile of {width}x{height} px"
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        yield f"scores go from {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1"
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(card.classes)):
        yield f"labels go from {labels.min()} to {labels.max()}, with {len(card.classes)} classes"


def _counted(card: DetectorCard, found: Detections) -> int:
    import numpy as np

    thresholds = np.array([card.threshold_of(c.id) for c in card.classes], np.float32)
    return int((found.scores >= thresholds[found.labels]).sum())


def _classifier_card_problems(card: ClassifierCard) -> Iterator[str]:
    from cellcount.models.taxonomy import load_taxonomy, taxonomies

    if not card.data:
        yield "the card names no training data"
    if not card.training:
        yield "the card tells nothing of its training"
    if card.taxonomy in taxonomies():
        known = load_taxonomy(card.taxonomy).ids
        if strange := [t.id for t in card.types if t.id not in known]:
            yield f"the types {', '.join(strange)} are not of the card's taxonomy {card.taxonomy}"


def _typing_problems(classifier: CropClassifier) -> Iterator[str]:
    """Check a classifier on an empty, a random and a black crop, together and alone."""
    import numpy as np

    shape = (*classifier.card.preprocessing.input_px, 3)
    random = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    crops = [np.full(shape, 235, np.uint8), random, np.zeros(shape, np.uint8)]
    together = classifier.probs(crops)
    alone = np.concatenate([classifier.probs([crop]) for crop in crops])
    if not np.isfinite(together).all():
        yield "probabilities are not finite"
    elif not np.allclose(together.sum(1), 1, atol=1e-4):
        yield f"probabilities have sums of {together.sum(1)}, expected 1"
    elif not np.allclose(together, alone, atol=1e-5):
        yield "a cell's probabilities depend on the other cells of its batch"
