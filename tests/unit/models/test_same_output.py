"""Changes to a network are kept where its output stays, together or one by one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cellcount.models import same_output
from cellcount.models.folding import fold_in
from cellcount.models.fused_activation import FusedConvolution, can_fuse, fuse_in
from cellcount.models.same_output import with_changes

SIDES_PX = [(16, 16), (24, 16)]


class LooksAtItsNorm(nn.Module):
    """Needs its batch norm for something else than a call."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.norm(self.convolution(images)) + self.norm.eps
        return output


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    norm = parts[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.uniform_(norm.running_mean, 0.1, 1.0)  # type: ignore[arg-type]  # it has statistics
    return parts.eval()


def double_in(module: nn.Module) -> int:
    """Change the output."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    return 1


def kinds(module: nn.Module) -> list[type[nn.Module]]:
    return [type(part) for part in module.children()]


@pytest.mark.skipif(not can_fuse(), reason="this torch has no fused convolution")
def test_changes_that_fit_are_made_together_and_compared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[int, int]] = []
    compare = same_output.same_output

    def counted(before: nn.Module, after: nn.Module, side_px: tuple[int, int]) -> bool:
        compared.append(side_px)
        return compare(before, after, side_px)

    monkeypatch.setattr(same_output, "same_output", counted)
    after = with_changes(network(), [fold_in, fuse_in], SIDES_PX)
    assert kinds(after) == [FusedConvolution, nn.Identity, nn.ReLU, FusedConvolution]
    assert compared == SIDES_PX


def test_a_change_of_the_output_is_left_out_and_the_others_are_made() -> None:
    before = network()
    after = with_changes(before, [double_in, fold_in], SIDES_PX)
    assert kinds(after) == [nn.Conv2d, nn.Identity, nn.ReLU, nn.Conv2d]
    image: Tensor = torch.randn(1, 3, 16, 24)
    torch.testing.assert_close(after(image), before(image), rtol=1e-4, atol=1e-4)


def test_a_change_that_the_network_fails_with_is_left_out() -> None:
    before = LooksAtItsNorm().eval()
    assert with_changes(before, [fold_in], SIDES_PX) is before


def test_a_network_that_fails_by_itself_says_so() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        with_changes(
            nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)).eval(), [fold_in], [(8, 8)]
        )


def test_the_network_itself_is_returned_where_nothing_changes() -> None:
    before = network()
    weights = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    assert with_changes(before, [double_in], SIDES_PX) is before
    assert with_changes(before, [lambda _: 0, lambda _: 0], SIDES_PX) is before
    assert all(torch.equal(weights[name], own) for name, own in before.state_dict().items())


def test_an_output_that_differs_at_one_size_alone_is_a_change() -> None:
    def wide_alone(module: nn.Module, least_px: int) -> int:
        def twice(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return 2 * output if inputs[0].shape[2] >= least_px else output

        module.register_forward_hook(twice)
        return 1

    before = network()
    assert with_changes(before, [partial(wide_alone, least_px=24)], SIDES_PX) is before
    assert with_changes(before, [partial(wide_alone, least_px=32)], SIDES_PX) is not before
