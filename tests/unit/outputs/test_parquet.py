"""Parquet tables hold the same numbers as CSV, typed, and say what they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.core.records import CellClass, ImageResult
from cellcount.errors import UsageError
from cellcount.outputs.columns import CELLS_COLUMNS
from cellcount.outputs.parquet import check_parquet, is_parquet
from cellcount.outputs.tables import write_cells, write_counts
from tests.tables import read_table
from tests.unit.run_content import content_of

MakeResult = Callable[..., ImageResult]
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="needs pyarrow (extra: parquet)")


def test_the_name_decides() -> None:
    assert is_parquet(Path("a.parquet"))
    assert is_parquet(Path("a.PQ"))
    assert not is_parquet(Path("a.csv"))


@pytest.mark.skipif(HAS_PYARROW, reason="pyarrow is installed")
def test_without_pyarrow_the_message_helps() -> None:
    with pytest.raises(UsageError, match=r"pip install 'cellcount\[parquet\]'"):
        check_parquet()


@needs_pyarrow
def test_cells_are_those_of_the_csv(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    import pandas

    results = [make_result("=a\udcff.png", 40), make_result("b.png", 0), make_result("c.png", 9)]
    for name in ("cells.csv", "cells.parquet"):
        write_cells(tmp_path / name, content_of(results, blood))
    expected = read_table(tmp_path / "cells.csv", CELLS_COLUMNS)
    found = pandas.read_parquet(tmp_path / "cells.parquet")
    assert list(found.columns) == list(expected.columns)
    assert len(found) == 49
    for column in CELLS_COLUMNS:
        texts = [str(v).encode("utf-8", "backslashreplace").decode() for v in expected[column.name]]
        assert [str(v) for v in found[column.name]] == texts, column.name
    assert str(found["score"].dtype) == "float64"
    assert str(found["edge"].dtype) == "bool"


@needs_pyarrow
def test_empty_counts_are_missing_not_zero(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    import pandas

    failed = ImageResult(make_result("x.png", 0).ref, "failed", "broken")
    write_counts(tmp_path / "c.parquet", content_of([make_result("a.png", 3), failed], blood))
    found = pandas.read_parquet(tmp_path / "c.parquet")
    assert found["cells"][0] == 3
    assert found["cells"].isna().tolist() == [False, True]
    assert found["reason"].tolist() == ["", "broken"]
