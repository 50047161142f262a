"""Shards: the part of the images that one of several jobs takes, stable by path.

An image belongs to a shard by the hash of its identity alone, so a folder that grows moves no image
to another shard, and every machine agrees without asking the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cellcount.errors import UsageError

SLURM = "slurm"
_MOST = 100_000
_PAGE = re.compile(r"#page=\d{1,9}$")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` parts.

    Attributes:
        index: which one, from 1.
        count: how many there are.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST or not 1 <= self.index <= self.count:
            raise UsageError(
                f"--shard is {self.index}/{self.count}, expected I/N with I from 1 to N, and N up "
                f"to {_MOST:,}"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, image: str) -> bool:
        """Return whether an image is of this part; the pages of a file stay together."""
        name = _PAGE.sub("", image).encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.sha256(name).digest()[:8])
        return number % self.count == self.index - 1


def shard_of(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard of ``--shard``: ``I/N``, or ``slurm`` for that of a job array's task.

    Raises:
        UsageError: it is neither, or this is no task of an evenly numbered array.
    """
    if text.strip().lower() == SLURM:
        return _slurm(environment)
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if match is None:
        raise UsageError(f"--shard is {text!r}, expected I/N, for example 3/8, or {SLURM}")
    return Shard(int(match[1]), int(match[2]))


def _slurm(environment: Mapping[str, str]) -> Shard:
    """The task's place in an array that is surely the whole one: it counts from 0 or 1 by ones.

    Any other array may be a part of one, submitted again; its tasks would divide all the images
    anew among themselves.
    """
    names = ("ID", "COUNT", "MIN", "MAX", "STEP")
    found = {name: environment.get(f"SLURM_ARRAY_TASK_{name}", "").strip() for name in names}
    if not found["ID"].isdecimal() or not found["COUNT"].isdecimal():
        raise UsageError(
            "--shard slurm takes the shard from SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, "
            "which are not set here; submit the job with sbatch --array=1-N, or write --shard I/N"
        )
    number, count = int(found["ID"]), int(found["COUNT"])
    if count == 1:
        raise UsageError(
            f"--shard slurm: task {number} was submitted alone, so the number of shards is "
            f"unknown; write --shard {number}/N with the N of the whole array"
        )
    first, last = found["MIN"], found["MAX"]
    known = first in ("0", "1") and last.isdecimal() and found["STEP"] in ("", "1")
    place = number - int(first) if known else -1
    if not known or int(last) - int(first) + 1 != count or not 0 <= place < count:
        of = f"tasks {first or '?'} to {last or '?'}"
        raise UsageError(
            f"--shard slurm: task {number} of {count} ({of}) has no certain share, since "
            "only an array 1-N or 0-N is surely all of it: these tasks may be a part of one that "
            "is submitted again, and would divide all images anew; submit all with --array=1-N, "
            "or write --shard I/N, with the N of the whole array, to run single ones"
        )
    return Shard(place + 1, count)
