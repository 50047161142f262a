"""Names and row orders between the two engines, by hand; Detectron2 itself is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cellcount.engines.detectron2.state_dict import from_detectron2, to_detectron2
from cellcount.errors import WeightsError
from cellcount.models.detector_card import Architecture
from cellcount.models.weights import read_weights

#: Two sizes and three ratios: six anchors at each place.
ARCHITECTURE = Architecture(
    anchor_sizes_px=((10.0, 20.0), (40.0, 60.0), (90.0, 120.0)), anchor_ratios=(0.5, 1.0, 2.0)
)


def rows(*values: float) -> torch.Tensor:
    return torch.tensor([[v, v + 0.5] for v in values])


def test_the_background_moves_from_first_to_last() -> None:
    name = "roi_heads.box_predictor.cls_score.weight"
    ours = {name: rows(0, 1, 2, 3)}  # background, three classes
    theirs = to_detectron2(ours, ARCHITECTURE)
    assert torch.equal(theirs[name], rows(1, 2, 3, 0))
    assert torch.equal(from_detectron2(theirs, ARCHITECTURE)[name], ours[name])


def test_the_background_has_no_deltas_in_detectron2() -> None:
    name = "roi_heads.box_predictor.bbox_pred.bias"
    ours = {name: torch.arange(12.0)}  # background, two classes
    theirs = to_detectron2(ours, ARCHITECTURE)
    assert theirs[name].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert from_detectron2(theirs, ARCHITECTURE)[name].tolist() == [0] * 4 + theirs[name].tolist()


def test_anchors_change_from_ratio_major_to_size_major() -> None:
    # torchvision: (0.5, small), (0.5, large), (1, small), ...; Detectron2: (small, 0.5), ...
    ours = {
        "rpn.head.cls_logits.bias": torch.arange(6.0),
        "rpn.head.bbox_pred.bias": torch.arange(24.0),
    }
    theirs = to_detectron2(ours, ARCHITECTURE)
    order = [0, 2, 4, 1, 3, 5]
    objectness = theirs["proposal_generator.rpn_head.objectness_logits.bias"]
    assert objectness.tolist() == order
    deltas = theirs["proposal_generator.rpn_head.anchor_deltas.bias"]
    assert deltas.tolist() == [4 * anchor + side for anchor in order for side in range(4)]
    back = from_detectron2(theirs, ARCHITECTURE)
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_a_whole_weight_file_comes_back(tiny_weights: Path) -> None:
    card, ours = read_weights(tiny_weights)
    ours["refinement.query.weight"] = torch.randn(3, 3)
    theirs = to_detectron2(ours, card.architecture)
    assert len(theirs) == len(ours)
    assert {n.split(".")[0] for n in theirs} == {"backbone", "proposal_generator", "roi_heads"}
    assert theirs["roi_heads.box_head.fc2.weight"] is ours["roi_heads.box_head.fc7.weight"]
    back = from_detectron2(theirs, card.architecture)
    assert set(back) == set(ours)
    for name, tensor in ours.items():
        if "box_predictor.bbox_pred" in name:
            assert not back[name][:4].any()
            assert torch.equal(back[name][4:], tensor[4:])
        else:
            assert torch.equal(back[name], tensor), name
    again = to_detectron2(back, card.architecture)
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


def test_a_stranger_is_named() -> None:
    with pytest.raises(WeightsError, match=r"tensor 'head.weight' has no counterpart"):
        to_detectron2({"head.weight": torch.zeros(1)}, ARCHITECTURE)
    with pytest.raises(WeightsError, match=r"tensor 'rpn.head.conv.0.0.bias' has no counterpart"):
        from_detectron2({"rpn.head.conv.0.0.bias": torch.zeros(1)}, ARCHITECTURE)
