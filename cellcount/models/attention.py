"""Attention refinement: after the box head, every region attends to its surroundings in T steps.

Keys and values are the feature vectors of an enlarged window around the region, or of the whole
field; the query is a recurrent state that starts from the region's own feature. Each step moves
the box, the last one corrects the class. Wang et al. 2021, BMC Bioinformatics 22:94, equations
1-3, figure 4 and table 2.

Shapes: N images, R regions of all images, L tokens (looked-at places) of a region, C pyramid
channels, D hidden width, A attention heads, d = D / A, T steps, K classes without background.
Boxes are (R, 4) xyxy in pixels of the model's input.

NOTE: where the paper is silent or contradicts itself, both readings are settings: the state is a
GRU (its text) or an LSTM (its table); equations 1-2 are ``literal``, and the default adds log M to
the scores before one softmax, so that a place with M = 0 gets exactly no weight. The paper looks
with one head; with several, each can watch another side of the box.

NOTE: the paper's local proposal network, which proposes boxes where attention peaks, is not built.
Here regions come first, from a proposal network that has searched the whole field already, and each
looks around itself: its attention peaks on a cell that it, or a neighbour, stands for. Proposing
there again would repeat both stages once for every cell, hundreds of times in a field, and the
paper gives neither its anchors nor its losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from cellcount.models.detector_card import Refinement

#: Moves of centre and log size are the outputs times these, the usual weights of Fast R-CNN.
_MOVE_SCALE = (0.1, 0.1, 0.2, 0.2)
_LARGEST_LOG = math.log(4.0)
#: Fall-off of the prior outside the box, in half sides.
_PRIOR_WIDTH = 0.5
_POSITION_FREQUENCIES = (1.0, 2.0, 4.0)


class Refined(NamedTuple):
    """Output of attention refinement.

    Attributes:
        boxes: after each step, (T, R, 4); no row where there are no steps.
        logits: corrected class logits, (R, K + 1), background first.
        step_logits: what they would be after each step, (T, R, K + 1).
        weights: where each step looked, (T, R, A, L).
        centres: places looked at, in pixels of the model's input, (R, L, 2).
        states: recurrent state after each step, (T, R, D).
        moves: what was asked of ``move`` at each step, (T, R, 4).
        outlook: state that one look more would give, (R, D); with ``explore`` alone, else the
            last state.
    """

    boxes: Tensor
    logits: Tensor
    step_logits: Tensor
    weights: Tensor
    centres: Tensor
    states: Tensor
    moves: Tensor
    outlook: Tensor


class Tokens(NamedTuple):
    """Places that regions attend to: feature vectors (R, L, C) and centres (R, L, 2) in pixels."""

    features: Tensor
    centres: Tensor


def attention(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """``softmax(Q Kᵀ / √d + log M)``: weights (..., L), exactly 0 where M is 0.

    Args:
        query: (..., d).
        key: (..., L, d).
        mask: M, (..., L), from 0 to 1; at least one place of each row is above 0.
    """
    return torch.softmax(_scores(query, key) + mask.log(), dim=-1)


def literal_attention(query: Tensor, key: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Equations 1 and 2 as printed: ``softmax(β softmax(Q Kᵀ / √d) · M)``, weights (..., L)."""
    return torch.softmax(beta * torch.softmax(_scores(query, key), dim=-1) * mask, dim=-1)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return (key @ query.unsqueeze(-1)).squeeze(-1) / math.sqrt(query.shape[-1])


def box_prior(boxes: Tensor, centres: Tensor, sizes: Tensor) -> Tensor:
    """Compute M: how far a place belongs to a box, (R, L).

    1 inside the box, a Gaussian of the distance in half sides outside it, 0 beyond the image.

    Args:
        boxes: (R, 4).
        centres: (R, L, 2) x, y.
        sizes: width and height of each region's image, (R, 2).
    """
    outside = (relative_places(boxes, centres).abs() - 1).clamp(min=0)  # (R, L, 2)
    prior = torch.exp(-0.5 * (outside / _PRIOR_WIDTH).square().sum(-1)).clamp(min=1e-4)
    inside = (centres >= 0).all(-1) & (centres <= sizes[:, None]).all(-1)
    # A box beyond the image sees no place of it: then all places count alike.
    return torch.where(inside | ~inside.any(-1, keepdim=True), prior, 0.0)


