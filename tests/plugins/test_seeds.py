"""The seeds' classifiers: offered by the package's own metadata, and passing their own tests."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cellcount.core.records import CellClass
from cellcount.models.classifier import build_classifier, create_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
)
from cellcount.plugins import CLASSIFIERS, available, find
from cellcount.testing import check_classifier


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


# Sides far below the papers', so that the larger networks take seconds.
SIDES = {
    "seed001-resnet50": 32,
    "seed001-densenet121": 32,
    "seed001-mobilenetv2": 32,
    "seed001-mobilenetv3": 32,
    "seed001-mobilevit": 64,
    "seed002-xception": 96,
    "seed002-inception-1": 107,
    "seed002-inception-2": 171,
    "seed002-vit-b32": 32,
    "seed003-resnet50": 32,
    "seed003-vit-b16": 32,
}


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("name", SIDES)
def test_each_is_built_by_name(name: str) -> None:
    module = create_classifier(name, 3, image_size=SIDES[name]).eval()
    assert module.input_size == (SIDES[name], SIDES[name])
    with torch.no_grad():
        assert module(torch.zeros(1, 3, SIDES[name], SIDES[name])).shape == (1, 3)


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("name", ["seed001-mobilenetv2", "seed002-xception"])
def test_the_small_ones_keep_the_contract(name: str) -> None:
    assert check_classifier(name, image_size=SIDES[name]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("name", SIDES)
def test_all_keep_the_contract_at_their_own_size(name: str) -> None:
    assert check_classifier(name) == []


@pytest.mark.usefixtures("seeds")
def test_a_card_rebuilds_one_against_the_rest() -> None:
    card = ClassifierCard(
        name="ovr",
        version="1",
        types=tuple(CellClass(i, i, f"{i}s") for i in ("blast", "other")),
        taxonomy="",
        license="MIT",
        architecture=ClassifierArchitecture("seed002-xception", {"image_size": 96}, "ovr"),
        preprocessing=ClassifierPreprocessing((96, 96), (0.0,) * 3, (1.0,) * 3),
    )
    module = build_classifier(card).eval()
    with torch.no_grad():
        outputs = module(torch.rand(2, 3, 96, 96))
    assert outputs.shape == (2, 2)
    assert (outputs <= 0).all()  # logarithms of probabilities


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
