"""Losses of attention refinement: from boxes and classes, or from rewards (seeds/004, table 2).

Supervised: generalised IoU of the box after every step, cross-entropy of the last class, which asks
of a cell's own class no more than the IoU that its box has reached: then scores rank boxes by how
well they sit, too (Li et al. 2020, arXiv:2006.04388, there with another loss). Then, as
an option, actor and critic: every move is drawn from a Gaussian around the proposed one and pays
the gain in IoU at once. An episode ends, with a bonus, where class and box are right; one that does
not within the T steps (the table's t_max) is worth what the critic expects of the state it left.
Wang et al. 2021, table 2; Mnih et al. 2016, arXiv:1602.01783.

NOTE: the paper's agents are synchronised copies of one model, each at its own image. Here all
regions of a batch live through their episodes at once, which is the same sum of gradients.

Shapes: R regions, T steps, K classes; boxes (R, 4) xyxy; labels (R,) with 0 for background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own idiom
from torchvision.ops import box_iou, generalized_box_iou_loss

from cellcount.models.attention import Refined


@dataclass(frozen=True, slots=True)
class ActorCritic:
    """Settings of the reward training.

    Attributes:
        discount: of a reward one step later (γ).
        bonus: paid where class and box become right, which ends the episode.
        close: IoU from which a box is right.
        entropy_weight: β of the paper's table 2.
        value_weight: of the critic's squared error.
    """

    discount: float = 0.9
    bonus: float = 1.0
    close: float = 0.7
    entropy_weight: float = 0.01
    value_weight: float = 0.5


class Policy(nn.Module):
    """The Gaussian around proposed moves, and the critic; needed in training alone.

    Args:
        width: D of the recurrent state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.full((4,), -1.0))
        self.critic = nn.Linear(width, 1)
        self.drawn: list[Tensor] = []

    def draw(self, proposed: Tensor) -> Tensor:
        """Moves around the proposed ones, (R, 4); kept in ``drawn``."""
        noise = torch.randn_like(proposed)
        move = (proposed + noise * self.log_std.exp()).detach()
        self.drawn.append(move)
        return move

    def log_probs(self, proposed: Tensor) -> Tensor:
        """Log density of the drawn moves, (T, R), for the proposed ones (T, R, 4)."""
        deviation = (torch.stack(self.drawn) - proposed) / self.log_std.exp()
        return -(deviation.square() / 2 + self.log_std + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy of one move."""
        return (0.5 + 0.5 * math.log(2 * math.pi) + self.log_std).sum()


def supervised_losses(
    refined: Refined,
    labels: Tensor,
    wanted: Tensor,
    box_weight: float,
    score: Literal["iou", "class"],
) -> dict[str, Tensor]:
    """Loss of the boxes after every step, and of the last class.

    Args:
        refined: of all sampled regions.
        labels: (R,).
        wanted: the true box of each foreground region, (R, 4); others are not looked at.
        box_weight: weight of the box loss beside cross-entropy.
        score: what is asked of a foreground region's own class: the ``iou`` of its last box, the
            rest being background, or all (``class``).
    """
    foreground = torch.where(labels > 0)[0]
    asked = F.one_hot(labels, refined.logits.shape[1]).to(refined.logits.dtype)
    if score == "iou" and len(refined.boxes):
        last = refined.boxes[-1].detach()
        reached = box_iou(last[foreground], wanted[foreground]).diagonal().to(asked.dtype)
        asked[foreground, 0] = 1 - reached
        asked[foreground, labels[foreground]] = reached
    losses = {"loss_refined_class": F.cross_entropy(refined.logits, asked)}
    steps = max(len(refined.boxes), 1)
    total = refined.boxes.sum() * 0
    for boxes in refined.boxes:
        total = total + generalized_box_iou_loss(
            boxes[foreground], wanted[foreground], reduction="sum"
        )
    losses["loss_refined_box"] = box_weight * total / (steps * max(len(labels), 1))
    return losses


class Episode(NamedTuple):
    """Rewards and ends of the moves of R regions.

    Attributes:
        rewards: of every step, 0 after the end, (T, R).
        alive: steps up to the one that ended the episode, (T, R); none of background regions.
        ended: whether class and box became right, (R,).
    """

    rewards: Tensor
    alive: Tensor
    ended: Tensor


def discounted_returns(rewards: Tensor, discount: float, beyond: Tensor) -> Tensor:
    """``G_t = r_t + γ G_{t+1}`` from the last step back, (T, R) of rewards (T, R).

    Args:
        rewards: of every step.
        discount: γ.
        beyond: G after the last step, (R,): 0 for an episode that has ended.
    """
    returns = torch.zeros_like(rewards)
    following = beyond
    for step in range(len(rewards) - 1, -1, -1):
        following = rewards[step] + discount * following
        returns[step] = following
    return returns


def episode_of(
    refined: Refined, start: Tensor, labels: Tensor, wanted: Tensor, settings: ActorCritic
) -> Episode:
    """Gain in IoU of every step, and the bonus in the step that makes class and box right.

    Args:
        refined: of R regions.
        start: their boxes before the first step, (R, 4).
        labels: their classes, (R,); background regions have no episode.
        wanted: their true boxes, (R, 4).
        settings: bonus and what counts as right.
    """
    overlaps = torch.stack(
        [box_iou(boxes, wanted).diagonal() for boxes in (start, *refined.boxes)]
    ).detach()  # (T + 1, R)
    right = (refined.step_logits.argmax(dim=-1) == labels) & (overlaps[1:] >= settings.close)
    earlier = right.cumsum(0) - right.long()
    alive = (earlier == 0) & (labels > 0)
    rewards = (overlaps[1:] - overlaps[:-1] + settings.bonus * right) * alive
    return Episode(rewards, alive, (right & alive).any(dim=0))


def actor_critic_losses(
    refined: Refined, policy: Policy, episode: Episode, settings: ActorCritic
) -> dict[str, Tensor]:
    """Losses of actor and critic, means over the steps of all episodes.

    Args:
        refined: of R regions whose moves ``policy`` drew.
        policy: with the drawn moves.
        episode: what came of them.
        settings: weights.
    """
    values = policy.critic(refined.states).squeeze(-1).float()  # (T, R)
    beyond = policy.critic(refined.outlook).squeeze(-1).float().detach() * ~episode.ended
    returns = discounted_returns(episode.rewards, settings.discount, beyond)
    share = episode.alive / episode.alive.sum().clamp(min=1)
    advantage = (returns - values).detach()
    actor = -(policy.log_probs(refined.moves) * advantage * share).sum()
    critic = ((values - returns).square() * share).sum()
    return {
        "loss_actor": actor - settings.entropy_weight * policy.entropy(),
        "loss_critic": settings.value_weight * critic,
    }


def class_loss_of_steps(refined: Refined, labels: Tensor) -> Tensor:
    """Cross-entropy of the class after every step: any of them may end an episode."""
    steps = len(refined.step_logits)
    return F.cross_entropy(refined.step_logits.flatten(0, 1), labels.repeat(steps))
