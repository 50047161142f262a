"""What a detector costs: floating-point operations of one field, by one stated convention.

A multiplication with its addition counts as two operations. Convolutions and matrix products are
counted; RoIAlign, suppression and everything element by element count as nothing.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from cellcount.data.synthetic import FieldSpec, render_field
from cellcount.engines.base import Engine

REFERENCE_SIZE_PX = (640, 480)
_SEED = 12
_LARGEST_RENDERED_PX = 400.0


def reference_field(rbc_diameter_px: float) -> NDArray[np.uint8]:
    """A rendered 640x480 field half covered with red cells of that diameter, always the same."""
    width, height = REFERENCE_SIZE_PX
    diameter = min(rbc_diameter_px, _LARGEST_RENDERED_PX)
    return render_field(FieldSpec(width, height, _SEED, diameter, density=0.5)).pixels


def flops_of(engine: Engine, tile: NDArray[np.uint8]) -> int:
    """Operations of one detection call on one tile at the model's scale.

    A batch is padded to the engine's batch size, and the padding is counted as it is computed.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        engine.detect([tile])
    return int(counter.get_total_flops())
