"""The names that a reviewer may give: types, rows of the profile, and what they mean."""

from __future__ import annotations

import unicodedata

import pytest

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.core.records import CellClass
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import load_profile

TYPES = (
    CellClass("lymphocyte", "lymphocyte", "lymphocytes", "LYM"),
    CellClass("ig", "immature granulocyte", "immature granulocytes", "IG"),
    CellClass("neu_a", "neutrophil A", "neutrophils A"),
    CellClass("neu_b", "neutrophil B", "neutrophils B"),
)
ROWS = (
    TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
    TypeRows("ig", "immature granulocytes", ("metamyelocytes", "myelocytes")),
    TypeRows("neu_a", "neutrophils A", ("segmented_neutrophils",)),
    TypeRows("neu_b", "neutrophils B", ("segmented_neutrophils",)),
)


@pytest.fixture
def words() -> Vocabulary:
    return Vocabulary(TYPES, ROWS, load_profile("peripheral-blood"))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("lymphocyte", "lymphocyte"),
        (" LYM ", "lymphocyte"),
        ("Lymphocytes", "lymphocyte"),  # the row that this type alone fills
        ("immature  granulocyte", "ig"),
        ("Immature-Granulocytes", "ig"),
        ("myelocytes", "myelocytes"),  # pooled by ig: the reviewer knows better
        ("segmented neutrophils", "segmented_neutrophils"),  # of two types: neither
        ("blasts", "blasts"),
        ("smudge_cells", "smudge_cells"),
        ("unclassified", "unclassified"),
        ("?", "unclassified"),
    ],
)
def test_names(words: Vocabulary, text: str, meaning: str) -> None:
    assert words.id_of(text) == meaning


@pytest.mark.parametrize("text", ["cd4+", "CD4- ", "cd4", "M\u00e9+", "Me\u0301-"])
def test_types_that_differ_in_a_sign_alone_are_told_apart(text: str) -> None:
    ids = ("cd4+", "cd4-", "cd4", "m\u00e9+", "m\u00e9-")
    types = tuple(CellClass(i, i, i) for i in ids)
    assessable = tuple(TypeRows(i, i) for i in ids)
    words = Vocabulary(types, assessable, load_profile("peripheral-blood"))
    assert words.id_of(text) == unicodedata.normalize("NFC", text.strip().lower())


def test_an_unknown_name_is_answered_with_the_nearest(words: Vocabulary) -> None:
    with pytest.raises(ValueError, match="'blastz' is no type; .*known: lymphocyte, ig"):
        words.id_of("blastz")
    with pytest.raises(ValueError, match="did you mean 'lymphocyte"):
        words.id_of("lymfocyte")
