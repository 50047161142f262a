"""Choosing a device and a precision, with an error that says what this machine has.

Shapes: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from cellcount.errors import DeviceMemoryError, UsageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_BATCH = {"cpu": 1, "cuda": 8, "mps": 4}
# What torch says without a type of its own where the machine itself has no memory left.
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory")

Item = TypeVar("Item")
Result = TypeVar("Result")


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, then the CPU.

    Raises:
        UsageError: a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if cuda := re.fullmatch(r"cuda(?::([0-9]+))?", name):
        if not torch.cuda.is_available():
            raise UsageError(
                f"--device is {name!r}, but torch sees no CUDA device; use auto or cpu"
            )
        if int(cuda[1] or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"--device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA device(s), "
                "counted from cuda:0"
            )
        return torch.device(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device is 'mps', but torch sees no Apple GPU; use auto or cpu")
    if name in ("cpu", "mps"):
        return torch.device(name)
    raise UsageError(f"--device is {name!r}, expected auto, cpu, cuda, cuda:N or mps")


def choose_precision(name: str, device: torch.device) -> tuple[str, torch.dtype]:
    """``auto`` is fp32 on the CPU and MPS, and half precision on CUDA (bf16 where it is native)."""
    if name == "auto":
        if device.type != "cuda":
            name = "fp32"
        else:
            name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if name not in _DTYPES:
        raise UsageError(f"--precision is {name!r}, expected auto, {', '.join(_DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 is for GPUs; on the CPU use fp32 or bf16")
    return name, _DTYPES[name]


def in_batches(
    items: Sequence[Item],
    batch_size: int,
    compute: Callable[[Sequence[Item], int], list[Result]],
    device: torch.device,
) -> list[Result]:
    """Computes items in batches; a batch for which memory is short, in halves down to one item.

    Args:
        items: what to compute.
        batch_size: of a whole batch.
        compute: given at most a batch of items and the size to pad it to.
        device: whose memory is let go of before a smaller batch is tried.

    Raises:
        DeviceMemoryError: memory is short for a single item.
    """
    results: list[Result] = []
    for start in range(0, len(items), batch_size):
        results += _or_halves(items[start : start + batch_size], batch_size, compute, device)
    return results


def _or_halves(
    items: Sequence[Item],
    size: int,
    compute: Callable[[Sequence[Item], int], list[Result]],
    device: torch.device,
) -> list[Result]:
    try:
        return compute(items, size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler: the error holds on to the tensors that have to go.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if size == 1:
        raise DeviceMemoryError(f"{device} has too little memory")
    return in_batches(items, size // 2, compute, device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is short, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
