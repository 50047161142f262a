"""The parts of ``tools.types`` that need no data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cellcount.models.taxonomy import load_taxonomy, mapping
from tools.types.augment import augmented
from tools.types.cells import COARSE, TYPES, Cell, allowed, coarse
from tools.types.evaluate import GROUPS, Share, accepted, accepted_groups, probs
from tools.types.make import read_runs, settings
from tools.types.negatives import STAINS, stained
from tools.types.train import learned_rows, set_loss, shares


def cell(laboratory: str, label: str, split: str = "train") -> Cell:
    return Cell(Path("a.png"), laboratory, label, split, 70.0)


def test_the_types_are_those_of_the_taxonomy_in_its_order() -> None:
    assert load_taxonomy("cells-14").ids == TYPES


def test_coarse_labels_pool_as_the_mapping_to_blood_groups_does() -> None:
    target_of = mapping("cells-14:pbc-8").target_of
    for name, fine in COARSE.items():
        assert all(target_of[t] == name for t in fine)
        assert allowed(name) == fine
        assert all(coarse(t) == name for t in fine)
    assert allowed("blast") == ("blast",)


def test_a_coarse_label_is_met_by_the_sum_of_its_types() -> None:
    scores = torch.zeros(1, len(TYPES))
    targets = torch.zeros(1, len(TYPES), dtype=torch.bool)
    targets[0, :2] = True
    assert float(set_loss(scores, targets, 0.0)) == pytest.approx(math.log(len(TYPES) / 2))
    scores[0, 0] = 50.0
    assert float(set_loss(scores, targets, 0.0)) == pytest.approx(0.0, abs=1e-5)


def test_laboratories_left_out_and_other_splits_are_not_learned() -> None:
    cells = [cell("pbc", "blast"), cell("mll", "blast"), cell("pbc", "blast", "val")]
    assert learned_rows(cells, ["mll"], untyped=False) == [0]


def test_shares_are_square_roots_of_the_numbers() -> None:
    cells = [cell("pbc", "lymphocyte")] * 16 + [cell("mll", "lymphocyte")] * 4
    cells += [cell("pbc", "not_a_white_cell")] * 7
    how = read_runs(settings())["final"].training
    found = shares(cells, range(len(cells)), how)
    assert found.sum() == pytest.approx(1)
    assert found[20:].sum() == pytest.approx(how.negative_share)
    assert found[:16].sum() / found[16:20].sum() == pytest.approx(2)


def test_windows_are_changed_alike_from_the_same_generator() -> None:
    look = read_runs(settings())["final"].augment
    canvases = np.random.default_rng(0).integers(0, 255, (3, 61, 61, 3), np.uint8)
    rims = np.tile(np.array([0.1, 0.0, 1.0, 0.9], np.float32), (3, 1))
    first, second = (
        augmented(canvases, rims, 32, look, np.random.default_rng(5)) for _ in range(2)
    )
    assert first.shape == (3, 3, 32, 32)
    assert torch.equal(first, second)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_strange_stains_leave_empty_glass_white() -> None:
    glass = np.full((4, 4, 3), 235, np.uint8)
    for name in STAINS:
        assert np.abs(stained(glass, name).astype(int) - 235).max() <= 1


def test_groups_pool_probabilities_before_the_threshold() -> None:
    logits = np.zeros((1, len(TYPES)), np.float32)
    logits[0, :2] = 10
    cells = [cell("raabin", "neutrophil")]
    chances = probs(logits)
    assert accepted(chances, cells, 0.9)[0] == Share(0, 1)
    assert accepted_groups(chances, cells, 0.9) == (Share(1, 1), Share(1, 1))
    assert GROUPS[0] == "neutrophil"


def test_limits_of_a_share() -> None:
    low, high = Share(0, 1000).limits()
    assert low == pytest.approx(0)
    assert high == pytest.approx(0.0038, abs=1e-4)
