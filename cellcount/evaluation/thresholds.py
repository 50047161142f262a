"""Working thresholds: the score from which a detection is counted.

Shapes: one entry per image; Detections as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellcount.evaluation.detection import Truth
from cellcount.records import Detections


def zero_bias_thresholds(
    truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """Per class, the score at which as many cells are counted as there are.

    With k true cells it lies midway between the k-th and the next best score; 0.5 where a class
    has no cells. To be chosen on validation images, never on test images.
    """
    return {name: _zero_bias(truths, found, label) for label, name in enumerate(classes)}


def _zero_bias(truths: Sequence[Truth], found: Sequence[Detections], label: int) -> float:
    true = sum(int((t.labels == label).sum()) for t in truths)
    joined = Detections.concatenate(found)
    scores = np.sort(joined.scores[joined.labels == label])[::-1]
    if not true or not len(scores):
        return 0.5
    last = float(scores[min(true, len(scores)) - 1])
    following = float(scores[true]) if true < len(scores) else 0.0
    middle = round((last + following) / 2, 4)
    # Rounding must not step over a score; cells count from the threshold on, in float32.
    return middle if following < np.float32(middle) <= last else last
