"""Numbers of regions sampled in a training step, the same for every engine.

Shapes: none.
"""

from __future__ import annotations

#: Anchors per image, the share of them on cells, and the overlaps that make them cell or not.
ANCHORS, ANCHORS_ON_CELLS = 256, 0.5
ANCHOR_IOU, NO_ANCHOR_IOU = 0.7, 0.3
#: Where the anchor loss turns from squared to absolute; the default of ``torchvision``.
ANCHOR_LOSS_BETA = 1 / 9
#: Proposals of a training step per level before suppression, and per image after it.
PROPOSALS_BEFORE, PROPOSALS_AFTER = 1000, 400
#: Regions per image, the share of them on cells, and the overlap that makes them cells.
REGIONS, REGIONS_ON_CELLS, REGION_IOU = 112, 0.4, 0.5
#: Samples along each side of a pooled cell of the grid (RoIAlign).
POOL_SAMPLES = 2
