"""The contract checks find each way to break a contract, and say it in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellcount.testing import check_backbone, check_classifier


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


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", "a training calls it with the keyword strides=(8, 16, 32)"),
        ("**options", "asked for strides (8, 16, 32), as a training asks, it states (8,)"),
    ],
)
def test_a_backbone_is_built_as_a_training_builds_it(
    tmp_path: Path, parameters: str, expected: str
) -> None:
    (tmp_path / "plain.py").write_text(
        "from torch import nn\n"
        "class Plain(nn.Module):\n"
        "    channels, strides = (4,), (8,)\n"
        "    mean = std = (0.5, 0.5, 0.5)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 8, stride=8)\n"
        "    def forward(self, images):\n"
        "        return [self.conv(images)]\n"
        f"def build_backbone({parameters}): return Plain()\n"
    )
    (problem,) = check_backbone("plain", plugins=tmp_path)
    assert expected in problem


def test_state_that_no_weight_file_would_hold_is_found(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Forgetful(nn.Module):\n"
        "    channels, strides = (4,), (8,)\n"
        "    mean = std = (0.5, 0.5, 0.5)\n"
        "    def __init__(self, **asked):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 8, stride=8)\n"
        "        self.scale = torch.rand(1)\n"
        "    def forward(self, images):\n"
        "        return [self.conv(images) * self.scale]\n"
        "build_backbone = Forgetful\n"
    )
    (problem,) = check_backbone("forgetful", plugins=tmp_path)
    assert "built again and loaded with its own state_dict it gives other values" in problem


class Typing(nn.Module):
    """The mean colour decides."""

    input_size: Any = (20, 24)
    mean: Any = (0.5, 0.5, 0.5)
    std: Any = (0.25, 0.25, 0.25)
    interpolation: Any = "bicubic"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401 -- broken ones return anything
        assert images.shape[2:] == (20, 24)
        return self.last(images.mean((2, 3)))


class NeverOne(Typing):
    """Softmax's habit of two outputs for a yes or no."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(max(num_classes, 2))


class Listing(Typing):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return [super().forward(images)]


class Infinite(Typing):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return super().forward(images) / 0


class Noisy(Typing):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return nn.functional.dropout(super().forward(images), 0.5)


class Comparing(Typing):
    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return super().forward(images - images.mean())


class Unused(Typing):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.spare = nn.Linear(2, 2)


class Forgetful(Typing):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.scale = torch.rand(1)

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401
        return super().forward(images) * self.scale


def classifier_with(name: str, value: object) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        module = Typing(num_classes)
        setattr(module, name, value)
        return module

    return build


def test_a_sound_classifier_has_no_problems() -> None:
    assert check_classifier(Typing) == []


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (NeverOne, "two cells give logits of (2, 2), expected (2, 1)"),
        (Listing, "forward returns a list, expected a tensor"),
        (Infinite, "values that are not finite"),
        (Noisy, "two calls in eval mode differ"),
        (Comparing, "depend on the other images of its batch"),
        (Unused, "parameter spare.weight gets no gradient"),
        (Forgetful, "loaded with its own state_dict it gives other values"),
        (lambda classes: classes, "it is a int, expected a torch.nn.Module"),
        (classifier_with("input_size", 224), "input_size is 224, expected (height, width)"),
        (classifier_with("input_size", (224.0, 224)), "input_size is (224.0, 224)"),
        (classifier_with("input_size", (24, 20)), "checking its shapes gave AssertionError"),
        (classifier_with("mean", (124, 116, 104)), "mean is (124, 116, 104), expected three"),
        (classifier_with("std", None), "std is None"),
        (classifier_with("interpolation", "lanczos"), "interpolation is 'lanczos', expected bil"),
    ],
)
def test_each_break_of_a_classifier_is_said(build: Callable[[int], Any], expected: str) -> None:
    assert any(expected in problem for problem in check_classifier(build))


def test_classifiers_go_through_the_doors(tmp_path: Path) -> None:
    assert check_classifier("timm/test_resnet", input_px=32) == []
    (problem,) = check_classifier("nowhere")
    assert "no classifier 'nowhere'" in problem
    (tmp_path / "bad.py").write_text("def build_classifier(num_classes): raise ValueError('no')\n")
    (problem,) = check_classifier("bad", plugins=tmp_path)
    assert "cannot be built: ValueError: no" in problem
