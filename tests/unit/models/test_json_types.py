"""Types of plain values against the annotations of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from cellcount.models.json_types import describe, fits, misfits


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (float("inf"), float, False),
        (False, bool, True),
        ("a", str, True),
        (None, float | None, True),
        ("a", float | None, False),
        ("sgd", Literal["sgd", "adamw"], True),
        ("adam", Literal["sgd", "adamw"], False),
        ((1, 2), tuple[int, ...], True),
        ((), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ((1, 2), tuple[float, float, float], False),
        ([1, 2], tuple[int, ...], False),
        (((1.0,), (2, 3)), tuple[tuple[float, ...], ...], True),
        ({"a": 1}, dict[str, float], True),
        ({"a": "1"}, dict[str, float], False),
        ({1: 1}, dict[str, Any], False),
    ],
)
def test_fits(value: object, hint: object, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_a_misfit_is_named_with_what_was_expected() -> None:
    @dataclass
    class Point:
        x: int
        kind: str

    assert misfits(Point, {"x": 1, "kind": "a"}) == []
    assert misfits(Point, {"x": "1"}) == ["x is '1', expected whole number"]


def test_types_in_words() -> None:
    assert describe(tuple[float, float, float]) == "a list of 3 x number"
    assert describe(float | None) == "number or none"
    assert describe(dict[str, int]) == "an object of whole number"
    assert describe(Literal["a", "b"]) == "'a' or 'b'"
