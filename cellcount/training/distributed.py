"""Training in several processes: rank and world size as torchrun sets them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rank of this process among the processes of one training.

    Attributes:
        rank: of this process among all of them.
        world: number of processes.
        local: rank among the processes of this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and reports."""
        return self.rank == 0

    def share(self, order: list[int]) -> list[int]:
        """This process's part of an epoch, as long as that of every other, so that none waits."""
        each = max(1, len(order) // self.world)
        return [order[(self.rank + self.world * i) % len(order)] for i in range(each)]


def announced_ranks() -> Ranks:
    """Return the ranks that torchrun announces; those of a lone process without it."""
    rank, world, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    return Ranks(rank, world, local) if world > 1 else Ranks()


def own_device(device: torch.device, ranks: Ranks) -> torch.device:
    """``cuda`` without a number is one GPU per process of this machine."""
    if device == torch.device("cuda") and ranks.world > 1:
        return torch.device("cuda", ranks.local % torch.cuda.device_count())
    return device


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Joins the other processes of the training, if there are any."""
    if ranks.world == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrap(model: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """The model as trained: averaged gradients where there are several processes."""
    if ranks.world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def all_finite(loss: Tensor, ranks: Ranks) -> bool:
    """Return whether the loss is finite in every process: all of them take a step, or none does."""
    finite = torch.isfinite(loss.detach()).to(torch.float32)
    if ranks.world > 1:
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    return bool(finite)


def gather(value: Tensor, ranks: Ranks) -> Tensor:
    """``value`` of every process in the order of ranks, (world, ...), on the CPU."""
    if ranks.world == 1:
        return value[None].cpu()
    values: list[Tensor] = [torch.empty(0)] * ranks.world
    dist.all_gather_object(values, value.cpu())
    return torch.stack(values)


def barrier(ranks: Ranks) -> None:
    """Waits for the other processes, if any."""
    if ranks.world > 1:
        dist.barrier()
