"""The box loss against generalised IoU computed by hand."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from cellcount.engines.region_losses import BOX_WEIGHT, _box_loss
from cellcount.engines.torchvision import FasterRCNN


def test_the_box_loss_is_the_mean_of_one_minus_giou(model: FasterRCNN) -> None:
    heads = cast(Any, model.roi_heads)
    regions = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]])
    truth = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 1.0, 1.0]])
    label = torch.tensor([2, 0])  # the second region is background
    wanted = [heads.box_coder.encode_single(truth, regions)]
    deltas = torch.zeros(2, 16)  # every class predicts the region itself
    # Overlap 50 of union 150, hull 15x10 without gap: GIoU = 1/3.
    loss = float(_box_loss(heads, deltas, label, wanted, [regions]))
    assert loss == pytest.approx((1 - 1 / 3) / 2, abs=1e-4)
    deltas[0, 8:12] = wanted[0][0]  # the right answer, at its own class
    assert float(_box_loss(heads, deltas, label, wanted, [regions])) == pytest.approx(0, abs=1e-4)
    assert BOX_WEIGHT > 0


def test_no_foreground_costs_nothing_but_keeps_the_gradient(model: FasterRCNN) -> None:
    heads = cast(Any, model.roi_heads)
    deltas = torch.zeros(1, 16, requires_grad=True)
    loss = _box_loss(
        heads, deltas, torch.tensor([0]), [torch.zeros(1, 4)], [torch.tensor([[0.0, 0, 9, 9]])]
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert deltas.grad is not None
