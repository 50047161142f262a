"""From annotated images to a run folder, and from there to counts, on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cellcount.cli import main

SETTINGS = [
    "backbone=timm/test_efficientnet",
    "pyramid_channels=32",
    "rbc_diameter_px=32",
    "size_px=96",
    "batch_size=2",
    "precision=fp32",
    "split=3/1",
    "validate_every=1",
]


def assignments(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four rendered fields, some of whose annotations are broken."""
    folder = tmp_path / "data"
    rendered = ["datasets", "render", "--out", str(folder), "--fields", "4", "--seed", "2"]
    assert main([*rendered, "--size", "240x200", "--density", "0.3-0.5"]) == 0
    truth = json.loads((folder / "truth.json").read_text())
    first = truth["annotations"][0]
    truth["annotations"] += [
        {**first, "id": 90001, "bbox": [5000, 10, 20, 20]},
        {**first, "id": 90002, "bbox": [10, 10, 0, 20]},
    ]
    truth["images"].append({"id": 90003, "file_name": "images/gone.png", "width": 9, "height": 9})
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def test_a_run_folder_is_what_detector_takes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, counts = tmp_path / "run", tmp_path / "counts.csv"
    command = ["train", "detector", str(data), "--out", str(run), "--device", "cpu"]
    command += ["--workers", "0", "--epochs", "1", "--rbc-px", "70", *assignments(SETTINGS)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "3 training and 1 validation images, classes rbc, wbc, platelet" in said.out
    assert f"weights: {run / 'model.safetensors'}" in said.out
    for broken in ("5000", "no width or height", "gone.png"):
        assert broken in said.err, "broken boxes and files are reported and survived"

    assert main(command) != 0, "one training per folder"
    assert "already holds a training" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0

    analyze = ["analyze", str(data / "images"), "--out", str(counts), "--detector", str(run)]
    assert main([*analyze, "--device", "cpu", "--min-score", "0.05"]) == 0
    with counts.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"field-{n:05d}.png" for n in range(4)]
    assert all(row["status"] == "done" for row in rows)
    assert all(
        int(row["cells"]) == sum(int(row[f"n_{c}"]) for c in ("rbc", "wbc", "platelet"))
        for row in rows
    )


def test_a_plugin_backbone_trains_and_is_asked_for_again(
    data: Path, repo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    source = (repo_root / "plugins/cellcount-tinynet/cellcount_tinynet.py").read_text("utf-8")
    (plugins / "foldernet.py").write_text(source + "\nbuild_backbone = build\n")
    run = tmp_path / "run"
    command = ["train", "detector", str(data), "--out", str(run), "--device", "cpu"]
    command += ["--workers", "0", "--epochs", "1", "--rbc-px", "70", *assignments(SETTINGS[1:])]
    command += ["--backbone", "foldernet", "--plugins", str(plugins), "--set", "finest_stride=8"]
    assert main(command) == 0
    evaluate = ["evaluate", "detector", str(data), "--detector", str(run), "--device", "cpu"]
    assert main(evaluate) != 0
    assert "no backbone 'foldernet'" in capsys.readouterr().err
    assert main([*evaluate, "--plugins", str(plugins)]) == 0
    assert "COCO figures, 4 images" in capsys.readouterr().out
