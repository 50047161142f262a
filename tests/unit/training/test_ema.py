"""The averaged model against a computation by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cellcount.training.optim import AveragedModel


def set_all(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def weight_of(model: nn.Module) -> torch.Tensor:
    value: torch.Tensor = model.state_dict()["weight"]
    return value.clone()


def test_the_average_follows_by_hand() -> None:
    model = nn.BatchNorm1d(2)
    set_all(model, 1.0)
    average = AveragedModel(model, 0.3)
    expected = 1.0
    for update, value in enumerate([2.0, 5.0, -1.0, 4.0, 3.0, 8.0], start=1):
        set_all(model, value)
        average.update(model)
        decay = min(0.3, (1 + update) / (10 + update))  # 2/11, 3/12, 4/13 and then 0.3
        expected = decay * expected + (1 - decay) * value
        state = average.shadow.state_dict()
        assert state["weight"].tolist() == pytest.approx([expected] * 2)
        assert state["running_var"].tolist() == pytest.approx([expected] * 2)
        assert state["num_batches_tracked"].item() == int(value)


def test_without_decay_the_average_is_the_model() -> None:
    model = nn.Linear(3, 2)
    average = AveragedModel(model, 0.0)
    set_all(model, 7.0)
    average.update(model)
    assert torch.equal(weight_of(average.shadow), weight_of(model))


def test_the_shadow_stands_apart() -> None:
    model = nn.Linear(3, 2)
    average = AveragedModel(model, 0.9)
    before = weight_of(average.shadow)
    set_all(model, 7.0)
    assert torch.equal(weight_of(average.shadow), before)
    assert not average.shadow.training
    assert not any(p.requires_grad for p in average.shadow.parameters())
    assert all(p.requires_grad for p in model.parameters())
