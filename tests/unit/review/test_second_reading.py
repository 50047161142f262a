"""Agreement of two readers, against another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cellcount.review.page.second_reading import cohens_kappa, kappa_rows


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.integers(0, 4, 80)
    second = np.where(random.random(80) < 0.7, first, random.integers(0, 5, 80))
    pairs = [(f"t{a}", f"t{b}") for a, b in zip(first, second, strict=True)]
    assert cohens_kappa(pairs) == pytest.approx(cohen_kappa_score(first, second))
    for row in kappa_rows(pairs)[1:]:
        of_type = int(row.type_id[1:])
        split = cohen_kappa_score(first == of_type, second == of_type)
        assert row.kappa == pytest.approx(split, abs=1e-12)
        assert row.both == int(((first == of_type) & (second == of_type)).sum())


def test_where_nothing_is_left_to_chance_there_is_no_kappa() -> None:
    assert cohens_kappa([]) is None
    assert cohens_kappa([("a", "a"), ("a", "a")]) is None
    (every, only) = kappa_rows([("a", "a")])
    assert (every.type_id, every.both, every.kappa) == ("", 1, None)
    assert (only.type_id, only.kappa) == ("a", None)
