"""Expected time of a run: what images gain side by side."""

from __future__ import annotations

import pytest

from cellcount.analysis.dry_run import gain_side_by_side


@pytest.mark.parametrize(
    ("at_once", "busy", "gain"),
    [(8, 1.0, 8.0), (8, 0.7, 8.0), (8, 4.0, 2.0), (8, 16.0, 1.0), (1, 0.1, 1.0)],
    ids=["one tile", "beside other work", "four tiles", "more tiles than images", "on a GPU"],
)
def test_images_that_keep_more_processors_busy_gain_less(
    at_once: int, busy: float, gain: float
) -> None:
    assert gain_side_by_side(at_once, busy) == gain
