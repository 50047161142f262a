"""Colours in which a detector sees a field, as its card says.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellcount.images.colour_balance import ColourBalance, measure_balance
from cellcount.images.source import Source
from cellcount.models.detector_card import Preprocessing


def in_model_colours(
    view: NDArray[np.uint8], field: NDArray[np.uint8], before: Preprocessing
) -> NDArray[np.uint8]:
    """Return a view of a field with its colours balanced.

    Args:
        view: the field, or a part of it, at any scale.
        field: the whole field, on which the balance is measured.
        before: what the card says of colours.
    """
    if not before.white_balance:
        return view
    return measure_balance(field, red_cell_hue=before.red_cell_hue).apply(view)


def balance_of(source: Source, before: Preprocessing) -> ColourBalance | None:
    """Return the balance of an image as a whole, None where its colours stay.

    Raises:
        ImageError: it cannot be read.
    """
    return source.balance(red_cell_hue=before.red_cell_hue) if before.white_balance else None
