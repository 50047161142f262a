"""Losses of attention refinement: an episode by hand, gradients, and that both objectives learn."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from scipy import stats
from torch import Tensor

from cellcount.models.attention import AttentionRefinement, Refined
from cellcount.models.attention_losses import (
    ActorCritic,
    Episode,
    Policy,
    actor_critic_losses,
    class_loss_of_steps,
    discounted_returns,
    episode_of,
    supervised_losses,
)
from cellcount.models.detector_card import Refinement

STRIDES = (8,)
TRUTH = torch.tensor([[20.0, 20, 44, 44]])


def refined_with(boxes: Tensor, step_logits: Tensor) -> Refined:
    steps, regions = boxes.shape[:2]
    return Refined(
        boxes,
        step_logits[-1],
        step_logits,
        torch.zeros(steps, regions, 1, 1),
        torch.zeros(regions, 1, 2),
        torch.zeros(steps, regions, 8),
        torch.zeros(steps, regions, 4),
        torch.zeros(regions, 8),
    )


def test_returns_of_an_episode_by_hand() -> None:
    rewards = torch.tensor([[0.1, 0.0], [-0.2, 1.0], [1.5, 0.5]])
    returns = discounted_returns(rewards, 0.9, torch.tensor([0.0, 2.0]))
    assert returns[:, 0].tolist() == pytest.approx([0.1 - 0.18 + 0.81 * 1.5, -0.2 + 1.35, 1.5])
    # The second goes on after the last step, where the critic expects 2.
    last = 0.5 + 0.9 * 2
    assert returns[:, 1].tolist() == pytest.approx([0.9 + 0.81 * last, 1 + 0.9 * last, last])


HALF, THREE_QUARTERS, WHOLE = ([20.0, 20, x, 44] for x in (32, 38, 44))  # IoU with the truth


def episode(*boxes: list[float], says: tuple[int, int] = (1, 1), label: int = 1) -> Episode:
    """One region's start and its boxes after two steps, and the class it says after each."""
    start, *after = (torch.tensor([box]) for box in boxes)
    logits = torch.nn.functional.one_hot(torch.tensor(says), 3).float()[:, None]  # (T, R, K + 1)
    refined = refined_with(torch.stack(after), logits)
    return episode_of(refined, start, torch.tensor([label]), TRUTH, ActorCritic(close=0.7))


def test_rewards_are_gains_in_iou_and_a_bonus_where_class_and_box_are_right() -> None:
    right_at_last = episode(HALF, HALF, WHOLE)
    assert right_at_last.rewards[:, 0].tolist() == pytest.approx([0, 0.5 + 1])
    assert right_at_last.ended.tolist() == [True]
    worse = episode(WHOLE, HALF, HALF)
    assert worse.rewards[:, 0].tolist() == pytest.approx([-0.5, 0]), "no bonus below the IoU asked"
    assert worse.ended.tolist() == [False]
    wrong = episode(HALF, THREE_QUARTERS, WHOLE, says=(2, 2))
    assert wrong.rewards[:, 0].tolist() == pytest.approx([0.25, 0.25]), "none for the wrong class"
    assert wrong.ended.tolist() == [False]


def test_what_follows_the_end_of_an_episode_does_not_count() -> None:
    early = episode(HALF, THREE_QUARTERS, HALF)
    assert early.rewards[:, 0].tolist() == pytest.approx([0.25 + 1, 0])
    assert early.alive[:, 0].tolist() == [True, False]
    late = episode(HALF, THREE_QUARTERS, WHOLE, says=(2, 1))  # its class is right at last
    assert late.rewards[:, 0].tolist() == pytest.approx([0.25, 0.25 + 1])
    assert late.alive.all()


def test_background_has_no_episode() -> None:
    nothing = episode(HALF, THREE_QUARTERS, WHOLE, says=(0, 0), label=0)
    assert not nothing.alive.any()
    assert not nothing.rewards.any()


