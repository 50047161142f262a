"""Attention refinement: its equations by hand, where it may look, and what it may change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor

from cellcount.models.attention import (
    AttentionRefinement,
    attention,
    box_prior,
    image_tokens,
    literal_attention,
    move,
    relative_places,
    window_tokens,
)
from cellcount.models.detector_card import Refinement

Array = NDArray[np.float64]
STRIDES = (4, 8, 16)
ROIS = torch.tensor([[0.0, 10, 12, 40, 36], [1, 30, 8, 62, 60], [1, 2, 2, 12, 14]])
SIZES = torch.tensor([[64.0, 64.0]] * 3)


def maps(channels: int = 6) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(2, channels, 64 // s, 64 // s) for s in STRIDES]


def refinement(**changes: object) -> AttentionRefinement:
    torch.manual_seed(0)
    settings = Refinement(**{"steps": 3, "hidden": 16, "heads": 4, "grid": 5, **changes})  # type: ignore[arg-type]
    return AttentionRefinement(settings, channels=6, region_dim=10, num_classes=3)


def test_attention_by_hand() -> None:
    query = np.array([1.0, 2.0])
    key = np.array([[0.5, 0.0], [1.0, -1.0], [0.0, 2.0]])
    mask = np.array([1.0, 0.5, 0.0])
    scores = np.exp(key @ query / math.sqrt(2)) * mask
    found = attention(torch.tensor(query), torch.tensor(key), torch.tensor(mask))
    assert found.numpy() == pytest.approx(scores / scores.sum(), abs=1e-12)
    assert found[2] == 0, "exactly nothing where M is 0"


def test_equations_1_and_2_by_hand() -> None:
    query, key = np.array([1.0, -1.0]), np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    mask, beta = np.array([1.0, 0.3, 0.0]), 2.5
    first = np.exp(key @ query / math.sqrt(2))
    second = np.exp(beta * first / first.sum() * mask)
    found = literal_attention(torch.tensor(query), torch.tensor(key), torch.tensor(mask), beta)
    assert found.numpy() == pytest.approx(second / second.sum(), abs=1e-12)
    assert found[2] > 0, "as printed, a place with M = 0 still weighs e^0"


def test_the_prior_is_one_inside_falls_outside_and_ends_with_the_image() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 20]])
    places = torch.tensor([[[20.0, 15], [30, 20], [40, 15], [20, 25], [-1, 15]]])
    prior = box_prior(boxes, places, torch.tensor([[64.0, 64]]))[0]
    assert prior[:2].tolist() == [1, 1]
    # One half side beyond the border, 10 px along x as much as 5 px along y.
    expected = math.exp(-0.5 * (1 / 0.5) ** 2)
    assert prior[2:4].tolist() == pytest.approx([expected, expected])
    assert prior[4] == 0


def test_a_box_beyond_the_image_still_gets_weights() -> None:
    prior = box_prior(
        torch.tensor([[90.0, 90, 99, 99]]), torch.full((1, 4, 2), 95.0), torch.tensor([[64.0, 64]])
    )
    assert (prior > 0).all()


def test_places_are_counted_in_half_sides() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 20]])
    places = relative_places(boxes, torch.tensor([[[20.0, 10], [40, 0], [60, 10]]]))
    assert places[0].tolist() == [[0, 0], [1, -1], [2, 0]]


def test_moving_by_hand() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    assert torch.equal(move(boxes, torch.zeros(1, 4)), boxes)
    # centre by 0.1 * 1 of the width, height times e^(0.2 * 1.5)
    moved = move(boxes, torch.tensor([[1.0, 0, 0, 1.5]]))[0].tolist()
    half = 20 * math.exp(0.3)
    assert moved == pytest.approx([12, 40 - half, 32, 40 + half])


def test_window_tokens_show_the_place_they_name() -> None:
    ramps = []
    for stride in STRIDES:  # each map holds the coordinates of its own places
        line = (torch.arange(64 // stride) + 0.5) * stride
        ramps.append(torch.stack([line.expand(len(line), -1), line[:, None].expand(-1, len(line))]))
    tokens = window_tokens(
        [r[None].repeat(2, 1, 1, 1) for r in ramps], STRIDES, ROIS, Refinement(grid=6, enlarge=1.0)
    )
    assert tokens.centres.shape == (3, 36, 2)
    assert (tokens.features - tokens.centres).abs().max() < 0.5


def test_image_tokens_are_those_of_the_own_image() -> None:
    features = maps()
    tokens = image_tokens(features, STRIDES, ROIS)
    assert tokens.features.shape == (3, 16, 6)
    assert torch.equal(tokens.features[1, 5], features[-1][1, :, 1, 1])
    assert tokens.centres[1, 5].tolist() == [24, 24]


def looked(module: AttentionRefinement, features: list[Tensor] | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN201
    torch.manual_seed(7)
    found = torch.randn(3, 10), torch.randn(3, 4)
    tokens = module.tokens(features or maps(), STRIDES, ROIS)
    return found, module(tokens, ROIS[:, 1:], SIZES, *found)


@pytest.mark.parametrize("state", ["gru", "lstm"])
@pytest.mark.parametrize("context", ["window", "image"])
def test_untrained_it_changes_nothing(state: str, context: str) -> None:
    module = refinement(state=state, context=context)
    (_, logits), refined = looked(module)
    assert refined.boxes.shape == (3, 3, 4)
    assert all(torch.allclose(boxes, ROIS[:, 1:], atol=1e-5) for boxes in refined.boxes)
    assert torch.equal(refined.logits, logits)
    assert torch.allclose(refined.weights.sum(-1), torch.ones(3, 3, 4))


def test_no_steps_are_the_identity() -> None:
    module = refinement(steps=0)
    torch.nn.init.normal_(module.correct.weight)
    (_, logits), refined = looked(module)
    assert len(refined.boxes) == 0
    assert torch.equal(refined.logits, logits)


def trained(**changes: object) -> AttentionRefinement:
    module = refinement(**changes)
    for layer in (module.move, module.correct):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return module


@pytest.mark.parametrize("attention_kind", ["softmax", "literal"])
def test_gradients_reach_query_key_and_value(attention_kind: str) -> None:
    module = trained(attention=attention_kind)
    features = [m.requires_grad_() for m in maps()]
    _, refined = looked(module, features)
    (refined.boxes.square().sum() + refined.logits.square().sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert sum(float(m.grad.abs().sum()) for m in features if m.grad is not None) > 0


def test_mean_context_is_attention_whose_scores_are_all_alike() -> None:
    module, scored = trained(attention="mean"), trained()
    _, refined = looked(module)
    refined.logits.sum().backward()
    assert module.query.weight.grad is None
    scored.load_state_dict(module.state_dict())
    torch.nn.init.zeros_(scored.query.weight)
    torch.nn.init.zeros_(scored.query.bias)
    _, same = looked(scored)
    torch.testing.assert_close(same.weights, refined.weights)
    torch.testing.assert_close(same.boxes, refined.boxes)
    torch.testing.assert_close(same.logits, refined.logits)


class InNumPy:
    """Second implementation, one region at a time: equations 1-3 and textbook GRU and LSTM."""

    def __init__(self, module: AttentionRefinement) -> None:
        self.settings = module.settings
        self.weight = {k: v.detach().double().numpy() for k, v in module.state_dict().items()}

    def linear(self, name: str, x: Array) -> Array:
        found: Array = x @ self.weight[f"{name}.weight"].T + self.weight[f"{name}.bias"]
        return found

    def remember(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        w = self.weight
        seen = w["recurrent.weight_ih"] @ x + w["recurrent.bias_ih"]
        held = w["recurrent.weight_hh"] @ h + w["recurrent.bias_hh"]
        if self.settings.state == "gru":
            (r1, z1, n1), (r2, z2, n2) = np.split(seen, 3), np.split(held, 3)
            z = expit(z1 + z2)
            return (1 - z) * np.tanh(n1 + expit(r1 + r2) * n2) + z * h, c
        i, f, g, o = np.split(seen + held, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(c), c

    def look(self, h: Array, tokens: tuple[Array, Array], box: Array) -> tuple[Array, Array]:
        features, centres = tokens
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        places = (centres - middle) / half
        near = np.clip(places, -4, 4)
        waves = [wave(near * q) for q in (1, 2, 4) for wave in (np.sin, np.cos)]
        seen = np.concatenate([features, near, *waves], axis=1)
        beyond = np.clip(np.abs(places) - 1, 0, None) / 0.5
        mask = np.clip(np.exp(-(beyond**2).sum(1) / 2), 1e-4, None)
        mask[(centres < 0).any(1) | (centres > 64).any(1)] = 0
        query, key = (self.linear(n, x) for n, x in (("query", h), ("key", seen)))
        value = self.linear("value", seen)
        weights, context = [], []
        for part in np.split(np.arange(len(h)), self.settings.heads):
            scores = key[:, part] @ query[part] / np.sqrt(len(part))
            if self.settings.attention == "literal":
                alpha = softmax(self.settings.beta * softmax(scores) * mask)
            else:
                alpha = np.exp(scores) * mask / (np.exp(scores) * mask).sum()
            weights.append(alpha)
            context.append(alpha @ value[:, part])
        return np.concatenate(context), np.stack(weights)

    def move(self, box: Array, deltas: Array) -> Array:
        size, middle = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        middle = middle + 0.1 * deltas[:2] * size
        size = size * np.exp(np.clip(0.2 * deltas[2:], -np.log(4), np.log(4)))
        return np.concatenate([middle - size / 2, middle + size / 2])


@pytest.mark.parametrize("context", ["window", "image"])
@pytest.mark.parametrize("state", ["gru", "lstm"])
@pytest.mark.parametrize("kind", ["softmax", "literal"])
def test_three_looks_equal_a_computation_in_numpy(kind: str, state: str, context: str) -> None:
    module = trained(attention=kind, state=state, context=context, beta=20.0)
    (features, logits), refined = looked(module)
    tokens, copy = module.tokens(maps(), STRIDES, ROIS), InNumPy(module)
    for region in range(3):
        own = tuple(t[region].double().numpy() for t in tokens)
        box = ROIS[region, 1:].double().numpy()
        h = np.tanh(copy.linear("start", features[region].double().numpy()))
        c = np.zeros_like(h)
        for step in range(3):
            seen, weights = copy.look(h, (own[0], own[1]), box)
            h, c = copy.remember(seen, h, c)
            box = copy.move(box, copy.linear("move", h))
            said = logits[region].numpy() + copy.linear("correct", h)
            for found, expected in (
                (refined.weights[step, region], weights),
                (refined.states[step, region], h),
                (refined.boxes[step, region], box),
                (refined.step_logits[step, region], said),
            ):
                np.testing.assert_allclose(found.detach().numpy(), expected, rtol=2e-4, atol=2e-4)
    assert torch.equal(refined.logits, refined.step_logits[-1])


def test_the_outlook_is_the_state_of_one_look_more() -> None:
    module, longer = trained(state="lstm", steps=2), trained(state="lstm", steps=3)
    longer.load_state_dict(module.state_dict())
    torch.manual_seed(7)
    found = torch.randn(3, 10), torch.randn(3, 4)
    tokens = module.tokens(maps(), STRIDES, ROIS)
    short = module(tokens, ROIS[:, 1:], SIZES, *found, lambda move: move)
    torch.testing.assert_close(short.outlook, longer(tokens, ROIS[:, 1:], SIZES, *found).states[-1])


def test_a_region_does_not_know_its_mates() -> None:
    module = trained()
    torch.manual_seed(7)
    features, logits = torch.randn(3, 10), torch.randn(3, 4)
    together = module(module.tokens(maps(), STRIDES, ROIS), ROIS[:, 1:], SIZES, features, logits)
    for i in range(3):
        one = slice(i, i + 1)
        tokens = module.tokens(maps(), STRIDES, ROIS[one])
        alone = module(tokens, ROIS[one, 1:], SIZES[one], features[one], logits[one])
        assert torch.allclose(alone.boxes[:, 0], together.boxes[:, i], atol=1e-4)
        assert torch.allclose(alone.logits[0], together.logits[i], atol=1e-5)


def test_a_later_look_starts_from_the_moved_box() -> None:
    module = trained(steps=2)
    _, refined = looked(module)
    prior = box_prior(refined.boxes[0], refined.centres, SIZES)
    assert (
        refined.weights[1][:, :, :][prior[:, None].expand_as(refined.weights[1]) == 0] == 0
    ).all()
    once = trained(steps=1)
    once.load_state_dict(module.state_dict())
    assert torch.allclose(looked(once)[1].boxes[0], refined.boxes[0])
    assert not torch.allclose(refined.boxes[0], refined.boxes[1])
