"""Records refuse values that cannot be true when they are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellcount.core.cells import count_by_type
from cellcount.core.records import Cells, CellTypes, Detections

TYPES = CellTypes(
    np.array([0, -1, 2, 2]),
    np.array([0.9, 0, 0.4, 0.8], np.float32),
    np.array([1, -1, -1, 0]),
    np.array([0.1, 0, 0, 0.2], np.float32),
    np.array([True, False, False, True]),
)


def test_types_have_one_value_per_cell() -> None:
    with pytest.raises(ValueError, match=r"prob must have shape \(4,\), got \(3,\)"):
        replace(TYPES, prob=TYPES.prob[:3])
    with pytest.raises(ValueError, match=r"accepted must have shape \(4,\), got \(4, 1\)"):
        replace(TYPES, accepted=TYPES.accepted[:, None])
    with pytest.raises(ValueError, match="second is -2, expected -1 or an index"):
        replace(TYPES, second=np.array([0, 0, 0, -2]))
    with pytest.raises(ValueError, match="a cell is accepted without a type"):
        replace(TYPES, accepted=np.ones(4, np.bool_))


def test_types_are_of_the_cells_they_stand_beside() -> None:
    found = Detections(np.ones((3, 4), np.float32), np.ones(3, np.float32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="types must be of 3 cells, got 4"):
        Cells(found, np.zeros(3, np.bool_), TYPES)
    untyped = CellTypes.untyped(3)
    assert Cells(found, np.zeros(3, np.bool_), untyped).types is untyped
    assert untyped.best.tolist() == [-1, -1, -1]


def test_counts_by_type_with_the_unclassified_last() -> None:
    assert count_by_type(TYPES, 3).tolist() == [1, 0, 1, 1]
    assert count_by_type(TYPES, 4).tolist() == [1, 0, 1, 0, 1]
    assert count_by_type(None, 2).tolist() == [0, 0, 0]
    assert count_by_type(CellTypes.untyped(5), 2).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="a type is 2, expected less than 2"):
        count_by_type(TYPES, 2)
