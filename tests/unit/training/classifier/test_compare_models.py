"""The parts of a comparison: who learns from what, what is counted, who has which place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cellcount.commands.models_compare import comparison_rows, markdown
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.evaluation.classification import ClassificationReport, evaluate_classification
from cellcount.training.classifier.compare_models import (
    Compared,
    Cost,
    count_parameters,
    folder_name,
    thinned,
    training_seconds,
)
from tests.counts import label_counts


def crops() -> CropSet:
    items = [
        LabelledCrop(Path(f"{label}{split}{n}.png"), label, split)
        for label, count in (("A", 9), ("B", 2))
        for split in ("train", "val", "test")
        for n in range(count)
    ]
    return CropSet(tuple(items), ("A", "B"))


def test_thinning_touches_what_is_learned_from_alone() -> None:
    whole = crops()
    kept = thinned(whole, 4, seed=1)
    counted = Counter((i.label, i.split) for i in kept.items)
    assert counted == {
        ("A", "train"): 4, ("A", "val"): 9, ("A", "test"): 9,
        ("B", "train"): 2, ("B", "val"): 2, ("B", "test"): 2,
    }  # fmt: skip
    reversed_set = dataclasses.replace(whole, items=whole.items[::-1])
    assert set(thinned(reversed_set, 4, seed=1).items) == set(kept.items)
    assert set(thinned(whole, 4, seed=2).items) != set(kept.items)
    unsplit = CropSet(tuple(dataclasses.replace(i, split="") for i in whole.items), ("A", "B"))
    assert label_counts(thinned(unsplit, 3, seed=0)) == {"A": 3, "B": 3}


def test_parameters_as_torch_and_as_keras_count_them() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    learned = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 2 + 2
    assert count_parameters(module) == (learned, learned + 2 * 8)  # no batch counter


def test_training_time_is_that_of_the_epochs(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,seconds\n1,2.5\n2,3.0\n")
    assert training_seconds(tmp_path) is None  # not the folder of a run
    (tmp_path / "settings.json").write_text("{}")
    assert training_seconds(tmp_path) == 5.5
    (tmp_path / "lymphocyte").mkdir()
    (tmp_path / "lymphocyte" / "metrics.csv").write_text("epoch,seconds\n1,10\n")
    assert training_seconds(tmp_path) == 15.5
    assert training_seconds(tmp_path / "lymphocyte") is None


@pytest.mark.parametrize(
    ("name", "folder"),
    [("timm/mobilevit_s", "timm-mobilevit_s"), ("seed002-xception", "seed002-xception")],
)
def test_a_training_has_a_folder_of_its_own(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def report_of(right: int, cells: int) -> ClassificationReport:
    true = np.arange(cells) % 2
    given = np.where(np.arange(cells) < right, true, 1 - true)
    return evaluate_classification(true, np.eye(2)[given], ["a", "b"])


def test_places_are_among_equals() -> None:
    cost = Cost(1_500_000, 1_600_000, 2_340_000_000, (128, 96), 3.25, 4, "cpu")
    lines = [
        Compared("one", trained=True, report=report_of(6, 10), cost=cost, training_s=61.0),
        Compared("two", trained=False, report=report_of(9, 10), cost=cost, training_s=None),
        Compared("three", trained=True, report=report_of(6, 10), cost=cost, training_s=5.0),
        Compared("fewer", trained=False, report=report_of(4, 4), cost=cost, training_s=None),
        Compared("broken", trained=True, failure="no such thing"),
    ]
    rows = comparison_rows(lines)
    assert [row["place"] for row in rows] == [2, 1, 2, None, None]
    assert rows[0]["accuracy"] == pytest.approx(0.6)
    assert (rows[0]["flops"], rows[0]["input_width_px"]) == (2_340_000_000, 96)
    table = markdown(rows, ["a note"]).splitlines()
    assert table[0].startswith("| classifier | place | accuracy | 95 % limits | macro F1 | MCC |")
    assert table[2].startswith("| one | 2 | 0.600 | 0.313–0.832 | 0.600 | 0.200 |")
    assert table[2].endswith("| 1.500 | 1.600 | 2.34 | 61 s | 3.2 |")
    assert table[6] == "| broken |" + " – |" * 10
    assert table[-1] == "- a note"
    assert {line.count("|") for line in table[:7]} == {12}
