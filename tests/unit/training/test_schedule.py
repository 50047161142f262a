"""Learning rates against torch's own schedulers, weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cellcount.training.detector.settings import DetectorTraining
from cellcount.training.optim import build_optimizer, rate_factor

STEPS = 200


def rates(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    """Rates that one of torch's schedulers makes of a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    seen = []
    for _ in range(STEPS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def ours(schedule: str, warmup: float, steps: int = STEPS) -> list[float]:
    return [rate_factor(schedule, warmup, step / steps) for step in range(STEPS)]


def test_cosine_is_torchs_to_one_percent() -> None:
    expected = rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.01))
    assert ours("cosine", 0.0) == pytest.approx(expected)


def test_onecycle_is_torchs_and_takes_no_warmup() -> None:
    # torch ends on its last step, we one step after it.
    expected = rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 1.0, STEPS, pct_start=(0.3 * (STEPS - 1) + 1) / STEPS, cycle_momentum=False
        )
    )
    assert ours("onecycle", 0.1, STEPS - 1) == pytest.approx(expected, abs=1e-6)


def test_step_is_torchs() -> None:
    milestones = [-(-STEPS * 2 // 3), -(-STEPS * 8 // 9)]
    expected = rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones))
    assert ours("step", 0.0) == pytest.approx(expected)


def test_warmup_rises_in_a_line_and_then_hands_over() -> None:
    seen = ours("cosine", 0.1)
    assert seen[0] == 1e-3
    assert seen[1:20] == pytest.approx([i / 20 for i in range(1, 20)])
    assert seen[20] == pytest.approx(1.0)
    assert max(seen) <= 1
    assert seen[20:] == sorted(seen[20:], reverse=True)


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].bias.requires_grad = False
    optimizer = build_optimizer(model, DetectorTraining(weight_decay=0.2, lr=0.5))
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert len(plain["params"]) == 2, "a frozen parameter is in no group"
    sgd = build_optimizer(model, DetectorTraining(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.8
