"""Several processes: equal shares, one voice, and equal weights at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cellcount.training.distributed import (
    Ranks,
    all_finite,
    announced_ranks,
    barrier,
    gather,
    own_device,
    process_group,
    wrap,
)

LONE = Ranks()


@pytest.mark.parametrize("images", [1, 2, 7, 11, 12])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_equal_and_together_hold_every_image_once(images: int, world: int) -> None:
    order = torch.randperm(images).tolist()
    shares = [Ranks(rank, world, rank).share(order) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "else one process waits for ever"
    seen = [index for share in shares for index in share]
    if images >= world:
        assert len(seen) == len(set(seen)) == images // world * world
    if world == 1:
        assert shares[0] == order


def test_torchrun_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert announced_ranks() == Ranks(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert announced_ranks() == Ranks(5, 8, 1)
    assert not announced_ranks().is_first


def test_one_process_needs_no_group() -> None:
    cpu = torch.device("cpu")
    model = torch.nn.Linear(1, 1)
    with process_group(LONE, cpu):
        assert wrap(model, LONE, cpu) is model
        assert all_finite(torch.tensor(1.0), LONE)
        assert not all_finite(torch.tensor(float("nan")), LONE)
        assert gather(torch.tensor([1, 2]), LONE).tolist() == [[1, 2]]
        barrier(LONE)
    assert own_device(cpu, Ranks(1, 2, 1)) == cpu
    assert own_device(torch.device("cuda:3"), Ranks(1, 2, 1)) == torch.device("cuda:3")


SCRIPT = """
import dataclasses, sys
from pathlib import Path
import torch
from cellcount.datasets.annotations import read_annotations
from cellcount.training import loop
from cellcount.training.detector.train import train_detector
from cellcount.training.detector.settings import from_recipe
from cellcount.training.settings import TrainRun

data, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = from_recipe("default", {
    "backbone": "timm/test_efficientnet", "pyramid_channels": 16, "size_px": 64,
    "rbc_diameter_px": 24.0, "epochs": int(sys.argv[3]), "batch_size": 1, "precision": "fp32",
    "split": "2/1", "rbc_px": 60.0, "finest_stride": 8,
})
plain = loop._Loop.fit
def fit(self):
    progress = plain(self)
    torch.save(self.model.state_dict(), out / f"rank-{self.run.ranks.rank}.pt")
    return progress
loop._Loop.fit = fit
train_detector([read_annotations(data)], settings,
               TrainRun((data,), out, workers=0, device="cpu", resume=len(sys.argv) > 4), print)
"""


def test_two_processes_end_with_the_same_weights(tmp_path: Path) -> None:
    """Under torchrun with gloo: also with an odd number of images and after --resume."""
    from cellcount.commands.datasets import datasets_render

    data, out, script = tmp_path / "data", tmp_path / "run", tmp_path / "train.py"
    datasets_render(
        ["--out", str(data), "--fields", "7", "--size", "96x64", "--density", "0.3-0.4"],
        standalone_mode=False,
    )
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*torchrun, "--master-port=0", "--standalone", str(script), str(data), str(out), "1"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("best validation AP") == 1, "only the first process speaks"
    first, second = (torch.load(out / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    learned = [k for k in first if "running" not in k and "num_batches" not in k]
    assert all(torch.equal(first[key], second[key]) for key in learned)
    assert torch.load(out / "last.checkpoint", weights_only=True)["rng"].shape[0] == 2
