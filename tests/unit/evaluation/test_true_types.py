"""Labels become the types that a classifier reports; what does not is counted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import CellClass
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.errors import AnnotationError, UsageError
from cellcount.evaluation.true_types import true_types
from cellcount.models.classifier_card import ClassifierCard, types_of
from cellcount.models.taxonomy import load_taxonomy


def card_of(taxonomy: str, *ids: str) -> ClassifierCard:
    known = {t.id: t for t in types_of(load_taxonomy(taxonomy))}
    types = tuple(known[i] for i in ids or known)
    return ClassifierCard("c", "1", types=types, taxonomy=taxonomy, license="MIT")


def crops_of(*labels: str) -> CropSet:
    items = tuple(LabelledCrop(Path(f"{n:03d}.png"), label) for n, label in enumerate(labels))
    return CropSet(items, tuple(dict.fromkeys(labels)))


def told(truth_labels: tuple[int, ...], ids: tuple[str, ...]) -> list[str]:
    return [ids[label] for label in truth_labels]


def test_names_codes_and_synonyms_are_types() -> None:
    card = card_of("mll-21", "eosinophil", "blast", "segmented_neutrophil")
    truth = true_types(crops_of("BLA", "Eosinophil", "NGS", "MON", "MON", "dust"), card, None)
    assert told(truth.labels, truth.ids) == ["blast", "eosinophil", "segmented_neutrophil"]
    assert truth.left_out == Counter({"MON": 2, "dust": 1})
    assert [item.label for item in truth.items] == ["BLA", "Eosinophil", "NGS"]


def test_neighbours_are_those_of_the_reported_types() -> None:
    ids = ("promyelocyte", "myelocyte", "metamyelocyte", "lymphocyte")
    truth = true_types(crops_of("promyelocyte"), card_of("pbc-13", *ids), None)
    assert truth.neighbours == ((1,), (0, 2), (1,), ())


def test_a_mapping_from_the_classifiers_types() -> None:
    card = card_of("pbc-13")
    truth = true_types(crops_of("BNE", "SNE", "neutrophil", "MMY", "ig"), card, "pbc-13:pbc-8")
    expected = ["neutrophil", "neutrophil", "neutrophil", "ig", "ig"]
    assert told(truth.labels, truth.ids) == expected
    row = [t.id for t in card.types].index("band_neutrophil")
    assert truth.reported.sums[row].tolist() == [float(i == "neutrophil") for i in truth.ids]


def test_coarse_labels_are_measured_as_the_sum_of_their_types() -> None:
    card = card_of("cells-14")
    crops = crops_of("neutrophil", "BNE", "SNE", "ig", "MMY", "EO", "granulopoiesis", "others")
    truth = true_types(crops, card, None)
    expected = ["neutrophil", "neutrophil", "neutrophil", "ig", "ig", "eosinophil"]
    assert told(truth.labels, truth.ids) == expected
    assert truth.left_out == Counter({"granulopoiesis": 1, "others": 1})
    assert truth.merged == {
        "neutrophil": ("segmented_neutrophil", "band_neutrophil"),
        "ig": ("metamyelocyte", "myelocyte", "promyelocyte"),
    }
    assert len(truth.ids) == len(card.types) - 3
    probs = np.zeros((1, len(card.types)), np.float32)
    probs[0, :2] = 0.5, 0.25
    assert truth.reported.apply(probs)[0, truth.ids.index("neutrophil")] == 0.75
    near = truth.neighbours[truth.ids.index("ig")]
    assert sorted(truth.ids[i] for i in near) == ["blast", "neutrophil"]


def test_labels_that_tell_types_apart_merge_none() -> None:
    truth = true_types(crops_of("SNE", "BNE"), card_of("cells-14"), None)
    assert truth.merged == {}
    assert told(truth.labels, truth.ids) == ["segmented_neutrophil", "band_neutrophil"]


def test_a_group_is_a_coarse_label_too() -> None:
    truth = true_types(crops_of("Immature granulocytes", "MYB"), card_of("mll-21"), None)
    assert told(truth.labels, truth.ids) == ["immature_granulocytes"] * 2


def test_dropped_cells_are_left_out_and_said() -> None:
    truth = true_types(crops_of("monocyte", "platelet"), card_of("pbc-8"), "pbc-8:wbc-5")
    assert told(truth.labels, truth.ids) == ["monocyte"]
    assert truth.left_out == Counter({"platelet": 1})
    assert truth.reported.sums.sum() == 5


@pytest.mark.parametrize("map_name", ["mll-21:lineage-5", None])
def test_a_classifier_of_lineages_on_cells_with_types(map_name: str | None) -> None:
    """The mapping is named, or was that of its training."""
    card = card_of("lineage-5")
    if map_name is None:
        card = dataclasses.replace(card, training={"type_map": "mll-21:lineage-5"})
    truth = true_types(crops_of("EBO", "NGS", "LYT", "granulopoiesis"), card, map_name)
    assert told(truth.labels, truth.ids) == [
        "erythropoiesis", "granulopoiesis", "lymphopoiesis", "granulopoiesis",
    ]  # fmt: skip
    np.testing.assert_array_equal(truth.reported.sums, np.eye(5))


def test_types_without_a_taxonomy_go_by_their_names() -> None:
    types = (CellClass("a_b", "A b", "A bs"), CellClass("c", "C", "Cs", abbreviation="XC"))
    card = ClassifierCard("own", "1", types=types, taxonomy="own", license="MIT")
    truth = true_types(crops_of("a b", "A_B", "xc", "d"), card, None)
    assert truth.labels == (0, 0, 1)
    assert truth.neighbours == ()
    assert truth.left_out == Counter({"d": 1})


def test_what_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(AnnotationError, match=r"the labels dog are no types that .* may lead ther"):
        true_types(crops_of("dog"), card_of("pbc-8"), None)
    with pytest.raises(UsageError, match="starts from the types of zju-7"):
        true_types(crops_of("BLA"), card_of("mll-7"), "zju-7:lineage-5")
