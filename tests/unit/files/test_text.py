"""Words for people: names on one line, durations, numbers."""

from __future__ import annotations

import pytest

from cellcount.files.text import duration, number_of, shown, speed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("é 血.png", "é 血.png"),
        ("a\nb\t.png", "a\\nb\\t.png"),
        ("\x1b[2J.png", "\\x1b[2J.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\udce9"),  # what the stream cannot hold, the stream escapes
    ],
)
def test_names_stay_on_their_line(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5000, "83 min"),
        (5400, "1 h 30 min"),
        (36_060, "10 h 01 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_numbers_have_their_plural() -> None:
    assert number_of(1, "image") == "1 image"
    assert number_of(2000, "image") == "2,000 images"
    assert number_of(0, "box", "boxes") == "0 boxes"


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [
        (0.0, "0.00 images/s"),
        (12.345, "12.35 images/s"),
        (0.1, "0.10 images/s"),
        (1 / 1560, "26 min an image"),
    ],
)
def test_speed_is_told_the_way_that_says_something(per_second: float, expected: str) -> None:
    assert speed(per_second) == expected
