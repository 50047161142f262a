"""The seeds' classifiers: offered by the package's own metadata, and passing their own tests."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellcount.plugins import CLASSIFIERS, available, find


@pytest.fixture
def seeds(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the package importable as an installed one; returns the folder of its metadata."""
    source = repo_root / "plugins" / "cellcount-seeds"
    config = configparser.ConfigParser()
    config.read(source / "setup.cfg")
    info = tmp_path / "cellcount_seeds-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cellcount-seeds\nVersion: 0.1.0\n")
    entries = config["options.entry_points"][CLASSIFIERS].strip()
    (info / "entry_points.txt").write_text(f"[{CLASSIFIERS}]\n{entries}\n")
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("seeds")
def test_its_classifiers_come_through_the_door() -> None:
    offered = available(CLASSIFIERS)
    names = [name for name, source in offered.items() if source == "cellcount-seeds 0.1.0"]
    assert len(names) == 11
    assert all(callable(find(CLASSIFIERS, name)) for name in names)


def test_its_own_tests_pass(seeds: Path, repo_root: Path) -> None:
    source = repo_root / "plugins" / "cellcount-seeds"
    path = os.pathsep.join([str(seeds), str(source), str(repo_root)])
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-n", "0"]
    result = subprocess.run(
        [
            *command,
            *("-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", str(source), str(source / "tests")),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
