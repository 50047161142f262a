"""Tiles padded to a common shape, as every engine gives them to its model.

Shapes: tiles uint8 (H, W, 3) RGB; batches uint8 (N, H', W', 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.models.detector_card import Preprocessing


def padded_shape(shape: tuple[int, ...], before: Preprocessing) -> tuple[int, int]:
    """Height and width of a tile with its padding."""
    multiple = before.pad_multiple
    return (-(-shape[0] // multiple) * multiple, -(-shape[1] // multiple) * multiple)


def padded(
    tiles: Sequence[NDArray[np.uint8]], size: int, before: Preprocessing
) -> NDArray[np.uint8]:
    """Pad tiles to a batch of ``size`` images; those behind the tiles are padding alone.

    Padding has the mean colour, which becomes zero, as a convolution pads: a border like that of
    the training crops. A black one would hide cells that the edge cuts.

    Args:
        tiles: at least one, all of the same shape once padded.
        size: of the batch, as many as the tiles or more.
        before: says the colour and the multiple.
    """
    mean = np.round(255 * np.asarray(before.mean)).astype(np.uint8)
    batch = np.empty((size, *padded_shape(tiles[0].shape, before), 3), np.uint8)
    for image, tile in zip(batch, tiles, strict=False):
        height, width = tile.shape[:2]
        image[:height, :width] = tile
        image[height:] = mean
        image[:height, width:] = mean
    batch[len(tiles) :] = mean
    return batch
