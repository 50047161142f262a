"""check_backbone finds each way to break the contract, and says it in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellcount.testing import check_backbone


class Sound(nn.Module):
    """Two levels at strides 8 and 16."""

    channels: Any = (4, 8)
    strides: Any = (8, 16)
    mean: Any = (0.5, 0.5, 0.5)
    std: Any = (0.25, 0.25, 0.25)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 8, stride=8)
        self.second = nn.Conv2d(4, 8, 2, stride=2)

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401 -- broken ones return anything
        fine = self.first(images)
        return [fine, self.second(fine)]


class Rounding(Sound):
    """Right for even multiples of 32 only."""

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        fine, coarse = super().forward(images)
        return [fine, coarse[..., : coarse.shape[-2] // 4 * 4, :]]


class OneTensor(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return super().forward(images)[0]


class Dropping(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return [nn.functional.dropout(level, 0.5) for level in super().forward(images)]


class BatchMates(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return super().forward(images - images.mean())


class Detached(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        fine = self.first(images)
        return [fine, self.second(fine.detach()).detach() + fine.mean()]


class NotFinite(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return [level * math.inf for level in super().forward(images)]


class Crashing(Sound):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        raise RuntimeError("out of luck")


def with_attribute(name: str, value: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = Sound()
        setattr(module, name, value)
        return module

    return build


def test_a_sound_backbone_has_no_problems_and_is_left_as_it_was() -> None:
    module = Sound()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert check_backbone(module) == []
    assert module.training
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (Rounding, "an input of 32x32 gives [(2, 4, 4, 4), (2, 8, 0, 2)]"),
        (OneTensor, "forward returns a Tensor, expected a list of tensors"),
        (Dropping, "two calls in eval mode differ"),
        (BatchMates, "depend on the other images of its batch"),
        (Detached, "parameter second.weight gets no gradient"),
        (NotFinite, "values that are not finite"),
        (Crashing, "checking its shapes gave RuntimeError: out of luck"),
        (lambda: 7, "it is a int, expected a torch.nn.Module"),
        (with_attribute("channels", [4, 8]), "channels is [4, 8], expected a tuple of positive"),
        (with_attribute("strides", (8, 12)), "strides is (8, 12), expected a tuple of ascending"),
        (with_attribute("strides", (16, 8)), "strides is (16, 8)"),
        (with_attribute("strides", (8,)), "strides is (8,), expected a tuple of ascending"),
        (with_attribute("mean", (124, 116, 104)), "mean is (124, 116, 104), expected three"),
        (with_attribute("std", (0, 1, 1)), "std is (0, 1, 1), expected three numbers above 0"),
        (with_attribute("std", None), "std is None"),
    ],
)
def test_each_break_is_said(build: Callable[[], Any], expected: str) -> None:
    assert any(expected in problem for problem in check_backbone(build()))


def test_names_go_through_the_doors(tmp_path: Path) -> None:
    assert check_backbone("timm/test_resnet") == []
    (problem,) = check_backbone("nowhere")
    assert "no backbone 'nowhere'" in problem
    (tmp_path / "bad.py").write_text("def build_backbone(**options): raise ValueError('width')\n")
    assert check_backbone("bad", plugins=tmp_path) == ["building it gave ValueError: width"]


def test_state_that_no_weight_file_would_hold_is_found(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Forgetful(nn.Module):\n"
        "    channels, strides = (4,), (8,)\n"
        "    mean = std = (0.5, 0.5, 0.5)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 8, stride=8)\n"
        "        self.scale = torch.rand(1)\n"
        "    def forward(self, images):\n"
        "        return [self.conv(images) * self.scale]\n"
        "build_backbone = Forgetful\n"
    )
    (problem,) = check_backbone("forgetful", plugins=tmp_path)
    assert "built again and loaded with its own state_dict it gives other features" in problem
