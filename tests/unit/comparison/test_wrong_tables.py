"""A table that cannot be compared says in which row, or which table to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.comparison.count_tables import read_count_table
from cellcount.errors import UsageError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "slide,lymphocytes,monocytes,total\na,60,40,100\nb,50,40,100\n",
            "row 3: column 'total' is called a sum and is none: it states 100 where .* 90",
        ),
        (
            "slide,n,lymphocytes,monocytes\na,50,20,30\nb,50,20,31\n",
            "line 3: the classes add up to 51, neither to n = 50 nor to 100",
        ),
        ("image,slide,status,cells,n_rbc\na/1.png,a,done,3,3\n", "row per image; give slides.csv"),
        ("image,cell,label\na/1.png,1,wbc\n", "row per cell; give slides.csv"),
    ],
)
def test_what_is_wrong_is_found_at_once(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_count_table(path)
