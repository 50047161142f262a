"""Balance between types in training: which cells an epoch shows, and how often.

- ``imbalanced-sampler``: torchsampler's ImbalancedDatasetSampler, as in the MobileViT paper: draws
  with replacement, every type equally likely.
- ``resample:N``: as in the five-lineage paper: N cells of every target type, in equal parts from
  the source types that become it; too few are repeated (and augmented), too many are thinned out.
- ``class-weights``: all cells once, the loss weighted by inverse frequency.

Everything depends on seed and epoch alone, and the global random state is left as it was.

Shapes: N cells, K types.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from cellcount.errors import UsageError

BalanceKind = Literal["imbalanced-sampler", "resample", "class-weights", "none"]
_MOST_PER_TYPE = 10_000_000


@dataclass(frozen=True, slots=True)
class Balance:
    """Treatment of rare types in a training.

    Attributes:
        kind: one of ``BalanceKind``.
        per_type: cells per target type and epoch with ``resample``, else 0.
    """

    kind: BalanceKind
    per_type: int = 0

    @classmethod
    def parse(cls, text: str) -> Balance:
        """``imbalanced-sampler``, ``resample:5000``, ``class-weights`` or ``none``.

        Raises UsageError for anything else.
        """
        kind, colon, number = text.strip().partition(":")
        for known in get_args(BalanceKind):
            if kind == known and bool(colon) == (known == "resample"):
                if not colon:
                    return cls(known)
                if number.isascii() and number.isdigit() and 0 < int(number) <= _MOST_PER_TYPE:
                    return cls(known, int(number))
        raise UsageError(
            f"--balance is {text!r}, expected imbalanced-sampler, resample:N with a number of "
            "cells per type like resample:5000, class-weights or none"
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.per_type}" if self.kind == "resample" else self.kind


@dataclass(frozen=True, slots=True)
class Draw:
    """One showing of a cell in an epoch.

    Attributes:
        index: position in the data set.
        copy: 0 the first time a cell is shown in the epoch, then 1, 2 …: repeats are augmented.
    """

    index: int
    copy: int


class ImbalancedSampler(Sampler[int]):
    """torchsampler's ImbalancedDatasetSampler, made repeatable by seed and epoch."""

    def __init__(self, labels: Sequence[int], *, seed: int, num_samples: int | None = None) -> None:
        with warnings.catch_warnings():  # it warns of its own __about__ when it is imported
            warnings.simplefilter("ignore", DeprecationWarning)
            from torchsampler import ImbalancedDatasetSampler

        if not labels:
            raise UsageError("there are no cells to sample from")
        self._sampler = ImbalancedDatasetSampler(
            range(len(labels)), labels=list(labels), num_samples=num_samples
        )
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that of ``epoch``."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # It draws from the global generator, so that is seeded for the draw and put back after.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mixed(self._seed, self._epoch))
            drawn = list(self._sampler)
        return iter(drawn)

    def __len__(self) -> int:
        return len(self._sampler)


def resample(
    sources: Sequence[str],
    target_of: Mapping[str, str],
    per_type: int,
    *,
    seed: int,
    epoch: int = 0,
) -> list[Draw]:
    """N cells of every target type, in equal parts from its source types.

    A remainder goes to the first source types in the order of ``target_of``, one cell each; source
    types without cells take no part. NOTE: the paper thins out by taking the first cells of a
    folder; here they are chosen at random, another choice each epoch.

    Args:
        sources: the source type of each cell.
        target_of: source type → target type.
        per_type: N.
        seed, epoch: decide the choice.

    Raises:
        UsageError: a source type has no target, or N is smaller than the types that share it.
    """
    present = Counter(sources)
    unmapped = sorted(present.keys() - target_of.keys())
    if unmapped:
        raise UsageError(f"the types {unmapped} have no target type; map them, or leave them out")
    indices = {source: np.flatnonzero(np.asarray(sources) == source) for source in present}
    generator = np.random.default_rng([seed, epoch, 0])
    draws: list[Draw] = []
    for target in dict.fromkeys(target_of.values()):
        sharing = [s for s, t in target_of.items() if t == target and s in present]
        if len(sharing) > per_type:
            raise UsageError(
                f"resample:{per_type} is too few for {target}, which is made from {len(sharing)} "
                f"types; use at least resample:{len(sharing)}"
            )
        for position, source in enumerate(sharing):
            share = per_type // len(sharing) + (position < per_type % len(sharing))
            draws.extend(_drawn(indices[source], share, generator))
    return draws


def _drawn(indices: NDArray[np.intp], count: int, generator: np.random.Generator) -> Iterator[Draw]:
    """``count`` of the indices: all of them as often as they go in, then a random choice."""
    rounds, rest = divmod(count, len(indices))
    for copy in range(rounds):
        yield from (Draw(index, copy) for index in indices.tolist())
    chosen = np.sort(generator.choice(indices, rest, replace=False))
    yield from (Draw(index, rounds) for index in chosen.tolist())


def class_weights(labels: Sequence[int], size: int) -> Tensor:
    """Weight of each type in the loss, float32 ``(K,)``: inverse frequency, mean 1.

    The mean is over the types that have cells; a type without any weighs 0.
    """
    counts = np.bincount(np.asarray(labels, np.intp), minlength=size)
    if len(counts) != size or not counts.sum():
        raise UsageError(f"labels must be 0 to {size - 1} and not empty, got counts {counts}")
    inverse = np.divide(1.0, counts, out=np.zeros(size), where=counts > 0)
    return torch.as_tensor(inverse / inverse[counts > 0].mean(), dtype=torch.float32)


def _mixed(seed: int, epoch: int) -> int:
    """One 63-bit seed out of two numbers; neighbouring pairs have nothing in common."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
