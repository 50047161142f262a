"""Working thresholds: the score from which a detection is counted.

Shapes: one entry per image; Detections as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellcount.core.records import Detections
from cellcount.evaluation.detection import Truth

_RIGHT_WITHIN = 0.01


def zero_bias_thresholds(
    truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """Per class, the score at which as many cells are counted as there are.

    It is the middle of all scores at which the count is right to 1 %: where many serve, a single
    cell should not decide. With k true cells, fewer than a hundred, it lies midway between the
    k-th and the next best score; 0.5 where a class has no cells. To be chosen on validation
    images, never on test images.
    """
    return {name: _zero_bias(truths, found, label) for label, name in enumerate(classes)}


def _zero_bias(truths: Sequence[Truth], found: Sequence[Detections], label: int) -> float:
    true = sum(int((t.labels == label).sum()) for t in truths)
    joined = Detections.concatenate(found)
    scores = np.sort(joined.scores[joined.labels == label])[::-1]
    if not true or not len(scores):
        return 0.5
    spare = int(_RIGHT_WITHIN * true)
    last = float(scores[min(true - spare, len(scores)) - 1])
    following = float(scores[true + spare]) if true + spare < len(scores) else 0.0
    middle = round((last + following) / 2, 4)
    # Rounding must not step over a score; cells count from the threshold on, in float32.
    return middle if following < np.float32(middle) <= last else last
