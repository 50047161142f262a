"""Data without a split gets one, and a model is never judged on its own training cells unsaid."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]

COLOURS = {"NGS": (200, 70, 80), "LYT": (60, 190, 80), "EBO": (70, 60, 200)}
SETTINGS = (
    "backbone=timm/test_efficientnet", "pyramid_channels=32", "rbc_diameter_px=32", "size_px=96",
    "batch_size=2", "precision=fp32", "validate_every=1",
)  # fmt: skip


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([*map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A folder per class, ten cells each, without any split."""
    rng = np.random.default_rng(4)
    for code, colour in COLOURS.items():
        for n in range(10):
            pixels = np.full((48, 48, 3), 235.0)
            pixels[6:-6, 6:-6] = colour
            path = tmp_path / "cells" / code / f"{code}_{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(path)
    return tmp_path / "cells"


@pytest.fixture
def trained(cells: Path, run: Run, tmp_path: Path, classifier_plugins: Path) -> tuple[Path, str]:
    """The run folder of a classifier that was trained by README's recipe, and what it said."""
    code, out, err = run(
        *("train", "classifier", cells, "--out", tmp_path / "run", "--backbone", "colour"),
        *("--epochs", 1, "--batch-size", 4, "--window", 0, "--workers", 0, "--rbc-px", 20),
        *("--set", "augment=flips", "--set", "ema_decay=0", "--plugins", classifier_plugins),
    )
    assert code == 0, err
    return tmp_path / "run", out


def test_a_classifier_of_folders_without_split_is_reported_on_unseen_cells(
    trained: tuple[Path, str],
) -> None:
    folder, out = trained
    assert "the data has no split, so one was made: 64/16/20 at random (seed 0), stratified" in out
    assert "val, 5 cells: accuracy" in out
    with (folder / "splits.csv").open(newline="") as file:
        splits = Counter(row["split"] for row in csv.DictReader(file))
    assert splits["test"] == 6
    assert splits["val"] == 5


def test_the_split_of_a_run_is_known_by_content_wherever_the_files_went(
    trained: tuple[Path, str], cells: Path, run: Run, tmp_path: Path, classifier_plugins: Path
) -> None:
    folder, _ = trained
    elsewhere = tmp_path / "elsewhere"
    for colour in COLOURS:
        for n, path in enumerate(sorted((cells / colour).iterdir())):
            (elsewhere / colour).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, elsewhere / colour / f"renamed-{9 - n}.png")
    evaluate = ("evaluate", "classifier", elsewhere, "--classifier", folder, "--plugins",
                classifier_plugins)  # fmt: skip
    scores = tmp_path / "scores.json"
    code, _, err = run(*evaluate, "--run", folder, "--split", "test", "--json", scores)
    assert code == 0, err
    document = json.loads(scores.read_text())
    assert document["reports"]["original"]["cells"] == 6
    assert document["learned_from"] == 0
    assert "learned from" not in err
    code, _, err = run(*evaluate, "--json", scores)
    assert code == 0, err
    assert "the model learned from 19 of the 30 cells that it is judged on here" in err
    assert json.loads(scores.read_text())["learned_from"] == 19


def test_a_folder_that_is_no_run_is_told_so(
    trained: tuple[Path, str], cells: Path, run: Run, classifier_plugins: Path
) -> None:
    code, _, err = run(
        *("evaluate", "classifier", cells, "--classifier", trained[0], "--run", cells),
        *("--plugins", classifier_plugins),
    )
    assert code == 2
    assert "has no splits.csv with the columns split and sha256" in err


def test_a_detector_of_images_without_split_gets_one_and_is_judged_by_it(
    run: Run, tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    rendered = ("datasets", "render", "--out", data, "--fields", 6, "--seed", 2)
    assert run(*rendered, "--size", "160x120", "--density", "0.3-0.5")[0] == 0
    truth = json.loads((data / "truth.json").read_text())
    for image in truth["images"]:
        image.pop("split", None)
    (data / "truth.json").write_text(json.dumps(truth))
    (data / "splits.csv").unlink(missing_ok=True)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    code, out, err = run(
        *("train", "detector", data, "--out", folder, "--device", "cpu", "--workers", 0),
        *("--epochs", 1, "--rbc-px", 70, *sets),
    )
    assert code == 0, err
    assert "4 training and 1 validation images" in out
    assert "the data has no split to validate on, so one was made: 64/16/20 at random" in out
    assert "1 images of test were not looked at" in out
    scores = tmp_path / "scores.json"
    judged = ("evaluate", "detector", data, "--detector", folder, "--json", scores)
    code, _, err = run(*judged, "--split", "test", "--device", "cpu")
    assert code == 0, err
    assert "splits are those of" in err
    assert json.loads(scores.read_text())["learned_from"] == 0
    code, _, err = run(*judged, "--device", "cpu")
    assert code == 0, err
    assert "the model learned from 4 of the 6 images" in err