def relative_places(boxes: Tensor, centres: Tensor) -> Tensor:
    """Places in half sides from the box's centre: -1 and 1 are its borders, (R, L, 2)."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=0.5)
    return (centres - middle[:, None]) / half[:, None]


def move(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes moved by (dx, dy, dw, dh) in the units of ``_MOVE_SCALE``; (0, 0, 0, 0) is no move."""
    scaled = deltas * deltas.new_tensor(_MOVE_SCALE)
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + scaled[:, :2] * size
    half = size * scaled[:, 2:].clamp(-_LARGEST_LOG, _LARGEST_LOG).exp() / 2
    return torch.cat([middle - half, middle + half], dim=1)


def window_tokens(
    maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor, refinement: Refinement
) -> Tokens:
    """A grid of places over the enlarged window of every region.

    Args:
        maps: pyramid maps (N, C, H_i, W_i), fine to coarse.
        strides: of the maps.
        rois: image index and box, (R, 5).
        refinement: enlargement and grid.
    """
    grid = refinement.grid
    half = (rois[:, 3:] - rois[:, 1:3]) / 2 * refinement.enlarge
    middle = (rois[:, 1:3] + rois[:, 3:]) / 2
    windows = torch.cat([rois[:, :1], middle - half, middle + half], dim=1)
    # The level whose places lie about as far apart as those of the grid.
    wanted = (2 * half).clamp(min=1).prod(dim=1).sqrt() / grid
    octaves = torch.log2(wanted / strides[0]).round()
    level = octaves.clamp(0, len(strides) - 1).long()
    pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], grid, grid)
    for i, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        chosen = torch.where(level == i)[0]
        part = roi_align(
            features, windows[chosen].to(features.dtype), grid, 1 / stride, 2, aligned=True
        )
        pooled[chosen] = part
    steps = (torch.arange(grid, device=rois.device) + 0.5) / grid * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([x, y], dim=-1).reshape(1, -1, 2)  # (1, L, 2)
    return Tokens(pooled.flatten(2).transpose(1, 2), middle[:, None] + offsets * half[:, None])


def image_tokens(maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor) -> Tokens:
    """All places of the coarsest map of each region's own image."""
    features, stride = maps[-1], strides[-1]
    y, x = torch.meshgrid(
        torch.arange(features.shape[2], device=rois.device),
        torch.arange(features.shape[3], device=rois.device),
        indexing="ij",
    )
    centres = (torch.stack([x, y], dim=-1).reshape(1, -1, 2) + 0.5) * stride
    own = rois[:, 0].long()
    return Tokens(features.flatten(2).transpose(1, 2)[own], centres.expand(len(rois), -1, -1))


