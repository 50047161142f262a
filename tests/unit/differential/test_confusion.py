"""Confusion matrices: read from a table or a card, refused where they cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount.differential.confusion import check_confusion, confusion_of_card, read_confusion
from cellcount.errors import UsageError

TABLE = "true,a,b\na,9,1\nb,2,8\n"


@pytest.mark.parametrize("text", [TABLE, "\ufeff" + TABLE.replace(",", ";")])
def test_a_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text(text, "utf-8")
    found = read_confusion(path)
    assert found.ids == ("a", "b")
    assert found.cells.tolist() == [[9, 1], [2, 8]]
    assert found.source == "confusion.csv"
    check_confusion(found, ["b", "a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no confusion matrix"),
        ("true,a,b\na,9,1\n", "the same types in the same order"),
        ("type,a\na,9\n", "its columns are type, a"),
        ("true,a\na,x\n", "that is none"),
        ("true,a\na,-1\n", "expected counts of 1 by 1"),
        ("true,a,b\na,1\nb,1\n", "expected counts of 2 by 2"),
    ],
)
def test_what_is_no_matrix_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        read_confusion(path)
    with pytest.raises(UsageError, match="is no confusion matrix"):
        read_confusion(tmp_path / "none.csv")


def test_a_card_s_last_matrix() -> None:
    evaluations: list[dict[str, Any]] = [
        {"data": "x", "confusion": [[1, 0], [0, 1]]},
        {"data": "pbc", "split": "val", "confusion": [[5, 1], [0, 6]]},
        {"data": "y"},
    ]
    found = confusion_of_card("mine", ["a", "b"], evaluations)
    assert (found.source, found.cells.tolist()) == ("pbc val", [[5, 1], [0, 6]])
    with pytest.raises(UsageError, match="card of the classifier 'mine' holds no confusion matrix"):
        confusion_of_card("mine", ["a", "b"], evaluations[2:])
    with pytest.raises(UsageError, match="expected counts of 3 by 3"):
        confusion_of_card("mine", ["a", "b", "c"], evaluations)


def test_every_type_must_be_known_and_validated(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("true,blast,lymphocyte\nblast,0,0\nlymphocyte,1,9\n", "utf-8")
    found = read_confusion(path)
    with pytest.raises(
        UsageError, match="'blasts' that the classifier gives; did you mean 'blast'"
    ):
        check_confusion(found, ["blasts"])
    with pytest.raises(UsageError, match="has no cell of blast"):
        check_confusion(found, ["lymphocyte", "blast"])
    assert np.array_equal(found.cells, [[0, 0], [1, 9]])
