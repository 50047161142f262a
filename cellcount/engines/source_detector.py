"""Detection on any image: chooses between the ways for fields and for whole slides.

Shapes: none.
"""

from __future__ import annotations

from cellcount.engines.field_colours import balance_of
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.engines.slide_detector import Tell, detect_on_slide
from cellcount.images.source import Source


def detect(
    detector: FieldDetector, source: Source, factor: float, tell: Tell = lambda share: None
) -> Found:
    """Detect all cells above the card's score floor on an image, in original pixels.

    Args:
        detector: the model on fields.
        source: the image; one that is held whole is resized whole, any other tile by tile.
        factor: original pixels times this are the model's pixels.
        tell: called before every window of a whole slide with the share that is done; ends the
            work by raising.

    Raises:
        ImageError: it cannot be read.
        DeviceMemoryError: memory is short even for a single tile of the smallest size.
    """
    if source.picture is not None:
        return detector.detect(source.picture.pixels, factor)
    balance = balance_of(source, detector.engine.card.preprocessing)
    return detect_on_slide(detector, source, factor, balance, tell=tell)
