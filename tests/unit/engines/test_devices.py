"""Devices and precisions: what this machine has, and a sentence where it has not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.devices import choose_device, choose_precision
from cellcount.errors import UsageError

CPU = torch.device("cpu")
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


def test_the_cpu_is_there() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:²", "cuda:-1", "CPU", ""])
def test_a_wrong_name_lists_the_right_ones(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


@needs_no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_device_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}', but torch sees no CUDA device"):
        choose_device(name)


@pytest.mark.gpu
def test_a_gpu_beyond_the_last_is_said() -> None:
    assert choose_device("auto").type == "cuda"
    with pytest.raises(UsageError, match="counted from cuda:0"):
        choose_device("cuda:99")


def test_precisions() -> None:
    assert choose_precision("auto", CPU) == ("fp32", torch.float32)
    assert choose_precision("bf16", CPU) == ("bf16", torch.bfloat16)
    assert choose_precision("fp16", torch.device("cuda")) == ("fp16", torch.float16)
    with pytest.raises(UsageError, match="on the CPU use fp32 or bf16"):
        choose_precision("fp16", CPU)
    with pytest.raises(UsageError, match="'int8', expected auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)


def test_an_engine_says_what_it_runs_on(tiny_weights: Path) -> None:
    engine = load_engine("torchvision", tiny_weights, EngineOptions("cpu"))
    assert (engine.name, engine.device, engine.precision) == ("torchvision", "cpu", "fp32")
    assert engine.batch_size == 1
    assert engine.card.name == "tiny-random"
