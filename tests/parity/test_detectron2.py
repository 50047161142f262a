"""The Detectron2 engine against the torchvision engine: the same file, the same numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from cellcount.core.boxes import pairwise_iou
from cellcount.engines import attention_refinement, training_samples
from cellcount.engines.base import EngineOptions, engine_class, load_engine
from cellcount.engines.detectron2.state_dict import from_detectron2
from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.weights import check_state, read_card, read_weights, write_weights
from tests.parity.same_cells import assert_same_cells

if TYPE_CHECKING:
    from cellcount.engines.detectron2.engine import Detectron2Detector

pytestmark = pytest.mark.detectron2

Pixels = NDArray[np.uint8]
Targets = list[dict[str, Tensor]]
WIDTH_PX, HEIGHT_PX = 160, 128


class Pair(NamedTuple):
    """Both engines with equal weights, for evaluation."""

    torchvision: FasterRCNN
    detectron2: Detectron2Detector


def pair_of(weights: Path) -> Pair:
    card, state = read_weights(weights)
    models: list[Any] = []
    for name in Pair._fields:
        model = engine_class(name).build_model(card)
        model.take_file(state, weights)
        models.append(model.eval())
    return Pair(*models)


def stacked(pixels: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_features_and_anchors(random_weights: Path, rendered: tuple[list[Pixels], Targets]) -> None:
    ours, theirs = pair_of(random_weights)
    rpn = theirs.rcnn.proposal_generator
    images, shapes = stacked(rendered[0][:2]), [(HEIGHT_PX, WIDTH_PX)] * 2
    with torch.inference_mode():
        maps = ours.features(images)
        their_maps = theirs.rcnn.backbone(theirs.rcnn.normalised(images, shapes).tensor)
        assert list(their_maps) == ["p2", "p3", "p4"]
        for one, other in zip(maps.values(), their_maps.values(), strict=True):
            close(one, other)

        levels = list(ours._proposal_maps(maps).values())
        logits, deltas = ours.rpn.head(levels)
        their_logits, their_deltas = rpn.rpn_head([their_maps[name] for name in rpn.in_features])
        per_level = [len(levels[i][0, 0].flatten()) * 6 for i in range(2)]
        anchors = ours.rpn.anchor_generator(ImageList(images, shapes), levels)[0].split(per_level)
        their_anchors = rpn.anchor_generator(levels)
        order = [0, 2, 4, 1, 3, 5]  # sizes before ratios
        for i, level in enumerate(levels):
            close(logits[i][:, order], their_logits[i])
            by_anchor = deltas[i].unflatten(1, (6, 4))[:, order]
            close(by_anchor, their_deltas[i].unflatten(1, (6, 4)))
            close(anchors[i].view(-1, 6, 4)[:, order], their_anchors[i].tensor.view(-1, 6, 4))
            assert level.shape[1] == read_card(random_weights).architecture.pyramid_channels


def test_pooled_regions_and_class_logits(
    random_weights: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    from cellcount.engines.detectron2.api import Boxes, Instances

    ours, theirs = pair_of(random_weights)
    heads: Any = ours.roi_heads
    their_heads = theirs.rcnn.roi_heads
    shapes = [(HEIGHT_PX, WIDTH_PX)] * 2
    regions = [target["boxes"] * 1.1 for target in rendered[1][30:32]]
    boxes = [Boxes(r) for r in regions]
    with torch.inference_mode():
        maps = ours.features(stacked(rendered[0][30:32]))
        their_maps = dict(zip(("p2", "p3", "p4"), maps.values(), strict=True))
        pooled = heads.box_roi_pool(maps, regions, shapes)
        close(pooled, their_heads.box_pooler(list(their_maps.values()), boxes))
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        given = [Instances(shapes[0], proposal_boxes=b) for b in boxes]
        their_logits, their_deltas = their_heads._predictions(their_maps, given)
    assert len(logits) > 20
    close(logits.roll(-1, 1), their_logits)
    close(deltas[:, 4:], their_deltas)


@pytest.mark.parametrize(
    ("which", "steps"),
    [("golden", None), ("random_weights", None), ("random_weights", 0), ("plain_weights", None)],
)
def test_the_same_file_finds_the_same_cells(
    which: str,
    steps: int | None,
    rendered: tuple[list[Pixels], Targets],
    request: pytest.FixtureRequest,
) -> None:
    weights: Path = request.getfixturevalue(which)
    # Odd sizes, so that tiles are padded; three at a time, so that the last batch is filled up.
    tiles = [p[: 128 - seed, : 160 - 2 * seed] for seed, p in enumerate(rendered[0])]
    options = EngineOptions("cpu", "fp32", 3, refine_steps=steps)
    ours, theirs = (load_engine(name, weights, options).detect(tiles) for name in Pair._fields)
    compared = 0
    for one, other in zip(ours, theirs, strict=True):
        compared += assert_same_cells(one, other, cut=0.3)
        compared += assert_same_cells(other, one, cut=0.3)
    assert compared > 500


def test_a_tile_does_not_know_its_mates(
    random_weights: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    engine = load_engine("detectron2", random_weights, EngineOptions("cpu", "fp32", 2))
    tiles = rendered[0][:3]
    together = engine.detect(tiles)
    for tile, expected in zip(tiles[::-1], together[::-1], strict=True):
        (alone,) = engine.detect([tile])
        np.testing.assert_array_equal(alone.boxes_xyxy, expected.boxes_xyxy)
        np.testing.assert_array_equal(alone.scores, expected.scores)


def test_bf16_is_close_to_fp32(golden: Path, rendered: tuple[list[Pixels], Targets]) -> None:
    whole, half = (
        load_engine("detectron2", golden, EngineOptions("cpu", p)) for p in ("fp32", "bf16")
    )
    for a, b in zip(whole.detect(rendered[0][:4]), half.detect(rendered[0][:4]), strict=True):
        assert b.scores.dtype == np.float32
        sure = a[a.scores > 0.9]
        assert len(sure) > 3
        assert pairwise_iou(sure.boxes_xyxy, b.boxes_xyxy).max(axis=1).min() > 0.8


def test_proposals_below_the_floor_are_not_looked_at_again(
    golden: Path, rendered: tuple[list[Pixels], Targets], tmp_path: Path
) -> None:
    card, state = read_weights(golden)
    found = {}
    for floor in (0.5, 0.999999):
        inference = dataclasses.replace(card.inference, rpn_score_floor=floor)
        path = tmp_path / f"{floor}.safetensors"
        write_weights(path, dataclasses.replace(card, inference=inference), state)
        for name in Pair._fields:
            engine = load_engine(name, path, EngineOptions("cpu", "fp32"))
            found[name, floor] = engine.detect(rendered[0][30:31])[0]
    assert len(found["detectron2", 0.999999]) == len(found["torchvision", 0.999999]) == 0
    assert assert_same_cells(found["torchvision", 0.5], found["detectron2", 0.5], cut=0.02) > 5


def step(models: Pair, images: Tensor, targets: Targets, rate: float) -> list[dict[str, float]]:
    """Losses of one training step in each engine; the weights move by ``rate``."""
    history = []
    for model in models:
        torch.manual_seed(1)
        losses = model.train()(images, [dict(t) for t in targets])
        assert isinstance(losses, dict)
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        silent = [n for n, p in model.named_parameters() if p.grad is None]
        assert silent == []
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.sub_(rate * parameter.grad)
        history.append({name: loss.item() for name, loss in losses.items()})
    return history


@pytest.fixture
def all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training looks at every anchor and every region, so that nothing is drawn."""
    monkeypatch.setattr(training_samples, "ANCHORS", 200_000)
    monkeypatch.setattr(training_samples, "REGIONS", 20_000)
    monkeypatch.setattr(attention_refinement, "_SAMPLED_PER_IMAGE", 20_000)


