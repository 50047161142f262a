"""Shards: every image in exactly one, the same one for ever; Slurm's numbering understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellcount.errors import UsageError
from cellcount.shards import Shard, shard_of


def slurm(task: int, count: int, first: int = 1, step: int = 1) -> dict[str, str]:
    """Environment that Slurm sets for a task of ``--array=first-last:step``."""
    last = first + step * (count - 1)
    values = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 9))
def test_every_image_is_in_exactly_one_shard(images: list[str], count: int) -> None:
    shards = [Shard(i, count) for i in range(1, count + 1)]
    for image in images:
        assert sum(shard.holds(image) for shard in shards) == 1
        assert [s.holds(image) for s in shards] == [s.holds(f"{image}#page=12") for s in shards]


def test_a_shard_is_a_matter_of_the_name_alone() -> None:
    """Fixed for ever: a journal of an older version must go on with its own images."""
    found = {name: next(i for i in range(1, 6) if Shard(i, 5).holds(name)) for name in "abcdef"}
    assert found == {"a": 1, "b": 2, "c": 1, "d": 5, "e": 3, "f": 3}


def test_shards_are_of_about_the_same_size() -> None:
    sizes = [sum(Shard(i, 8).holds(f"s/{n:05}.png") for n in range(8000)) for i in range(1, 9)]
    assert sum(sizes) == 8000
    assert min(sizes) > 900


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/8", (3, 8)), (" 8 / 8 ", (8, 8))])
def test_numbers_are_read(text: str, shard: tuple[int, int]) -> None:
    assert shard_of(text, {}) == Shard(*shard)
    assert str(Shard(3, 8)) == "3/8"


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/200000", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard is .*, expected I/N"):
        shard_of(text, {})


def test_slurm_counts_from_one_or_from_zero() -> None:
    assert shard_of("slurm", slurm(1, 4)) == Shard(1, 4)
    assert shard_of("SLURM", slurm(3, 4, first=0)) == Shard(4, 4)
    without_step = {k: v for k, v in slurm(2, 2).items() if not k.endswith("STEP")}
    assert shard_of("slurm", without_step) == Shard(2, 2)


def test_slurm_outside_an_array_is_refused() -> None:
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID.*not set here"):
        shard_of("slurm", {})


@pytest.mark.parametrize("task", [0, 1, 5])
def test_a_task_that_was_submitted_alone_has_no_share(task: int) -> None:
    with pytest.raises(UsageError, match=f"task {task} was submitted alone.*--shard {task}/N"):
        shard_of("slurm", slurm(task, 1, first=task))


#: What may be a part of an array 1-8: ``--array`` of the tasks that are submitted again.
PARTS = {
    "3-4": slurm(3, 2, first=3),
    "1-7:2": slurm(3, 4, step=2),
    "0-6:2": slurm(2, 4, first=0, step=2),
    "2,4": slurm(4, 2) | {"SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_MAX": "4"},
    "1,3,7": slurm(3, 3) | {"SLURM_ARRAY_TASK_MAX": "7"},
    "1-3, but a task 5": slurm(5, 3),
    "0-3, but a task 4": slurm(4, 4, first=0),
    "no MIN": slurm(1, 4) | {"SLURM_ARRAY_TASK_MIN": ""},
    "no MAX": slurm(1, 4) | {"SLURM_ARRAY_TASK_MAX": ""},
}


@pytest.mark.parametrize("part", PARTS)
def test_what_may_be_a_part_of_an_array_is_refused(part: str) -> None:
    with pytest.raises(UsageError, match=r"no certain share.*write --shard I/N"):
        shard_of("slurm", PARTS[part])
