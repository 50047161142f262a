"""The engine: results that depend on a tile's pixels alone, losses, precision, limits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.torchvision import AlignedPooler, FasterRCNN, TorchvisionEngine
from cellcount.errors import UsageError
from cellcount.models.folding import folded
from cellcount.models.weights import read_weights, resolve, write_weights

Tiles = list[NDArray[np.uint8]]


def same(one: Detections, other: Detections) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("boxes_xyxy", "scores", "labels")
    )


def engine_of(model: FasterRCNN, weights: Path, batch_size: int = 2) -> TorchvisionEngine:
    from cellcount.models.weights import read_card

    return TorchvisionEngine(model, read_card(weights), EngineOptions("cpu", "fp32", batch_size))


def test_detections_are_ordered_and_inside_the_tile(tiny_weights: Path, tiles: Tiles) -> None:
    found = load_engine("auto", tiny_weights, EngineOptions("cpu")).detect(tiles)
    assert len(found) == len(tiles)
    assert sum(len(f) for f in found) > 50, "the tiny model finds something everywhere"
    for part in found:
        assert (np.diff(part.scores) <= 0).all()
        assert part.scores.min() >= 0.01
        assert set(part.labels) <= {0, 1, 2}
        assert (part.boxes_xyxy >= 0).all()
        assert (part.boxes_xyxy <= [128, 96, 128, 96]).all()


def test_a_tile_does_not_know_its_mates_or_its_place(tiny_weights: Path, tiles: Tiles) -> None:
    engine = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", batch_size=3))
    expected = engine.detect(tiles)
    for order in ([4, 3, 2, 1, 0], [2, 2, 2, 0, 1], [3]):
        for index, found in zip(order, engine.detect([tiles[i] for i in order]), strict=True):
            assert same(found, expected[index]), "bit for bit"


def test_batch_size_changes_no_cell_and_hardly_a_score(tiny_weights: Path, tiles: Tiles) -> None:
    one, four = (
        TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", batch_size=b)) for b in (1, 4)
    )
    for first, second in zip(one.detect(tiles), four.detect(tiles), strict=True):
        sure = first.scores > 0.05  # the last places of a full list may change hands
        best = pairwise_iou(first.boxes_xyxy[sure], second.boxes_xyxy)
        best = np.where(first.labels[sure][:, None] == second.labels[None], best, 0)
        assert (best.max(axis=1) > 0.99).all()
        differences = np.abs(second.scores[best.argmax(axis=1)] - first.scores[sure])
        assert differences.max() < 1e-3


def test_proposals_below_the_floor_are_not_looked_at_again(
    tiny_weights: Path, tiles: Tiles, tmp_path: Path
) -> None:
    card, state = read_weights(tiny_weights)
    floored = dataclasses.replace(
        card, inference=dataclasses.replace(card.inference, rpn_score_floor=0.999)
    )
    write_weights(tmp_path / "floored.safetensors", floored, state)
    options = EngineOptions("cpu")
    assert len(TorchvisionEngine.load(tiny_weights, options).detect(tiles[:1])[0]) > 0
    assert (
        len(TorchvisionEngine.load(tmp_path / "floored.safetensors", options).detect(tiles[:1])[0])
        == 0
    )


def test_padding_finds_nothing(tiny_weights: Path, tiles: Tiles) -> None:
    """A tile of odd size is padded at the right and lower side, and cells end at its own edge."""
    engine = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu"))
    found = engine.detect([tiles[0][:75, :101]])[0]
    assert len(found) > 0
    assert (found.boxes_xyxy <= [101, 75, 101, 75]).all()
    assert (found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all()


def test_tiles_of_several_shapes_keep_their_places(tiny_weights: Path, tiles: Tiles) -> None:
    engine = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", batch_size=2))
    mixed = [tiles[0], tiles[1][:64, :64], tiles[2], tiles[3][:60, :50], tiles[4]]
    alone = [engine.detect([tile])[0] for tile in mixed]
    assert all(same(a, b) for a, b in zip(engine.detect(mixed), alone, strict=True))
    assert engine.detect([]) == []


def test_two_interleaved_engines_and_fields(tiny_weights: Path, tiles: Tiles) -> None:
    """No state is left between calls, nor shared between engines."""
    first, second = (
        TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", batch_size=2)) for _ in range(2)
    )
    expected = first.detect(tiles[:3])
    other = second.detect(tiles[3:])
    assert all(same(a, b) for a, b in zip(second.detect(tiles[:3]), expected, strict=True))
    assert all(same(a, b) for a, b in zip(first.detect(tiles[3:]), other, strict=True))
    assert all(same(a, b) for a, b in zip(first.detect(tiles[:3]), expected, strict=True))


def test_bf16_is_close_to_fp32(tiny_weights: Path, tiles: Tiles) -> None:
    whole = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", "fp32"))
    half = TorchvisionEngine.load(tiny_weights, EngineOptions("cpu", "bf16"))
    assert (whole.precision, half.precision) == ("fp32", "bf16")
    images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact = whole._model.features(images)  # type: ignore[operator]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = half._model.features(images)  # type: ignore[operator]
    for name, maps in exact.items():
        error = (rounded[name].float() - maps).norm() / maps.norm()
        assert 0 < error < 0.05, "rounded to 8 bits, not to something else"
    for a, b in zip(whole.detect(tiles), half.detect(tiles), strict=True):
        assert b.scores.dtype == np.float32
        assert pairwise_iou(a.boxes_xyxy[:3], b.boxes_xyxy).max(axis=1).min() > 0.7


def targets(count: int) -> list[dict[str, torch.Tensor]]:
    box = torch.tensor(
        [[10.0, 12.0, 40.0, 44.0], [60.0, 20.0, 90.0, 50.0], [5.0, 60.0, 29.0, 85.0]]
    )
    return [{"boxes": box[:count], "labels": torch.tensor([1, 2, 3])[:count]} for _ in range(2)]


@pytest.mark.parametrize("count", [3, 0])
def test_losses_are_finite_and_every_parameter_learns(
    model: FasterRCNN, tiles: Tiles, count: int
) -> None:
    torch.manual_seed(0)
    for module in model.modules():  # timm starts the last normalisation of a block at zero
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    images = torch.from_numpy(np.stack(tiles[:2])).permute(0, 3, 1, 2)
    losses = model.train()(images, targets(count))
    assert isinstance(losses, dict)
    assert set(losses) == {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
    }
    assert all(math.isfinite(v.item()) for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert silent == [], "without gradients, several processes would wait for one another"
    if count:
        zero = [n for n, p in model.named_parameters() if not p.grad.abs().sum()]  # type: ignore[union-attr]
        assert zero == []


def test_a_known_answer_costs_less(model: FasterRCNN, tiles: Tiles) -> None:
    """Ten steps on one batch: the loss falls by a third."""
    torch.manual_seed(0)
    images = torch.from_numpy(np.stack(tiles[:2])).permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    history = []
    for _ in range(10):
        loss = torch.stack(list(model.train().losses(images, targets(3)).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.67 * history[0]


def test_the_limit_of_detections_is_the_cards_and_is_told(
    model: FasterRCNN, tiny_weights: Path, tiles: Tiles
) -> None:
    engine = engine_of(model, tiny_weights)
    free = engine.detect(tiles[:1])[0]
    assert len(free) > 7
    limit = dataclasses.replace(
        engine.card,
        inference=dataclasses.replace(engine.card.inference, max_detections=7),
        thresholds=dict.fromkeys(("rbc", "wbc", "platelet"), 0.0),
    )
    tight = FasterRCNN(limit)
    tight.load_state_dict(model.state_dict())
    capped = TorchvisionEngine(tight, limit, EngineOptions("cpu", "fp32", 2))
    found = capped.detect(tiles[:1])[0]
    assert len(found) == 7
    np.testing.assert_array_equal(found.scores, free.scores[:7])
    assert FieldDetector(capped).detect(tiles[0], 1.0).capped
    assert len(free) < 60 or FieldDetector(engine).detect(tiles[0], 1.0).capped


def test_statistics_come_from_the_card_and_are_no_weights(model: FasterRCNN) -> None:
    assert not {"mean", "std"} & set(model.state_dict())
    np.testing.assert_allclose(model.mean.flatten(), [0.485, 0.456, 0.406], rtol=1e-6)


def test_a_finest_level_may_be_pooled_from_without_anchors(
    tiny_weights: Path, tiles: Tiles
) -> None:
    """More strides than anchor sizes: the anchors belong to the coarsest levels."""
    from cellcount.models.weights import read_card

    card = read_card(tiny_weights)
    fine = dataclasses.replace(card.architecture, strides=(4, 8, 16, 32))
    model = FasterRCNN(dataclasses.replace(card, architecture=fine))
    images = torch.from_numpy(np.stack(tiles[:2])).permute(0, 3, 1, 2)
    maps = model.features(images)
    assert [tuple(m.shape[2:]) for m in maps.values()] == [(24, 32), (12, 16), (6, 8), (3, 4)]
    assert model._proposal_maps(maps)["1"] is maps["1"]
    assert list(model._proposal_maps(maps)) == ["1", "2", "3"]
    losses = model.train().losses(images, targets(3))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    # Small boxes come from the finest level: 224 px belong to stride 16, so 56 px to stride 4.
    pooler = cast(AlignedPooler, cast(Any, model.roi_heads).box_roi_pool)
    sides = torch.tensor([20.0, 111.0, 113.0, 225.0, 500.0])
    levels = pooler.level_of(torch.stack([sides * 0, sides * 0, sides, sides], dim=1))
    assert levels.tolist() == [0, 0, 1, 2, 3]


def test_frozen_parts_of_a_backbone_stay_as_they_are_in_training(tiny_weights: Path) -> None:
    model = FasterRCNN(read_weights(tiny_weights)[0])
    names = [name for name, _ in model.trunk.backbone.named_children()]
    model.freeze_backbone_parts(names)
    model.train()
    assert not any(p.requires_grad for p in model.trunk.backbone.parameters())
    parts = [part for child in model.trunk.backbone.children() for part in child.modules()]
    assert not any(part.training for part in parts)
    assert all(p.requires_grad for p in model.trunk.pyramid.parameters())


def test_a_part_that_the_backbone_does_not_have_is_named(tiny_weights: Path) -> None:
    model = FasterRCNN(read_weights(tiny_weights)[0])
    with pytest.raises(UsageError, match=r"frozen names 'body.nothing'.*it has"):
        model.freeze_backbone_parts(["body.nothing"])


def test_a_network_that_takes_no_image_of_a_few_pixels_is_loaded_without_padding(
    tiny_weights: Path, tmp_path: Path, tiles: Tiles
) -> None:
    card, _ = read_weights(tiny_weights)
    options = {"growth_rate": 4, "block_config": [1, 1, 1, 1]}
    dense = dataclasses.replace(
        card.architecture, backbone="timm/densenet121", backbone_options=options
    )
    unpadded = dataclasses.replace(card.preprocessing, pad_multiple=1)
    card = dataclasses.replace(card, architecture=dense, preprocessing=unpadded)
    path = tmp_path / "dense.safetensors"
    write_weights(path, card, FasterRCNN(card).weights())
    assert len(TorchvisionEngine.load(path, EngineOptions("cpu", "fp32")).detect(tiles[:1])) == 1


def test_the_packaged_trunk_has_neither_copies_nor_activations_and_gives_the_same_maps() -> None:
    path = resolve("blood")
    card, state = read_weights(path)
    plain = TorchvisionEngine.build_model(card)
    plain.take_file(state, path)
    trunk = plain.eval().parts().trunk
    trunk.backbone = folded(trunk.backbone)
    fixed = TorchvisionEngine.load(path, EngineOptions("cpu", "fp32"))._model.parts().trunk
    named = [type(module).__name__ for module in fixed.modules()]
    assert "Conv2dSame" not in named
    assert "ReLU6" not in named
    with torch.inference_mode():
        for shape in ((96, 160), (224, 320)):
            image = torch.randn(1, 3, *shape).contiguous(memory_format=torch.channels_last)
            for one, other in zip(trunk(image), fixed(image), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
