"""The OpenVINO engine against the torchvision engine: the same file, the same cells."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from cellcount.core.records import Detections
from cellcount.engines.base import Engine, EngineOptions, load_engine
from cellcount.models.weights import read_weights, resolve, write_weights
from cellcount.rendering.field import FieldSpec, render_field
from tests.parity.same_cells import assert_same_cells

pytestmark = pytest.mark.openvino

Pixels = NDArray[np.uint8]
Rendered = tuple[list[Pixels], list[dict[str, Tensor]]]


def openvino(weights: Path) -> Engine:
    return load_engine("openvino", weights, EngineOptions("cpu", refine_steps=None))


def compared(weights: Path, tiles: list[Pixels], options: EngineOptions, cut: float = 0.3) -> int:
    """Cells that both engines find alike on the tiles."""
    engines = [load_engine(name, weights, options) for name in ("torchvision", "openvino")]
    ours, theirs = (engine.detect(tiles) for engine in engines)
    cells = 0
    for one, other in zip(ours, theirs, strict=True):
        cells += assert_same_cells(one, other, cut=cut)
        cells += assert_same_cells(other, one, cut=cut)
    return cells


@pytest.fixture(scope="module")
def blood() -> Engine:
    return openvino(resolve("blood"))


@pytest.fixture(scope="module")
def fields() -> list[Pixels]:
    """Three fields of odd sizes, so that they are padded."""
    sizes = [(301, 250), (260, 333), (301, 250)]
    specs = [FieldSpec(w, h, seed, 36, 0.3) for seed, (w, h) in enumerate(sizes)]
    return [render_field(spec).pixels for spec in specs]


def test_the_packaged_detector_finds_the_same_cells(fields: list[Pixels]) -> None:
    assert compared(resolve("blood"), fields, EngineOptions("cpu", "fp32")) > 60


@pytest.mark.parametrize("which", ["golden", "random_weights", "plain_weights"])
def test_networks_that_torch_builds_find_the_same_cells(
    which: str, rendered: Rendered, request: pytest.FixtureRequest
) -> None:
    weights: Path = request.getfixturevalue(which)
    tiles = [p[: 128 - seed, : 160 - 2 * seed] for seed, p in enumerate(rendered[0][:20])]
    steps = None if which == "golden" else 0
    assert compared(weights, tiles, EngineOptions("cpu", "fp32", refine_steps=steps)) > 200


def test_proposals_below_the_floor_are_not_looked_at_again(
    golden: Path, rendered: Rendered, tmp_path: Path
) -> None:
    card, state = read_weights(golden)
    inference = dataclasses.replace(card.inference, rpn_score_floor=0.999999)
    path = tmp_path / "floor.safetensors"
    write_weights(path, dataclasses.replace(card, inference=inference), state)
    assert len(openvino(golden).detect(rendered[0][30:31])[0]) > 0
    assert len(openvino(path).detect(rendered[0][30:31])[0]) == 0


def test_limits_on_proposals_and_detections_cut_the_same_cells_off(
    golden: Path, rendered: Rendered, tmp_path: Path
) -> None:
    card, state = read_weights(golden)
    inference = dataclasses.replace(
        card.inference, rpn_pre_nms=60, rpn_post_nms=20, max_detections=5, score_floor=0.2
    )
    path = tmp_path / "few.safetensors"
    write_weights(path, dataclasses.replace(card, inference=inference), state)
    tiles = rendered[0][30:40]
    assert max(map(len, openvino(path).detect(tiles))) == 5
    assert compared(path, tiles, EngineOptions("cpu", "fp32"), cut=0.2) > 50


def equal(one: Detections, other: Detections) -> bool:
    return (
        np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.labels, other.labels)
    )


def test_tiles_and_calls_side_by_side_change_nothing(
    fields: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for count in (1, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(count))
        engine = openvino(resolve("blood"))
        assert engine.tiles_at_once == count
        found.append(engine.detect(fields * 3))
        with ThreadPoolExecutor(count) as pool:
            alone = pool.map(lambda field, own=engine: own.detect([field])[0], fields * 3)
            found.append(list(alone))
    for others in found[1:]:
        assert all(map(equal, found[0], others))


def test_a_tile_knows_neither_its_mates_nor_those_before(
    blood: Engine, fields: list[Pixels]
) -> None:
    together = blood.detect(fields)
    assert min(map(len, together)) > 10
    for field, expected in zip(fields[::-1], together[::-1], strict=True):
        assert equal(blood.detect([field])[0], expected)
    fresh = load_engine("openvino", resolve("blood"), EngineOptions("cpu", batch_size=7))
    assert equal(fresh.detect([fields[1]])[0], together[1])


def test_threads_do_not_change_a_cell(
    blood: Engine, fields: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = blood.detect(fields[:1])[0]
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert equal(openvino(resolve("blood")).detect(fields[:1])[0], expected)


def test_glass_shows_no_cell_and_no_tile_nothing(blood: Engine) -> None:
    (glass,) = blood.detect([np.full((96, 64, 3), 240, np.uint8)])
    least = np.array([blood.card.thresholds[c.id] for c in blood.card.classes])
    assert (glass.scores < least[glass.labels]).all()
    assert blood.detect([]) == []