class AttentionRefinement(nn.Module):
    """Network that refines every region in T attention steps.

    Args:
        refinement: the card's settings.
        channels: C of the pyramid.
        region_dim: width of the box head's feature.
        num_classes: K.
    """

    def __init__(
        self, refinement: Refinement, channels: int, region_dim: int, num_classes: int
    ) -> None:
        super().__init__()
        self.settings = refinement
        width, self._heads = refinement.hidden, refinement.heads
        place_dim = 2 + 4 * len(_POSITION_FREQUENCIES)
        self.start = nn.Linear(region_dim, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(channels + place_dim, width)
        self.value = nn.Linear(channels + place_dim, width)
        cells = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}
        self.recurrent = cells[refinement.state](width, width)
        self.move = nn.Linear(width, 4)
        self.correct = nn.Linear(width, num_classes + 1)
        for layer in (self.move, self.correct):  # untrained, it changes nothing
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def tokens(self, maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor) -> Tokens:
        """Return the tokens that the regions (R, 5) attend to."""
        if self.settings.context == "image":
            return image_tokens(maps, strides, rois)
        return window_tokens(maps, strides, rois, self.settings)

    def forward(
        self,
        tokens: Tokens,
        boxes: Tensor,
        sizes: Tensor,
        features: Tensor,
        logits: Tensor,
        explore: Callable[[Tensor], Tensor] | None = None,
    ) -> Refined:
        """Run ``steps`` attention steps.

        Args:
            tokens: from ``tokens``.
            boxes: where the box head put the regions, (R, 4).
            sizes: width and height of each region's image, (R, 2).
            features: of the box head, (R, region_dim).
            logits: of the box head, (R, K + 1), background first.
            explore: draws the moves that are made (R, 4) around the ones proposed (R, 4); None
                makes the proposed ones.
        """
        state = torch.tanh(self.start(features))
        memory = torch.zeros_like(state)  # of an LSTM
        moved: list[Tensor] = []
        looked: list[Tensor] = []
        states: list[Tensor] = []
        moves: list[Tensor] = []
        for _ in range(self.settings.steps):
            context, weights = self.look(state, tokens, boxes, sizes)
            state, memory = self._remember(context, state, memory)
            proposed = self.move(state).float()
            boxes = move(boxes.detach(), proposed if explore is None else explore(proposed))
            moves.append(proposed)
            moved.append(boxes)
            looked.append(weights)
            states.append(state)
        outlook = state
        if explore is not None:
            context, _ = self.look(state, tokens, boxes.detach(), sizes)
            outlook, _ = self._remember(context, state, memory)
        all_states = _stacked(states, state)
        step_logits = logits + self.correct(all_states).float()
        return Refined(
            _stacked(moved, boxes),
            step_logits[-1] if states else logits,
            step_logits,
            _stacked(looked, boxes.new_zeros(len(boxes), self._heads, tokens.centres.shape[1])),
            tokens.centres,
            all_states,
            _stacked(moves, boxes),
            outlook,
        )

    def _remember(self, context: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Update state and memory, each (R, D), with the context of an attention step."""
        if isinstance(self.recurrent, nn.LSTMCell):
            state, memory = self.recurrent(context, (state, memory))
            return state, memory
        return self.recurrent(context, state), memory

    def look(
        self, state: Tensor, tokens: Tokens, boxes: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run one attention step: context (R, D) and weights (R, A, L)."""
        places = _encoded(relative_places(boxes, tokens.centres)).to(tokens.features.dtype)
        seen = torch.cat([tokens.features, places], dim=-1)
        mask = box_prior(boxes, tokens.centres, sizes)[:, None]  # (R, 1, L)
        values = self._by_head(self.value(seen))  # (R, A, L, d)
        if self.settings.attention == "mean":
            weights = (mask / mask.sum(-1, keepdim=True)).expand(-1, self._heads, -1)
        else:
            query = self.query(state).view(len(state), self._heads, -1).float()  # (R, A, d)
            keys = self._by_head(self.key(seen)).float()
            if self.settings.attention == "literal":
                weights = literal_attention(query, keys, mask, self.settings.beta)
            else:
                weights = attention(query, keys, mask)
        context = (weights.to(values.dtype).unsqueeze(-2) @ values).flatten(1)  # equation 3
        return context, weights

    def _by_head(self, vectors: Tensor) -> Tensor:
        """Split (R, L, D) by attention head into (R, A, L, d)."""
        return vectors.view(*vectors.shape[:2], self._heads, -1).transpose(1, 2)


def _encoded(places: Tensor) -> Tensor:
    """Relative places with sines and cosines of a few frequencies, (R, L, 2 + 4 F)."""
    near = places.clamp(-4, 4)
    waves = [f(near * q) for q in _POSITION_FREQUENCIES for f in (torch.sin, torch.cos)]
    return torch.cat([near, *waves], dim=-1)


def _stacked(parts: list[Tensor], like: Tensor) -> Tensor:
    """Stack the tensors of all steps to (T, ...), empty without steps."""
    return torch.stack(parts) if parts else like.new_zeros((0, *like.shape))
