"""On slides with known truth the limits hold the true share about as often as they say."""

from __future__ import annotations

import numpy as np

from benchmarks.coverage import covered


def test_wilson_limits_hold_the_truth_of_rendered_slides() -> None:
    held, cells = covered(slides=24, fields=10, white_cells=6.0)
    assert 40 < np.mean(cells) < 70
    wilson = [one for (_, method), said in held.items() if method == "Wilson" for one in said]
    bootstrap = [one for (_, method), said in held.items() if method == "bootstrap" for one in said]
    assert len(wilson) == 24 * 5
    # 114 are expected; limits as narrow as those of 80 % would hold about 96.
    assert 105 <= sum(wilson) <= 119
    assert sum(bootstrap) >= 95
