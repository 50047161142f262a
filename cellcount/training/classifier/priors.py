"""Mixtures of types at which probabilities are stated.

A network trained on equally many cells of each type takes them for equally common; smears are not
so. The profile's mixture is that of a healthy adult, rounded, and only as exact as a prior need be.

Shapes: K types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellcount.models.taxonomy import Taxonomy

# Percent of the nucleated cells. Blood: mid-range of adults (Dacie & Lewis, Practical Haematology).
# Marrow: mean of healthy adults (Bain 1996, Br J Haematol 94:206), rounded.
_SHARES: dict[str, dict[str, float]] = {
    "peripheral-blood": {
        "segmented_neutrophils": 56, "band_forms": 3, "lymphocytes": 31, "monocytes": 6.5,
        "eosinophils": 2.5, "basophils": 0.5,
    },
    "bone-marrow": {
        "erythroblasts": 28, "segmented_neutrophils": 21, "band_forms": 12, "lymphocytes": 13,
        "promyelocytes": 8, "myelocytes": 8, "metamyelocytes": 4, "eosinophils": 2,
        "blasts": 1.5, "monocytes": 1.5, "plasma_cells": 0.6,
    },
}  # fmt: skip
_LEAST = 0.3  # percent of any other type: rare, and never ruled out


def profile_prior(taxonomy: Taxonomy, ids: Sequence[str]) -> NDArray[np.float64]:
    """Shares (K,) of the types ``ids`` in the taxonomy's kind of smear, with a sum of 1.

    Types that fill the same row of a differential divide its share equally.
    """
    rows_of = {t.id: t.rows for t in taxonomy.types if t.id in ids}
    sharing = Counter(row for rows in rows_of.values() for row in rows)
    shares = _SHARES[taxonomy.profile]
    percent = [
        max(_LEAST, sum(shares.get(row, 0.0) / sharing[row] for row in rows_of[i])) for i in ids
    ]
    return np.asarray(percent, np.float64) / sum(percent)
