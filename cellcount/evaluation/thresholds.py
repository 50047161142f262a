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
    thresholds = {}
    for label, name in enumerate(classes):
        true = sum(int((t.labels == label).sum()) for t in truths)
        scores = np.sort(np.concatenate([f.scores[f.labels == label] for f in found]))[::-1]
        if not true or not len(scores):
            thresholds[name] = 0.5
            continue
        last = scores[min(true, len(scores)) - 1]
        following = scores[true] if true < len(scores) else 0.0
        thresholds[name] = round(float((last + following) / 2), 4)
    return thresholds
