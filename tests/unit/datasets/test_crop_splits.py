"""Splits of cells: stratified or by patient, deterministic, whatever the order of the files."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.crop_splits import (
    SPLIT_PRESETS,
    grouped_split,
    split_shares,
    stratified_split,
)
from cellcount.errors import AnnotationError, UsageError
from tests.counts import label_counts

PAPER = {"train": 0.64, "val": 0.16, "test": 0.20}


def cells(counts: dict[str, int], root: str = "data") -> CropSet:
    items = tuple(
        LabelledCrop(Path(root, label, f"{i:04}.jpg"), label)
        for label, count in counts.items()
        for i in range(count)
    )
    return CropSet(items, tuple(counts))


def table(crops: CropSet) -> dict[str, dict[str, int]]:
    """Label → split → cells."""
    counted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in crops.items:
        counted[item.label][item.split] += 1
    return {label: dict(splits) for label, splits in counted.items()}


def test_presets_read_as_papers_state_them() -> None:
    assert split_shares("64/16/20") == PAPER
    assert split_shares("90/10") == {"train": 0.9, "val": 0.1}
    assert all(sum(split_shares(p).values()) == pytest.approx(1) for p in SPLIT_PRESETS)


@pytest.mark.parametrize("text", ["", "90", "90/20", "a/b", "100/0", "25/25/25/25", "110/-10"])
def test_what_is_no_split(text: str) -> None:
    with pytest.raises(UsageError, match="not two or three percentages that add up to 100"):
        split_shares(text)


def test_every_class_has_the_same_shares() -> None:
    split = stratified_split(cells({"A": 350, "B": 50}), PAPER, seed=0)
    assert table(split) == {
        "A": {"train": 224, "val": 56, "test": 70},
        "B": {"train": 32, "val": 8, "test": 10},
    }


def test_sizes_agree_with_scikit_learn() -> None:
    counts = {"A": 41, "B": 77, "C": 130, "D": 11}
    crops = cells(counts)
    ours = table(stratified_split(crops, {"train": 0.9, "val": 0.1}, seed=1))
    labels = [item.label for item in crops.items]
    _, theirs = train_test_split(labels, test_size=0.1, stratify=labels, random_state=1)
    for label in counts:
        assert abs(ours[label]["val"] - Counter(theirs)[label]) <= 1
    assert abs(sum(ours[label]["val"] for label in counts) - len(theirs)) <= 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 1000))
def test_rounding_is_fair(sizes: list[int], seed: int) -> None:
    crops = cells({f"c{i}": n for i, n in enumerate(sizes)})
    counted = table(stratified_split(crops, PAPER, seed))
    for i, n in enumerate(sizes):
        splits = counted[f"c{i}"]
        assert sum(splits.values()) == n
        assert splits.get("train", 0) >= 1
        assert all(abs(splits.get(name, 0) - share * n) <= 1 for name, share in PAPER.items())


def test_the_split_depends_on_the_cells_and_the_seed_alone() -> None:
    crops = cells({"A": 40, "B": 30}, root="data")
    shuffled = [crops.items[i] for i in np.random.default_rng(0).permutation(len(crops))]
    moved = cells({"A": 40, "B": 30}, root="/elsewhere")
    by_name = [
        {item.path.parts[-2:]: item.split for item in stratified_split(c, PAPER, seed=3).items}
        for c in (crops, dataclasses.replace(crops, items=tuple(shuffled)), moved)
    ]
    assert by_name[0] == by_name[1] == by_name[2]
    other = stratified_split(crops, PAPER, seed=4)
    assert by_name[0] != {item.path.parts[-2:]: item.split for item in other.items}
    assert [item.path for item in other.items] == [item.path for item in crops.items]


def test_another_class_does_not_change_the_shuffle_of_this_one() -> None:
    few = stratified_split(cells({"A": 50}), PAPER, seed=0)
    more = stratified_split(cells({"A": 50, "B": 100}), PAPER, seed=0)
    assert [i.split for i in few.items] == [i.split for i in more.items if i.label == "A"]


def published(counts: dict[str, int]) -> CropSet:
    """Cells of which every fifth is in a published test split."""
    crops = cells(counts)
    items = tuple(
        dataclasses.replace(item, split="test" if n % 5 == 0 else "train")
        for n, item in enumerate(crops.items)
    )
    return dataclasses.replace(crops, items=items)


def test_a_published_test_split_stays() -> None:
    crops = published({"A": 100})
    split = stratified_split(crops, {"train": 0.9, "val": 0.1}, seed=0)
    assert split.splits() == {"train": 72, "val": 8, "test": 20}
    assert [i.path for i in split.subset("test").items] == [
        i.path for i in crops.subset("test").items
    ]


def test_a_part_of_one_split_is_set_apart() -> None:
    split = stratified_split(
        published({"A": 100}), {"train": 0.75, "tune": 0.25}, seed=0, within="train"
    )
    assert split.splits() == {"train": 60, "test": 20, "tune": 20}
    with pytest.raises(AnnotationError, match="no split 'val'"):
        stratified_split(split, {"a": 1.0}, seed=0, within="val")


@pytest.mark.parametrize("shares", [{}, {"train": 0.9}, {"train": 1.2, "val": -0.2}])
def test_shares_that_do_not_add_up(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected a sum of 1, each above 0"):
        stratified_split(cells({"A": 3}), shares, seed=0)


def patients(seed: int, number: int = 40) -> CropSet:
    """Patients with 1 to 30 cells each, some with one type only."""
    rng = np.random.default_rng(seed)
    items = []
    for p in range(number):
        types = rng.choice(["A", "B", "C"], rng.integers(1, 4), replace=False)
        for n in range(rng.integers(1, 31)):
            items.append(LabelledCrop(Path(f"{p}-{n}.jpg"), str(rng.choice(types)), "", f"p{p}"))
    return CropSet(tuple(items), ("A", "B", "C"))


def splits_of_patients(crops: CropSet) -> dict[str, set[str]]:
    found = defaultdict(set)
    for item in crops.items:
        found[item.patient].add(item.split)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_splits_and_shares_are_met(seed: int) -> None:
    crops = patients(seed)
    split = grouped_split(crops, PAPER, seed)
    assert all(len(splits) == 1 for splits in splits_of_patients(split).values())
    for name, share in PAPER.items():
        assert split.splits()[name] / len(crops) == pytest.approx(share, abs=0.03)
        for label, count in label_counts(crops).items():
            mine = label_counts(split.subset(name))[label]
            assert mine / count == pytest.approx(share, abs=0.08)


def test_grouping_depends_on_the_cells_and_the_seed_alone() -> None:
    crops = patients(0)
    turned = dataclasses.replace(crops, items=crops.items[::-1])
    one, other = (grouped_split(c, PAPER, seed=2) for c in (crops, turned))
    assert one.items == other.items[::-1]
    assert one.items != grouped_split(crops, PAPER, seed=3).items


def test_as_many_patients_as_splits_fill_each() -> None:
    items = tuple(
        LabelledCrop(Path(f"{p}{n}"), "A", "", p)
        for p, count in (("x", 50), ("y", 2), ("z", 1))
        for n in range(count)
    )
    split = grouped_split(CropSet(items, ("A",)), PAPER, seed=0)
    assert sorted(split.splits().values()) == [1, 2, 50]
    assert split.splits()["train"] == 50


def test_grouping_needs_patients() -> None:
    crops = patients(0, number=2)
    nameless = dataclasses.replace(crops.items[0], path=Path("zz"), patient="")
    with pytest.raises(AnnotationError, match=r"1 of \d+ cells name no patient, first zz; add a"):
        grouped_split(dataclasses.replace(crops, items=(*crops.items, nameless)), PAPER, seed=0)
    with pytest.raises(AnnotationError, match="there are 2 patients for 3 splits"):
        grouped_split(crops, PAPER, seed=0)


def test_a_patient_of_the_published_test_split_cannot_be_dealt_out() -> None:
    items = [LabelledCrop(Path(f"{n}"), "A", "", f"p{n % 4}") for n in range(12)]
    items[0] = dataclasses.replace(items[0], split="test")
    crops = CropSet(tuple(items), ("A",))
    with pytest.raises(AnnotationError, match="1 patients are also in a split that stays .* p0"):
        grouped_split(crops, {"train": 0.9, "val": 0.1}, seed=0)
