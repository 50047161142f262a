"""The three blood classes are known in one place, and every spelling leads to one of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cellcount.core.blood import BLOOD, BLOOD_CLASSES, BLOOD_SYNONYMS, is_white
from cellcount.training.detector.data import cell_classes

PACKAGE = Path(__file__).resolve().parents[3] / "cellcount"


def test_every_spelling_leads_to_one_class() -> None:
    spellings = [spelling for one in BLOOD.values() for spelling in one.spellings]
    assert len(spellings) == len(set(spellings)) == len(BLOOD_SYNONYMS)
    assert [BLOOD_SYNONYMS[name] for name in ("erythrocyte", "monocyte", "plt")] == [*BLOOD_CLASSES]


@pytest.mark.parametrize(
    ("class_id", "white"), [("rbc", False), ("platelet", False), ("wbc", True), ("nc", True)]
)
def test_a_class_is_white_unless_it_is_red_or_a_platelet(class_id: str, white: bool) -> None:
    assert is_white(class_id) is white


def test_blood_classes_have_names_in_words_and_others_their_own() -> None:
    white, parasite = cell_classes(["wbc", "parasite"])
    assert (white.name, white.plural) == ("white or nucleated cell", "white or nucleated cells")
    assert (parasite.name, parasite.plural) == ("parasite", "parasite cells")


def test_no_other_module_lists_the_three_classes() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "blood.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            parts = [*getattr(node, "elts", []), *(getattr(node, "keys", None) or [])]
            texts = {part.value for part in parts if isinstance(part, ast.Constant)}
            assert not texts >= {*BLOOD_CLASSES}, f"{path}:{getattr(node, 'lineno', '')}"
