"""What attention refinement learns from: boxes and classes, or rewards (seeds/004, table 2).

Supervised: generalised IoU of the box after every step, cross-entropy of the last class. Then, as
an option, actor and critic: every move is drawn from a Gaussian around the proposed one, pays the
gain in IoU at once, and a bonus at the end when class and box are right.
Wang et al. 2021, table 2; Mnih et al. 2016, arXiv:1602.01783.

Shapes: R regions, F foreground regions, T steps, K classes; boxes (R, 4) xyxy; labels (R,) with
0 for background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        bonus: paid at the end when the class is right and the IoU is at least ``close``.
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
    refined: Refined, labels: Tensor, wanted: Tensor, box_weight: float
) -> dict[str, Tensor]:
    """Loss of the boxes after every step, and of the last class.

    Args:
        refined: of all sampled regions.
        labels: (R,).
        wanted: the true box of each foreground region, (R, 4); others are not looked at.
        box_weight: weight of the box loss beside cross-entropy.
    """
    losses = {"loss_refined_class": F.cross_entropy(refined.logits, labels)}
    foreground = torch.where(labels > 0)[0]
    steps = max(len(refined.boxes), 1)
    total = refined.boxes.sum() * 0
    for boxes in refined.boxes:
        total = total + generalized_box_iou_loss(
            boxes[foreground], wanted[foreground], reduction="sum"
        )
    losses["loss_refined_box"] = box_weight * total / (steps * max(len(labels), 1))
    return losses


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """``R_t = r_t + γ R_{t+1}`` from the last step back, (T, R) of rewards (T, R)."""
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        following = rewards[step] + discount * following
        returns[step] = following
    return returns


def rewards_of(
    refined: Refined, start: Tensor, labels: Tensor, wanted: Tensor, settings: ActorCritic
) -> Tensor:
    """Gain in IoU of every step, and the bonus in the last, (T, R).

    Args:
        refined: of F foreground regions.
        start: their boxes before the first step, (F, 4).
        labels: their classes, (F,).
        wanted: their true boxes, (F, 4).
        settings: bonus and what counts as right.
    """
    overlaps = torch.stack(
        [box_iou(boxes, wanted).diagonal() for boxes in (start, *refined.boxes)]
    )  # (T + 1, F)
    rewards = overlaps[1:] - overlaps[:-1]
    right = (refined.logits.argmax(dim=1) == labels) & (overlaps[-1] >= settings.close)
    rewards[-1] = rewards[-1] + settings.bonus * right
    return rewards.detach()


def actor_critic_losses(
    refined: Refined, policy: Policy, rewards: Tensor, settings: ActorCritic
) -> dict[str, Tensor]:
    """Losses of actor and critic.

    Args:
        refined: of F foreground regions whose moves ``policy`` drew.
        policy: with the drawn moves.
        rewards: (T, F).
        settings: weights.
    """
    returns = discounted_returns(rewards, settings.discount)
    values = policy.critic(refined.states).squeeze(-1).float()  # (T, F)
    advantage = (returns - values).detach()
    actor = -(policy.log_probs(refined.moves) * advantage).mean()
    critic = F.mse_loss(values, returns)
    return {
        "loss_actor": actor - settings.entropy_weight * policy.entropy(),
        "loss_critic": settings.value_weight * critic,
    }
