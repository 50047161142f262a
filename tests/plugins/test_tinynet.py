"""The example plugin: found by its own metadata, sound, and passing its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cellcount.models.backbone import create_backbone
from cellcount.testing import check_backbone


@pytest.mark.usefixtures("tinynet")
def test_it_keeps_the_contract() -> None:
    assert check_backbone("tinynet") == []


@pytest.mark.usefixtures("tinynet")
def test_its_feature_maps_are_what_it_states() -> None:
    backbone = create_backbone("tinynet", width=8)
    levels = backbone(torch.zeros(1, 3, 96, 160))
    assert [tuple(level.shape) for level in levels] == [
        (1, 8, 12, 20),
        (1, 16, 6, 10),
        (1, 32, 3, 5),
    ]


def test_its_own_tests_pass(tinynet: Path, repo_root: Path) -> None:
    source = repo_root / "plugins" / "cellcount-tinynet"
    path = os.pathsep.join([str(tinynet), str(source), str(repo_root)])
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(source), str(source / "tests")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout
