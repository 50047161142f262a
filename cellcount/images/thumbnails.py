"""Reduced views of a picture, each made once for all that look at the picture as a whole.

Shapes: pixels uint8 (H, W, 3) RGB; views (h, w) or (h, w, 3), where an axis is the picture's
divided by a whole number.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


class Thumbnails:
    """Views of one picture by about how long their longer side is.

    Args:
        pixels: of the picture, which nobody changes meanwhile.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._views: dict[tuple[str, int], Pixels] = {}

    def grey(self, side_px: int) -> Pixels:
        """Brightness, (h, w)."""
        return self._view("L", side_px)

    def colour(self, side_px: int) -> Pixels:
        """Colours, (h, w, 3)."""
        return self._view("RGB", side_px)

    def _view(self, mode: Literal["L", "RGB"], side_px: int) -> Pixels:
        height, width = self._pixels.shape[:2]
        step = max(1, round(max(height, width) / side_px))
        if (mode, step) not in self._views:
            image = self._grey if mode == "L" else self.image
            view = np.asarray(image if step == 1 else image.reduce(step))
            self._views[mode, step] = view
        return self._views[mode, step]

    @cached_property
    def image(self) -> Image.Image:
        """The picture itself, as one of Pillow's."""
        return Image.fromarray(self._pixels)

    @cached_property
    def _grey(self) -> Image.Image:
        return self.image.convert("L")
