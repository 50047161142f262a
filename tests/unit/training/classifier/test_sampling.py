"""Every epoch shows the types as often as its rule says, and the same on every machine."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data import Dataset

from cellcount.errors import UsageError
from cellcount.training.classifier.sampling import (
    Balance,
    Draw,
    ImbalancedSampler,
    class_weights,
    resample,
)

LINEAGE = {"EBO": "ery", "PEB": "ery", "MON": "mono", "LYT": "lym", "PLM": "lym", "HAC": "lym"}
SOURCES = ["EBO"] * 40 + ["PEB"] * 3 + ["MON"] * 12 + ["LYT"] * 30 + ["PLM"] * 2 + ["HAC"] * 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Balance("none")),
        ("class-weights", Balance("class-weights")),
        (" imbalanced-sampler ", Balance("imbalanced-sampler")),
        ("resample:5000", Balance("resample", 5000)),
    ],
)
def test_balance_is_read_and_written(text: str, expected: Balance) -> None:
    assert Balance.parse(text) == expected
    assert str(expected) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "resample", "resample:", "resample:0", "resample:-1", "resample:²", "none:3", "x"]
)
def test_what_is_no_balance_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="expected imbalanced-sampler, resample:N with"):
        Balance.parse(text)


def test_the_imbalanced_sampler_makes_types_equally_likely() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    sampler = ImbalancedSampler(labels, seed=0, num_samples=9000)
    drawn = Counter(labels[i] for i in sampler)
    assert len(sampler) == sum(drawn.values()) == 9000
    # Binomial with 1/3: standard deviation 45, so 4.5 of them.
    assert all(abs(drawn[k] - 3000) < 200 for k in range(3))


def test_the_imbalanced_sampler_draws_by_seed_and_epoch_and_leaves_the_global_state() -> None:
    labels = [0] * 50 + [1] * 5
    sampler = ImbalancedSampler(labels, seed=7)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(sampler)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert list(sampler) == first
    assert list(ImbalancedSampler(labels, seed=7)) == first
    assert list(ImbalancedSampler(labels, seed=8)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first
    with pytest.raises(UsageError, match="no cells to sample from"):
        ImbalancedSampler([], seed=0)


def test_resample_gives_each_target_n_in_equal_parts_from_its_sources() -> None:
    draws = resample(SOURCES, LINEAGE, 20, seed=0)
    by_source = Counter(SOURCES[d.index] for d in draws)
    # 20 = 10 + 10; 20; 7 + 7 + 6
    assert by_source == {"EBO": 10, "PEB": 10, "MON": 20, "LYT": 7, "PLM": 7, "HAC": 6}


def test_the_paper_s_table_1_is_met() -> None:
    """Lymphopoiesis has four types, so each gives 1,250 of the 5,000."""
    target_of = {"LYT": "lym", "PLM": "lym", "HAC": "lym", "LYI": "lym", "MON": "mono"}
    sizes = {"LYT": 16794, "PLM": 4882, "HAC": 261, "LYI": 41, "MON": 2585}
    sources = [source for source, size in sizes.items() for _ in range(size)]
    draws = resample(sources, target_of, 5000, seed=0)
    shown = Counter(sources[d.index] for d in draws)
    assert shown == {"LYT": 1250, "PLM": 1250, "HAC": 1250, "LYI": 1250, "MON": 5000}
    repeats = Counter(sources[d.index] for d in draws if d.copy)
    assert repeats == {"HAC": 989, "LYI": 1209, "MON": 2415}  # the column "to up sample"


def test_repeats_are_numbered_and_spread_evenly() -> None:
    draws = [d for d in resample(SOURCES, LINEAGE, 20, seed=3) if SOURCES[d.index] == "PEB"]
    copies = Counter(d.index for d in draws)
    assert sorted(copies.values()) == [3, 3, 4]
    for index, times in copies.items():
        assert sorted(d.copy for d in draws if d.index == index) == list(range(times))
    thinned = [d for d in resample(SOURCES, LINEAGE, 20, seed=3) if SOURCES[d.index] == "EBO"]
    assert len({d.index for d in thinned}) == 10
    assert all(d.copy == 0 for d in thinned)


def test_resampling_depends_on_seed_and_epoch_alone() -> None:
    first = resample(SOURCES, LINEAGE, 20, seed=0, epoch=4)
    assert resample(SOURCES, LINEAGE, 20, seed=0, epoch=4) == first
    assert resample(SOURCES, LINEAGE, 20, seed=0, epoch=5) != first
    assert resample(SOURCES, LINEAGE, 20, seed=1, epoch=4) != first


def test_resampling_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"types \['ART'\] have no target type; map them"):
        resample(["ART", "EBO"], LINEAGE, 5, seed=0)
    with pytest.raises(UsageError, match="resample:2 is too few for lym, which is made from 3 "):
        resample(SOURCES, LINEAGE, 2, seed=0)


class LabelledCells(Dataset[tuple[int, int]]):
    """A data set that takes draws."""

    def __getitem__(self, draw: Draw) -> tuple[int, int]:
        return draw.index, draw.copy


def test_class_weights_are_scikit_learn_s_brought_to_mean_one() -> None:
    labels = [0] * 100 + [1] * 10 + [2] * 40
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    weights = class_weights(labels, 3)
    assert weights.dtype == torch.float32
    assert float(weights.mean()) == pytest.approx(1)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_a_type_without_cells_weighs_nothing() -> None:
    assert class_weights([0, 0, 2], 4).tolist() == pytest.approx([2 / 3, 0, 4 / 3, 0])
    with pytest.raises(UsageError, match="labels must be 0 to 1 and not empty"):
        class_weights([], 2)
    with pytest.raises(UsageError, match="labels must be 0 to 1"):
        class_weights([0, 5], 2)
