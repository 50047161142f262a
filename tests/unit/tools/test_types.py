"""The parts of ``tools.types`` that need no data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cellcount.models.taxonomy import load_taxonomy, mapping
from tools.types.augment import augmented
from tools.types.calibrate import LeftOut, calibrate, counted
from tools.types.cells import COARSE, TYPES, Cell, allowed, coarse
from tools.types.composed_slides import agreement, composed
from tools.types.evaluate import GROUPS, Share, accepted, false_alarms
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


def test_a_cell_is_accepted_from_the_probability_of_its_own_type_up() -> None:
    chances = np.zeros((2, len(TYPES)))
    chances[:, TYPES.index("blast")] = 0.7
    chances[:, TYPES.index("lymphocyte")] = 0.3
    cells = [cell("raabin", "lymphocyte"), cell("raabin", "blast")]
    least = np.full(len(TYPES), 0.5)
    assert accepted(chances, cells, least) == (Share(2, 2), Share(1, 2))
    assert false_alarms(chances, cells, least) == Share(1, 1)
    least[TYPES.index("blast")] = 0.9
    assert accepted(chances, cells, least) == (Share(0, 2), Share(0, 0))
    assert false_alarms(chances, cells, least) == Share(0, 1)


def test_composed_slides_are_counted_as_their_cells_are_called() -> None:
    names = ["neutrophil"] * 30 + ["lymphocyte"] * 20 + ["monocyte"] * 10
    truth = np.array([GROUPS.index(name) for name in names])
    every = np.ones(len(names), np.bool_)
    right = agreement(truth, truth, every, seed=0)
    assert right.types == ("neutrophil", "lymphocyte", "monocyte")
    assert (right.mean_error, right.accepted) == (0, 1)
    called = np.where(truth == GROUPS.index("monocyte"), GROUPS.index("lymphocyte"), truth)
    limits = agreement(truth, called, every, seed=0).limits()
    slides = composed(truth, seed=0)[1]
    monocytes = 100 * (truth[slides] == GROUPS.index("monocyte")).mean(1)
    assert limits["monocyte"][0] == pytest.approx(-monocytes.mean(), abs=0.01)
    assert limits["lymphocyte"][0] == pytest.approx(monocytes.mean(), abs=0.01)
    spread = 1.96 * monocytes.std(ddof=1)
    assert limits["lymphocyte"][2] == pytest.approx(monocytes.mean() + spread, abs=0.01)
    assert limits["neutrophil"] == [0, 0, 0]


def test_cells_that_are_not_sure_enough_or_no_white_cell_leave_the_denominator() -> None:
    truth = np.array([GROUPS.index("neutrophil")] * 8 + [GROUPS.index("lymphocyte")] * 8)
    called = truth.copy()
    called[:4] = GROUPS.index("platelet")
    counted = np.ones(16, np.bool_)
    counted[4:8] = False
    found = agreement(truth, called, counted, seed=1)
    lymphocytes = (truth[composed(truth, seed=1)[1]] == GROUPS.index("lymphocyte")).mean()
    assert found.accepted == pytest.approx(lymphocytes)
    assert found.limits()["lymphocyte"][0] == pytest.approx(100 * (1 - lymphocytes), abs=0.01)


def test_the_threshold_is_one_at_which_composed_slides_are_counted_rightly() -> None:
    rng = np.random.default_rng(3)
    parts = []
    for laboratory in ("raabin", "pbc"):
        labels = ["neutrophil"] * 80 + ["lymphocyte"] * 80 + ["monocyte"] * 80
        called = [*labels[:-20], *["eosinophil"] * 20]  # a quarter of the monocytes
        logits = rng.normal(0, 0.1, (240, len(TYPES))).astype(np.float32)
        for row, (name, sure) in enumerate(zip(called, [6.0] * 160 + [2.5] * 80, strict=True)):
            logits[row, TYPES.index(COARSE.get(name, (name,))[0])] += sure
        cells = tuple(cell(laboratory, name) for name in labels)
        parts.append(LeftOut(laboratory, cells, logits))
    found = calibrate(parts, rare_prior=0.3, seed=0)
    slides = found.figures["composed_slides"]
    least = min(errors["pbc"][0] for errors in slides.values())
    assert slides["0.9"]["pbc"][0] > 1.5 * least  # monocytes are unsure and leave the denominator
    assert counted(parts[0], found, 0).mean_error <= 1.1 * least
    assert found.threshold < 0.9
    # No cell is called one of these, so any threshold would do; none is below that of the others.
    assert found.threshold > 0.3
    assert {found.own_thresholds[t] for t in ("blast", "artefact")} == {found.threshold}


def test_limits_of_a_share() -> None:
    low, high = Share(0, 1000).limits()
    assert low == pytest.approx(0)
    assert high == pytest.approx(0.0038, abs=1e-4)


def test_every_packaged_network_is_calibrated_on_the_same_network_without_laboratories() -> None:
    told = settings()
    runs = read_runs(told)
    for name, own in told["package"].items():
        packaged = runs[name]
        left_out = [run for run in runs.values() if run.name.startswith(own["left_out"])]
        assert packaged.leave_out == ()
        assert left_out
        assert {run.training.backbone for run in left_out} == {packaged.training.backbone}
        assert all(run.leave_out == tuple(run.name.removeprefix(own["left_out"]).split("-"))
                   for run in left_out)  # fmt: skip


def test_networks_with_and_without_a_teacher_differ_in_nothing_else() -> None:
    runs = read_runs(settings())
    student, plain = (runs[f"{kind}-without-chula-raabin"] for kind in ("student", "plain"))
    assert student.teacher == "without-chula-raabin"
    assert plain.teacher == ""
    assert (student.training, student.augment) == (plain.training, plain.augment)
    assert student.training.backbone == "mobilevit_xxs"