def test_losses_of_actor_and_critic_by_hand() -> None:
    policy = Policy(8)
    torch.nn.init.zeros_(policy.critic.weight)
    torch.nn.init.constant_(policy.critic.bias, 0.4)  # expects 0.4 of every state
    settings = ActorCritic(discount=0.5, entropy_weight=0.1, value_weight=2.0)
    refined = refined_with(torch.zeros(2, 3, 4), torch.zeros(2, 3, 3))
    policy.draw(refined.moves[0])
    policy.draw(refined.moves[1])
    lived = Episode(
        rewards=torch.tensor([[0.2, 1.0, 0], [0.3, 0, 0]]),
        alive=torch.tensor([[True, True, False], [True, False, False]]),
        ended=torch.tensor([False, True, False]),
    )
    # The first is cut off: 0.3 + 0.5 * 0.4 = 0.5, 0.2 + 0.5 * 0.5 = 0.45; the second ended with 1.
    advantage = [0.45 - 0.4, 1 - 0.4, 0.5 - 0.4]
    log_prob = policy.log_probs(refined.moves).detach()
    lives = [log_prob[0, 0], log_prob[0, 1], log_prob[1, 0]]
    actor = -sum(float(p) * a for p, a in zip(lives, advantage, strict=True)) / 3
    entropy = 4 * stats.norm(scale=math.exp(-1)).entropy()
    found = actor_critic_losses(refined, policy, lived, settings)
    losses = {name: float(loss.detach()) for name, loss in found.items()}
    assert losses["loss_actor"] == pytest.approx(actor - 0.1 * entropy, rel=1e-5)
    assert losses["loss_critic"] == pytest.approx(2 * sum(a * a for a in advantage) / 3, rel=1e-4)


def test_the_class_is_asked_for_after_every_step() -> None:
    step_logits = torch.tensor([[[0.0, math.log(3), 0]], [[math.log(2), 0, 0]]])
    loss = class_loss_of_steps(refined_with(torch.zeros(2, 1, 4), step_logits), torch.tensor([1]))
    assert float(loss) == pytest.approx((math.log(5 / 3) + math.log(4)) / 2)


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


@pytest.mark.parametrize(("score", "reached"), [("class", 1.0), ("iou", 0.5)])
def test_supervised_losses_by_hand(score: Literal["iou", "class"], reached: float) -> None:
    boxes = torch.stack([TRUTH.repeat(2, 1), torch.tensor([[20.0, 20, 44, 32], [0, 0, 9, 9]])])
    logits = torch.tensor([[0.0, math.log(3), 0.0], [math.log(2), 0, 0]])
    losses = supervised_losses(
        refined_with(boxes, torch.stack([torch.zeros(2, 3), logits])),
        torch.tensor([1, 0]),
        TRUTH.repeat(2, 1),
        box_weight=6.0,
        score=score,
    )
    # Foreground alone: GIoU 1 after the first step, 0.5 after the second; 2 steps, 2 regions.
    assert float(losses["loss_refined_box"].detach()) == pytest.approx(6 * 0.5 / 4, rel=1e-5)
    # The first region's own class has 3/5, background 1/5; the second's background has 1/2.
    own = -reached * math.log(3 / 5) - (1 - reached) * math.log(1 / 5)
    assert float(losses["loss_refined_class"].detach()) == pytest.approx(
        (own + math.log(2)) / 2, rel=1e-5
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
    endless = ActorCritic(bonus=0.0, close=1.1)
    return float(episode_of(refined, start, labels, truth, endless).rewards.sum(0).mean())


def test_supervision_learns_to_move_boxes_and_to_name_cells() -> None:
    net = module()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(120):
        refined, _, truth = run(net)
        labels = torch.full((len(truth),), 2)
        losses = supervised_losses(refined, labels, truth, box_weight=6.0, score="iou")
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert mean_gain(net) > 0.08
    assert (run(net)[0].logits.argmax(1) == 2).all()


def test_rewards_alone_improve_boxes_and_reach_the_critic() -> None:
    net, policy = module(), Policy(16)
    settings = ActorCritic(bonus=0.0, close=1.1)
    optimizer = torch.optim.Adam([*net.parameters(), *policy.parameters()], 0.01)
    before = mean_gain(net)
    torch.manual_seed(4)
    for _ in range(150):
        policy.drawn.clear()
        refined, start, truth = run(net, policy)
        labels = torch.full((len(truth),), 2)
        lived = episode_of(refined, start, labels, truth, settings)
        losses = actor_critic_losses(refined, policy, lived, settings)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for layer in (policy.critic, net.query, net.key, net.value, net.move):
        gradient = layer.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    assert mean_gain(net) > before + 0.02