@pytest.mark.usefixtures("all_samples")
@pytest.mark.parametrize(
    ("which", "fields"),
    [("random_weights", (20, 40)), ("random_weights", (30, None)), ("plain_weights", (20, 40))],
    ids=["cells", "one field is empty", "one level"],
)
def test_one_step_with_everything_sampled_costs_the_same(
    which: str,
    fields: tuple[int | None, ...],
    rendered: tuple[list[Pixels], Targets],
    request: pytest.FixtureRequest,
) -> None:
    pixels, targets = rendered
    images = stacked([pixels[0 if i is None else i] for i in fields])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    chosen = [empty if i is None else targets[i] for i in fields]
    models = pair_of(request.getfixturevalue(which))
    for _ in range(2):  # the second step sees whether gradients agree, too
        ours, theirs = step(models, images, chosen, 1e-3)
        assert set(ours) == set(theirs)
        assert len(ours) == 6
        for name, loss in ours.items():
            assert loss == pytest.approx(theirs[name], abs=1e-3), name


def test_a_step_that_runs_away_has_no_finite_loss(
    golden: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    """The training loop leaves such a step out; it does not end the training."""
    for model in pair_of(golden):
        with torch.no_grad():
            next(model.parts().heads[0].parameters()).fill_(torch.nan)
        losses = model.train().losses(stacked(rendered[0][30:32]), rendered[1][30:32])
        assert not torch.stack(list(losses.values())).sum().isfinite()


def test_the_same_seed_draws_the_same_samples(
    golden: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    """One anchor at a place and no second look: both engines draw alike."""
    models = pair_of(golden)
    ours, theirs = step(models, stacked(rendered[0][30:32]), rendered[1][30:32], 0.0)
    assert set(ours) == set(theirs)
    assert len(ours) == 4
    for name, loss in ours.items():
        assert loss == pytest.approx(theirs[name], abs=1e-3), name


def test_weights_come_back_under_the_names_of_the_file(random_weights: Path) -> None:
    card, state = read_weights(random_weights)
    _, model = pair_of(random_weights)
    back = model.weights()
    check_state(state, back, source=random_weights)
    for name, tensor in state.items():
        if "box_predictor.bbox_pred" in name:  # Detectron2 has no deltas of the background
            assert not back[name][:4].any()
            assert torch.equal(back[name][4:], tensor[4:])
        else:
            assert torch.equal(back[name], tensor), name
    everything = from_detectron2(model.rcnn.state_dict(), card.architecture)
    assert set(everything) == set(state)


def test_parts_are_frozen_and_the_second_look_learns_by_rewards(
    random_weights: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    _, model = pair_of(random_weights)
    model.freeze_trunk()
    model.freeze_first_look()
    model.learn_by_rewards()
    learned = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert learned == {"refinement", "policy"}
    assert not model.train().rcnn.backbone.trunk.training
    losses = model.losses(stacked(rendered[0][30:31]), rendered[1][30:31])
    assert {"loss_actor", "loss_critic"} <= set(losses)
    assert not [name for name in model.weights() if "policy" in name]
