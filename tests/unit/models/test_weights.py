"""Weight files: exact round trips, and everything that must never be opened."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.torchvision import FasterRCNN
from cellcount.errors import WeightsError
from cellcount.files.digest import sha256_of
from cellcount.models.card import MAX_CARD_BYTES
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import (
    MAX_HEADER_BYTES,
    load_state,
    read_card,
    read_weights,
    resolve,
    write_weights,
)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "conv.weight": torch.randn(4, 3, 5, 5, generator=generator).contiguous(
            memory_format=torch.channels_last
        ),
        "bias": torch.randn(4, generator=generator),
        "steps": torch.tensor(12_345, dtype=torch.int64),
    }


def test_float32_comes_back_bit_for_bit(
    card: DetectorCard, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, card, state, half=False)
    again, tensors = read_weights(path)
    assert again == card == read_card(path)
    assert set(tensors) == set(state)
    for key, value in state.items():
        torch.testing.assert_close(tensors[key], value, rtol=0, atol=0)


def test_float16_comes_back_rounded_once_and_half_the_size(
    card: DetectorCard, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    state = {**state, "large": torch.randn(500, 100)}
    write_weights(whole, card, state, half=False)
    write_weights(half, card, state)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    _, tensors = read_weights(half)
    assert tensors["bias"].dtype == torch.float32
    torch.testing.assert_close(tensors["bias"], state["bias"].half().float(), rtol=0, atol=0)
    assert tensors["steps"].item() == 12_345


def test_numbers_beyond_float16_stay_whole(card: DetectorCard, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, card, {"running_var": torch.tensor([1.0, 1e6])})
    _, tensors = read_weights(path)
    assert tensors["running_var"].tolist() == [1.0, 1e6]


def test_colleagues_may_read_the_file_and_no_half_of_one_is_left(
    card: DetectorCard, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    mask = os.umask(0o022)
    try:
        write_weights(path, card, state)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_an_oversize_card_is_not_written(card: DetectorCard, tmp_path: Path) -> None:
    import dataclasses

    huge = dataclasses.replace(card, notes=("a" * MAX_CARD_BYTES,))
    with pytest.raises(WeightsError, match="the limit is"):
        write_weights(tmp_path / "model.safetensors", huge, {"a": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused(
    card: DetectorCard, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, card, state)
    whole = path.read_bytes()
    for length in (0, 5, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"safetensors"):
            read_weights(path)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "model.bin", "model.safetensors"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_refused_and_never_runs(tmp_path: Path, name: str, zipped: bool) -> None:
    path, mark = tmp_path / name, tmp_path / "exploded"
    if zipped:
        torch.save({"weights": Bomb(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(WeightsError, match="pickle"):
        load_engine("auto", resolve(str(path)), EngineOptions("cpu"))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # the bomb does work
    assert mark.exists()


def test_an_oversized_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES * 2)
    with pytest.raises(WeightsError, match=f"a header of {MAX_HEADER_BYTES + 1} bytes"):
        read_card(path)


def test_a_file_without_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="carries no cellcount card"):
        read_card(path)


def test_an_unreadable_file_is_an_error_of_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be opened: No such file"):
        read_card(tmp_path / "gone.safetensors")


def test_tensors_that_do_not_fit_are_named(card: DetectorCard, tmp_path: Path) -> None:
    model = FasterRCNN(card)
    source = tmp_path / "model.safetensors"
    state = model.state_dict()
    lost = {k: v for k, v in state.items() if k != "rpn.head.cls_logits.bias"}
    with pytest.raises(WeightsError, match='"missing": \\["rpn.head.cls_logits.bias"\\]'):
        load_state(model, lost, source=source)
    with pytest.raises(WeightsError, match='"unexpected": \\["extra"\\]'):
        load_state(model, {**state, "extra": torch.zeros(1)}, source=source)
    bent = {**state, "roi_heads.box_predictor.cls_score.bias": torch.zeros(7)}
    with pytest.raises(WeightsError, match='"wrong shape": \\["roi_heads.box_predictor.cls_score'):
        load_state(model, bent, source=source)


def test_resolve_finds_a_file_and_the_only_file_of_a_folder(
    card: DetectorCard, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, card, {"a": torch.zeros(1)})
    assert resolve(str(path)) == resolve(str(tmp_path)) == path
    write_weights(tmp_path / "second.safetensors", card, {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match="holds 2 .safetensors files, expected exactly one"):
        resolve(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds 0 .safetensors files"):
        resolve(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    "name", ["nothing", "../weights/blood", "blood\0.safetensors", "a" * 5000, "/dev/null"]
)
def test_a_name_that_is_none_says_what_there_is(name: str) -> None:
    with pytest.raises(WeightsError, match="no model named"):
        resolve(name)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
