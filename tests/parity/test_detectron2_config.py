"""The Detectron2 engine in Detectron2's own hands: exported models, configs of one's own."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellcount.cli import main
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_card

pytestmark = pytest.mark.detectron2

Pixels = NDArray[np.uint8]
Targets = list[dict[str, Tensor]]
WIDTH_PX, HEIGHT_PX = 160, 128


def test_an_exported_model_loads_in_the_default_predictor(
    random_weights: Path, rendered: tuple[list[Pixels], Targets], tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    line = ["models", "export", str(random_weights), "--format", "detectron2", "--out", str(out)]
    assert main(line) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Detectron2's own imports
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor

        from cellcount.engines.detectron2.engine import add_config

        cfg = get_cfg()
        add_config(cfg)
        cfg.merge_from_file(str(out / "config.yaml"))
        predictor = DefaultPredictor(cfg)
    engine = load_engine("detectron2", random_weights, EngineOptions("cpu", "fp32", 1))
    tile = rendered[0][30][:100, :141]
    found = predictor(tile[:, :, ::-1])["instances"]
    (expected,) = engine.detect([tile])
    assert len(found) == len(expected) > 5
    np.testing.assert_allclose(found.pred_boxes.tensor, expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_array_equal(found.pred_classes, expected.labels)


def test_the_trunk_serves_detectron2s_own_heads(
    golden: Path, rendered: tuple[list[Pixels], Targets]
) -> None:
    """In a config of one's own, beside stock parts; the card is named by its file."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from cellcount.engines.detectron2.engine import add_config

    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "CellCountTrunk"
    cfg.MODEL.CELLCOUNT.CARD = str(golden)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    model = build_model(cfg).eval()
    image = torch.from_numpy(rendered[0][0].copy()).permute(2, 0, 1)
    with torch.inference_mode():
        (found,) = model([{"image": image}])
    assert found["instances"].image_size == (HEIGHT_PX, WIDTH_PX)


def test_strides_that_do_not_double_are_refused(golden: Path) -> None:
    from cellcount.engines.detectron2.engine import config_of
    from cellcount.errors import WeightsError

    architecture = dataclasses.replace(read_card(golden).architecture, strides=(4, 8, 32))
    card: DetectorCard = dataclasses.replace(read_card(golden), architecture=architecture)
    with pytest.raises(WeightsError, match="strides are \\(4, 8, 32\\).*--engine torchvision"):
        config_of(card)
