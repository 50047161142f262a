"""CUDA against the CPU on rendered fields: the same cells, and how many fields a second."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections
from cellcount.engines.base import Engine, EngineOptions, load_engine
from cellcount.models.weights import packaged_weights, read_card
from cellcount.rendering.field import FieldSpec, render_field

pytestmark = pytest.mark.gpu

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def weights(repo_root: Path) -> Path:
    """The packaged model where there is one, else the tiny trained one of the golden tests."""
    return packaged_weights().get("blood") or repo_root / "tests" / "golden" / "tiny.safetensors"


@pytest.fixture(scope="module")
def fields(weights: Path) -> list[Pixels]:
    """Twelve fields at the model's own scale."""
    diameter = read_card(weights).rbc_diameter_px
    width, height = (round(diameter * share) for share in (8, 6))
    return [
        render_field(
            FieldSpec(width, height, 900 + seed, diameter, density=0.25 + 0.04 * seed)
        ).pixels
        for seed in range(12)
    ]


@pytest.fixture(scope="module")
def on_cpu(weights: Path, fields: list[Pixels]) -> list[Detections]:
    return load_engine("auto", weights, EngineOptions("cpu", "fp32")).detect(fields)


def counts(engine: Engine, found: list[Detections]) -> NDArray[np.int64]:
    limits = np.array([engine.card.threshold_of(c.id) for c in engine.card.classes], np.float32)
    labels = np.concatenate([f.labels[f.scores >= limits[f.labels]] for f in found])
    return np.bincount(labels, minlength=len(limits))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_fp32_gives_the_same_cells(
    weights: Path, fields: list[Pixels], on_cpu: list[Detections], batch_size: int
) -> None:
    engine = load_engine("auto", weights, EngineOptions("cuda", "fp32", batch_size))
    least = min(engine.card.threshold_of(c.id) for c in engine.card.classes) - 0.01
    found = engine.detect(fields)
    compared = 0
    for here, there in zip(on_cpu, found, strict=True):
        for one, other in ((here, there), (there, here)):
            cells = one[one.scores >= least]
            iou = pairwise_iou(cells.boxes_xyxy, other.boxes_xyxy)
            iou = np.where(cells.labels[:, None] == other.labels[None], iou, 0)
            assert (iou.max(axis=1, initial=0) >= 0.99).all()
            difference = np.abs(cells.scores - other.scores[iou.argmax(axis=1)])
            assert difference.max(initial=0) <= 0.01
            compared += len(cells)
    assert compared > 100


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_every_count_within_one_percent(
    weights: Path, fields: list[Pixels], on_cpu: list[Detections], precision: str
) -> None:
    engine = load_engine("auto", weights, EngineOptions("cuda", precision))
    exact, half = counts(engine, on_cpu), counts(engine, engine.detect(fields))
    assert (np.abs(half - exact) <= np.maximum(1, 0.01 * exact)).all(), f"{half} against {exact}"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_fields_per_second_are_said(
    weights: Path, fields: list[Pixels], precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    engine = load_engine("auto", weights, EngineOptions("cuda", precision))
    engine.detect(fields)
    torch.cuda.synchronize()
    started = time.perf_counter()
    rounds = 5
    for _ in range(rounds):
        engine.detect(fields)
    torch.cuda.synchronize()
    rate = rounds * len(fields) / (time.perf_counter() - started)
    with capsys.disabled():
        print(  # noqa: T201 -- what this test is for
            f"\n{torch.cuda.get_device_name()}, {engine.card.name}, {precision}, "
            f"batch {engine.batch_size}: {rate:.1f} fields/s"
        )
    assert rate > 0
