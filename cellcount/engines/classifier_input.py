"""Input of a classifier from the picture of a single cell.

Shapes: pictures uint8 (H, W, 3) RGB of any size, inputs uint8 (h, w, 3) of the card's size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.images.windows import contour_crop, window
from cellcount.models.classifier_card import ClassifierCard


def prepare_picture(
    pixels: NDArray[np.uint8], card: ClassifierCard, rbc_px: float | None = None
) -> NDArray[np.uint8]:
    """The classifier's input from a picture of a single cell.

    Args:
        pixels: the picture, uint8 (H, W, 3) of any size.
        card: says how a cell becomes an input.
        rbc_px: red-cell diameter in the picture; the card's where it is not known.
    """
    if card.preprocessing.white_balance:
        pixels = apply_gains(pixels, white_balance_gains(pixels))
    diameter = rbc_px or card.crop.rbc_px
    side = card.crop.window_rbc * diameter if diameter else 0.0
    return central_crop(pixels, card, side)


def central_crop(
    pixels: NDArray[np.uint8], card: ClassifierCard, side_px: float
) -> NDArray[np.uint8]:
    """The window about the centre, after the contour where the card asks for it.

    Args:
        pixels: white-balanced picture of a single cell.
        card: says how a cell becomes an input.
        side_px: side of the window, 0 for the whole picture, made square with white.
    """
    if card.crop.contour:
        pixels = contour_crop(pixels)
    height, width = pixels.shape[:2]
    before = card.preprocessing
    side = side_px or max(height, width)
    return window(pixels, (width / 2, height / 2), side, before.input_px, before.interpolation)
