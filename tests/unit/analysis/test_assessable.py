"""Rows that a classifier can name, and the profile that models go with."""

from __future__ import annotations

import dataclasses

import pytest

from cellcount.analysis.counting_setup import (
    assessable_types,
    misfit,
    smear_of_detector,
    smears_of_classifier,
)
from cellcount.core.records import CellClass
from cellcount.differential.coverage import Coverage
from cellcount.differential.profile import load_profile
from cellcount.errors import WeightsError
from cellcount.models.classifier_card import ClassifierCard, types_of
from cellcount.models.detector_card import DetectorCard
from cellcount.models.taxonomy import load_taxonomy

BLOOD, MARROW = load_profile("peripheral-blood"), load_profile("bone-marrow")


def classifier(taxonomy: str, *kept: str) -> ClassifierCard:
    types = types_of(load_taxonomy(taxonomy))
    chosen = tuple(t for t in types if not kept or t.id in kept)
    return ClassifierCard("typing", "1", chosen, taxonomy, "MIT")


@pytest.fixture
def detector() -> DetectorCard:
    classes = (CellClass("rbc", "red cell", "red cells"), CellClass("wbc", "w", "white cells"))
    return DetectorCard("finding", "1", classes, 24.0, "MIT")


def test_rows_come_from_the_taxonomy() -> None:
    card = classifier("pbc-8")
    found = {t.id: t for t in assessable_types(card, card.types, BLOOD)}
    assert found["neutrophil"].rows == ("band_forms", "segmented_neutrophils")
    assert found["erythroblast"].rows == ("nucleated_red_cells",)
    assert "nearest thing to a blast" in found["ig"].note
    assert Coverage(BLOOD, list(found.values())).missing == ("blasts",)


@pytest.mark.parametrize("name", ["pbc-8", "pbc-13", "aml-lmu-15"])
def test_nucleated_red_cells_of_blood_are_the_erythroblasts_of_a_marrow(name: str) -> None:
    card = classifier(name)
    found = {t.id: t for t in assessable_types(card, card.types, MARROW)}
    assert found["erythroblast"].rows == ("erythroblasts",)
    coverage = Coverage(MARROW, list(found.values()))
    assert coverage.is_named("erythroblasts")
    assert "erythroblasts" not in coverage.missing
    assert all(coverage.types[i].id != "erythroblast" for i in coverage.elsewhere)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("mll-21", {"erythroblast", "proerythroblast"}),
        ("zju-7", {"erythrocyte"}),
        ("lineage-5", {"erythropoiesis"}),
    ],
)
def test_and_the_other_way_round(name: str, cells: set[str]) -> None:
    card = classifier(name)
    found = assessable_types(card, card.types, BLOOD)
    assert {t.id for t in found if t.rows == ("nucleated_red_cells",)} == cells
    both = dataclasses.replace(BLOOD, outside=(*BLOOD.outside, "erythroblasts"))
    own = assessable_types(card, card.types, both)
    assert {t.id for t in own if t.rows == ("erythroblasts",)} == cells, "its own row goes first"


def test_a_card_with_some_types_names_their_rows_only() -> None:
    card = classifier("pbc-8", "neutrophil", "lymphocyte")
    coverage = Coverage(BLOOD, assessable_types(card, card.types, BLOOD))
    assert coverage.missing == (
        *("monocytes", "eosinophils", "basophils", "metamyelocytes", "myelocytes"),
        *("promyelocytes", "blasts"),
    )


def test_a_mapping_teaches_a_classifier_nothing() -> None:
    """The target holds every stage of granulopoiesis; seven types do not know them all."""
    card = classifier("mll-7")
    targets = tuple(
        t for t in types_of(load_taxonomy("lineage-5")) if t.id in ("granulopoiesis", "others")
    )
    found = assessable_types(card, targets, MARROW, "mll-7:lineage-5")
    assert found[0].rows == ("blasts", "promyelocytes", "segmented_neutrophils", "eosinophils")
    assert "any lineage" in found[0].note
    assert found[1].rows == ()
    whole = classifier("mll-21")
    found = assessable_types(whole, targets, MARROW, "mll-21:lineage-5")
    assert found[0].rows == load_taxonomy("lineage-5").types[1].rows


def test_own_types_fill_no_row() -> None:
    types = (CellClass("x", "x", "xs"), CellClass("y", "y", "ys"))
    card = ClassifierCard("own", "1", types, "", "MIT")
    assert [t.rows for t in assessable_types(card, card.types, BLOOD)] == [(), ()]
    assert smears_of_classifier(card) == []


def test_kinds_of_smear(detector: DetectorCard) -> None:
    assert smear_of_detector(detector) == "peripheral-blood"
    nucleated = dataclasses.replace(detector, classes=(CellClass("nucleated", "n", "ns"),))
    assert smear_of_detector(nucleated) is None
    marrow = dataclasses.replace(detector, smear="bone-marrow")
    assert smear_of_detector(marrow) == "bone-marrow"
    assert misfit(MARROW, marrow, classifier("mll-21"), None) == ""
    assert "finds rbc, wbc of bone marrow" in misfit(BLOOD, marrow, None, None)
    with pytest.raises(WeightsError, match="smear is 'liver', expected one of"):
        dataclasses.replace(detector, smear="liver")
    assert smears_of_classifier(classifier("mll-7")) == ["bone-marrow"]
    assert smears_of_classifier(classifier("pbc-13"), "pbc-13:wbc-5") == ["peripheral-blood"]
    assert smears_of_classifier(classifier("cells-14")) == ["peripheral-blood", "bone-marrow"]
    assert misfit(BLOOD, detector, classifier("cells-14"), None) == ""
    assert misfit(MARROW, marrow, classifier("cells-14"), None) == ""
    assert misfit(BLOOD, detector, classifier("pbc-8"), None) == ""
    assert misfit(MARROW, nucleated, classifier("mll-21"), None) == ""
    text = misfit(MARROW, detector, None, None)
    assert text.startswith("the profile bone-marrow counts cells of bone marrow, but the detector")
    assert "rbc, wbc of peripheral blood" in text
    assert "names types of peripheral blood" in misfit(MARROW, nucleated, classifier("wbc-5"), None)
    assert "names types of bone marrow" in misfit(BLOOD, detector, classifier("mll-7"), None)
