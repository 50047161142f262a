"""A small valid card, and files that only pretend to be weights."""

from __future__ import annotations

import pytest

from cellcount.core.records import CellClass
from cellcount.models.detector_card import Architecture, DetectorCard


@pytest.fixture
def card() -> DetectorCard:
    return DetectorCard(
        name="small",
        version="1.2",
        classes=(CellClass("rbc", "red cell", "red cells"), CellClass("wbc", "w", "ws")),
        rbc_diameter_px=24.5,
        license="Apache-2.0",
        architecture=Architecture(
            backbone="timm/test_resnet",
            backbone_options={"in_chans": 3},
            pyramid_channels=16,
            anchor_sizes_px=((8.0, 12.5), (24.0, 32.0), (48.0, 64.0)),
            head_dim=16,
        ),
        thresholds={"rbc": 0.25},
        data=({"name": "made up", "images": [1, 2]},),
        training={"lr": 0.1, "nested": {"a": [1, None]}},
        evaluations=({"split": "test", "ap50": 0.5},),
        notes=("counts µm and cells",),
    )
