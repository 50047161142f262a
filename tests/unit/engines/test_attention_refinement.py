"""The second look in the engine: off it changes nothing, on it learns, alone or with mates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cellcount.engines.base import EngineOptions
from cellcount.engines.torchvision import FasterRCNN, TorchvisionEngine
from cellcount.models.attention_losses import Policy
from cellcount.models.detector_card import DetectorCard, Refinement
from cellcount.models.weights import read_weights, write_weights

Tiles = list[NDArray[np.uint8]]
LOOK = Refinement(steps=2, hidden=16, heads=2, grid=4)


def model_with(weights: Path, refinement: Refinement) -> tuple[DetectorCard, FasterRCNN]:
    card, state = read_weights(weights)
    card = dataclasses.replace(card, refinement=refinement)
    torch.manual_seed(0)
    model = FasterRCNN(card)
    model.load_state_dict(state, strict=refinement.steps == 0)
    return card, model


def disturbed(model: FasterRCNN) -> FasterRCNN:
    """A second look that moves boxes, as if it had learned something."""
    assert model.refinement is not None
    torch.manual_seed(5)
    for layer in (model.refinement.move, model.refinement.correct):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return model


def test_no_steps_have_no_parameters(tiny_weights: Path) -> None:
    _, model = model_with(tiny_weights, Refinement())
    assert not [name for name in model.state_dict() if "refinement" in name]


def test_a_weight_file_says_how_often_it_looks(tiny_weights: Path, tmp_path: Path) -> None:
    card, model = model_with(tiny_weights, LOOK)
    path = tmp_path / "look.safetensors"
    write_weights(path, card, disturbed(model).state_dict())
    loaded = TorchvisionEngine.load(path, EngineOptions("cpu"))
    assert loaded.card.refinement == LOOK
    stored = read_weights(path)[1]
    assert "refinement.query.weight" in stored


def test_looking_again_moves_what_is_worth_a_look(tiny_weights: Path, tiles: Tiles) -> None:
    plain = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu"))
    card, model = model_with(tiny_weights, LOOK)
    engine = TorchvisionEngine(disturbed(model), card, EngineOptions("cpu"))
    first, second = plain.detect(tiles[:1])[0], engine.detect(tiles[:1])[0]
    assert len(second) > 0
    assert (np.diff(second.scores) <= 0).all()
    assert (second.boxes_xyxy >= 0).all()
    assert (second.boxes_xyxy[:, 2:] <= [tiles[0].shape[1], tiles[0].shape[0]]).all()
    moved = np.abs(second.boxes_xyxy[:3, None] - first.boxes_xyxy[None]).max(axis=2).min(axis=1)
    assert moved.max() > 0.5


def test_a_tile_does_not_know_its_mates(tiny_weights: Path, tiles: Tiles) -> None:
    card, model = model_with(tiny_weights, LOOK)
    engine = TorchvisionEngine(disturbed(model), card, EngineOptions("cpu", batch_size=2))
    together = engine.detect(tiles[:3])
    for tile, expected in zip(tiles[:3], together, strict=True):
        alone = engine.detect([tile])[0]
        assert np.array_equal(alone.boxes_xyxy, expected.boxes_xyxy)
        assert np.array_equal(alone.scores, expected.scores)


def batch() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    torch.manual_seed(2)
    images = torch.full((2, 3, 96, 96), 230, dtype=torch.uint8)
    images[0, :, 20:50, 30:62] = 90
    boxes = torch.tensor([[30.0, 20, 62, 50]])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return images, [{"boxes": boxes, "labels": torch.tensor([1])}, empty]


@pytest.mark.parametrize("rewarded", [False, True])
def test_losses_are_finite_and_reach_the_second_look(tiny_weights: Path, rewarded: bool) -> None:
    _, model = model_with(tiny_weights, LOOK)
    disturbed(model).train()
    if rewarded:
        model.policy = Policy(LOOK.hidden)
    images, targets = batch()
    losses = cast(dict[str, torch.Tensor], model(images, cast(Any, targets)))
    expected = {"loss_actor", "loss_critic"} if rewarded else {"loss_refined_box"}
    assert expected < set(losses)
    assert all(torch.isfinite(v) for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert model.refinement is not None
    for part in (model.refinement.query, model.refinement.value, model.refinement.correct):
        gradient = part.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


def test_the_second_look_learns_where_the_cell_ends(tiny_weights: Path) -> None:
    _, model = model_with(tiny_weights, LOOK)
    model.train()
    images, targets = batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    seen = []
    for _ in range(25):
        losses = cast(dict[str, torch.Tensor], model(images, cast(Any, targets)))
        seen.append(float((losses["loss_refined_box"] + losses["loss_refined_class"]).detach()))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert np.mean(seen[-5:]) < 0.7 * np.mean(seen[:5])
