"""Slides and specimens read out of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.core.records import ImageRef
from cellcount.errors import UsageError
from cellcount.images.slide_names import with_slides

REFS = [
    ImageRef(Path(name), name, "folder", "from manifest")
    for name in ("P1/A7_001.png", "P1/A7_002.png", "P2/B3_001.png")
]


def test_the_first_group_is_the_slide() -> None:
    found = with_slides(REFS, r"([A-Z]\d)_")
    assert [ref.slide for ref in found] == ["A7", "A7", "B3"]
    assert {ref.specimen for ref in found} == {"from manifest"}


def test_groups_by_name() -> None:
    found = with_slides(REFS, r"^(?P<specimen>\w+)/(?P<slide>\w+)_\d")
    assert [(r.specimen, r.slide) for r in found] == [("P1", "A7"), ("P1", "A7"), ("P2", "B3")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        ("A7", "does not say which part is the slide"),
        ("(?P<specimen>P1)", "does not say which part is the slide"),
        (r"(A7)_", r"finds no slide in P2/B3_001.png; every image must match"),
        (r"(Z)?", "finds no slide in P1/A7_001.png, P1/A7_002.png, P2/B3_001.png; every"),
    ],
)
def test_what_finds_no_slide_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_slides(REFS, pattern)
