"""``tools.single_cells``: pictures are drawn by class and split, and by nothing but the seed."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from tools.single_cells import drawn

WANTED = {("lab", "blast"): 10, ("lab", "monocyte"): 4, ("other", "blast"): 2}
SHARES = {"train": 0.5, "val": 0.1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for source in ("lab", "other"):
        (tmp_path / source).mkdir()
        with (tmp_path / source / "splits.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "split", "class"])
            for kind in ("monocyte", "blast", "basophil"):
                for number in range(12):
                    split = ("train", "val", "test")[number % 3]
                    writer.writerow([f"{kind}/{number:02}.png", split, kind])
    return tmp_path


def test_each_class_and_split_gives_its_share_and_at_least_one(data: Path) -> None:
    found = list(drawn(data, WANTED, SHARES, 3))
    assert Counter((one.source, one.kind, one.split) for one in found) == {
        ("lab", "blast", "train"): 4,  # there are no more
        ("lab", "blast", "val"): 1,
        ("lab", "monocyte", "train"): 2,
        ("lab", "monocyte", "val"): 1,
        ("other", "blast", "train"): 1,
        ("other", "blast", "val"): 1,
    }
    assert all(one.path == data / one.source / one.file for one in found)
    assert [one.number for one in found[:4]] == [0, 1, 2, 3]
    text = (data / "lab/splits.csv").read_text("utf-8")
    rows = {row["file"]: row for row in csv.DictReader(text.splitlines())}
    assert all((rows[o.file]["class"], rows[o.file]["split"]) == (o.kind, o.split) for o in found)


def test_a_smaller_share_is_the_start_of_a_larger_one_and_the_seed_decides(data: Path) -> None:
    half = [one.file for one in drawn(data, {("lab", "blast"): 4}, {"train": 0.5}, 3)]
    whole = [one.file for one in drawn(data, {("lab", "blast"): 4}, {"train": 1.0}, 3)]
    assert half == whole[:2]
    orders = {
        tuple(o.file for o in drawn(data, {("lab", "blast"): 4}, {"train": 1.0}, seed))
        for seed in range(5)
    }
    assert len(orders) > 1
