"""Losses of attention refinement: an episode by hand, gradients, and that both objectives learn."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from cellcount.models.attention import AttentionRefinement, Refined
from cellcount.models.card import Refinement
from cellcount.models.refinement_losses import (
    ActorCritic,
    Policy,
    actor_critic_losses,
    discounted_returns,
    rewards_of,
    supervised_losses,
)

STRIDES = (8,)
TRUTH = torch.tensor([[20.0, 20, 44, 44]])


def refined_with(boxes: Tensor, logits: Tensor) -> Refined:
    steps, regions = boxes.shape[:2]
    return Refined(
        boxes,
        logits,
        torch.zeros(steps, regions, 1, 1),
        torch.zeros(regions, 1, 2),
        torch.zeros(steps, regions, 8),
        torch.zeros(steps, regions, 4),
    )


def test_returns_of_an_episode_by_hand() -> None:
    rewards = torch.tensor([[0.1, 0.0], [-0.2, 1.0], [1.5, 0.5]])
    returns = discounted_returns(rewards, 0.9)
    assert returns[:, 0].tolist() == pytest.approx([0.1 - 0.18 + 0.81 * 1.5, -0.2 + 1.35, 1.5])
    assert returns[:, 1].tolist() == pytest.approx([0.9 + 0.81 * 0.5, 1.45, 0.5])


def test_rewards_are_gains_in_iou_and_a_bonus_at_the_end() -> None:
    start = torch.tensor([[20.0, 20, 32, 44], [20, 20, 44, 44]])  # IoU 0.5 and 1
    boxes = torch.tensor(
        [[[20.0, 20, 38, 44], [20, 20, 38, 44]], [[20, 20, 44, 44], [20, 20, 32, 44]]]
    )
    logits = torch.tensor([[0.0, 2, 1], [0, 2, 1]])
    rewards = rewards_of(
        refined_with(boxes, logits), start, torch.tensor([1, 1]), TRUTH.repeat(2, 1), ActorCritic()
    )
    assert rewards[:, 0].tolist() == pytest.approx([0.25, 0.25 + 1])
    assert rewards[:, 1].tolist() == pytest.approx([-0.25, -0.25]), "no bonus below the IoU asked"
    wrong = rewards_of(
        refined_with(boxes, logits), start, torch.tensor([2, 2]), TRUTH.repeat(2, 1), ActorCritic()
    )
    assert wrong[1, 0] == pytest.approx(0.25), "no bonus for the wrong class"


def test_the_policy_is_a_gaussian() -> None:
    torch.manual_seed(0)
    policy = Policy(8)
    proposed = torch.zeros(1, 3, 4)
    move = policy.draw(proposed[0]).double()
    std = math.exp(-1)
    expected = sum(
        -0.5 * (float(move[1, i]) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
        for i in range(4)
    )
    assert float(policy.log_probs(proposed)[0, 1].detach()) == pytest.approx(expected, rel=1e-5)
    entropy = 4 * stats.norm(scale=std).entropy()
    assert float(policy.entropy().detach()) == pytest.approx(entropy, rel=1e-5)


def test_supervised_losses_by_hand() -> None:
    boxes = torch.stack([TRUTH.repeat(2, 1), torch.tensor([[20.0, 20, 44, 32], [0, 0, 9, 9]])])
    logits = torch.tensor([[0.0, math.log(3), 0.0], [math.log(2), 0, 0]])
    losses = supervised_losses(
        refined_with(boxes, logits), torch.tensor([1, 0]), TRUTH.repeat(2, 1), box_weight=6.0
    )
    # Foreground alone: GIoU 1 after the first step, 0.5 after the second; 2 steps, 2 regions.
    assert float(losses["loss_refined_box"].detach()) == pytest.approx(6 * 0.5 / 4, rel=1e-5)
    assert float(losses["loss_refined_class"].detach()) == pytest.approx(
        (math.log(5 / 3) + math.log(2)) / 2, rel=1e-5
    )


def scene() -> tuple[list[Tensor], Tensor]:
    """A map that shows a bright square, and regions that sit beside it."""
    generator = torch.Generator().manual_seed(1)  # not the one that draws the moves
    shown = torch.zeros(1, 4, 8, 8)
    shown[0, :, 2:6, 2:6] = 1.0
    offsets = torch.randn(24, 4, generator=generator) * 3
    return [shown], torch.cat([torch.zeros(24, 1), TRUTH + offsets], dim=1)


def module() -> AttentionRefinement:
    torch.manual_seed(0)
    settings = Refinement(steps=2, hidden=16, heads=4, grid=6, enlarge=1.6)
    return AttentionRefinement(settings, channels=4, region_dim=5, num_classes=2)


def run(net: AttentionRefinement, policy: Policy | None = None) -> tuple[Refined, Tensor, Tensor]:
    maps, rois = scene()
    count = len(rois)
    refined = net(
        net.tokens(maps, STRIDES, rois),
        rois[:, 1:],
        torch.full((count, 2), 64.0),
        torch.zeros(count, 5),
        torch.zeros(count, 3),
        policy.draw if policy else None,
    )
    return refined, rois[:, 1:], TRUTH.repeat(count, 1)


def mean_gain(net: AttentionRefinement) -> float:
    refined, start, truth = run(net)
    labels = torch.full((len(start),), 2)
    never = ActorCritic(bonus=0.0)
    return float(rewards_of(refined, start, labels, truth, never).sum(0).mean())


def test_supervision_learns_to_move_boxes_and_to_name_cells() -> None:
    net = module()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(120):
        refined, _, truth = run(net)
        labels = torch.full((len(truth),), 2)
        losses = supervised_losses(refined, labels, truth, box_weight=6.0)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert mean_gain(net) > 0.08
    assert (run(net)[0].logits.argmax(1) == 2).all()


def test_rewards_alone_improve_boxes_and_reach_the_critic() -> None:
    net, policy = module(), Policy(16)
    settings = ActorCritic(bonus=0.0)
    optimizer = torch.optim.Adam([*net.parameters(), *policy.parameters()], 0.01)
    before = mean_gain(net)
    torch.manual_seed(4)
    for _ in range(150):
        policy.drawn.clear()
        refined, start, truth = run(net, policy)
        labels = torch.full((len(truth),), 2)
        rewards = rewards_of(refined, start, labels, truth, settings)
        losses = actor_critic_losses(refined, policy, rewards, settings)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    critic = policy.critic.weight.grad
    assert critic is not None
    assert critic.abs().sum() > 0
    assert net.query.weight.grad is not None
    assert mean_gain(net) > before + 0.02
