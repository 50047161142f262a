"""``cellcount adapt classifier``: a laboratory's cells in, its own weight file and figures out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cellcount import cli
from cellcount.adapt.adapted_classifier import CELLS_COLUMNS
from cellcount.adapt.laboratory_cells import labelled_cells
from cellcount.analysis.stored_results import stored_results
from cellcount.models.kept_features import KeptFeatures, features_path, write_kept_features
from cellcount.models.weights import read_classifier_weights, write_weights
from cellcount.review.named_cells import counted_cells
from tests.integration.random_classifier import write_random_classifier
from tests.tables import check_table

Rows = Callable[..., list[dict[str, str]]]
Run = Callable[..., tuple[int, str, str]]
Adapt = Callable[..., tuple[int, str, str]]

#: Colours of the cells of a laboratory; the base knows no colour at all.
COLOURS = {"lymphocyte": (90, 60, 160), "eosinophil": (220, 110, 60)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the types of cells-14 with random weights."""
    return write_random_classifier(tmp_path_factory.mktemp("base") / "base.safetensors")


def paint(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 64, 3), 235.0)
    y, x = np.mgrid[:64, :64]
    pixels[(y - 32) ** 2 + (x - 32) ** 2 < rng.uniform(14, 20) ** 2] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path)


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of ten cells of each of two types, on four slides."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,slide"]
    for label, colour in COLOURS.items():
        for n in range(10):
            paint(Path(f"ours/{label}-{n}.png"), colour, n)
            lines.append(f"{label}-{n}.png,{label},S{n % 4}")
    Path("ours/cells.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return Path("ours/cells.csv")


@pytest.fixture
def adapt(base: Path, capfd: pytest.CaptureFixture[str]) -> Adapt:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        models = ("--classifier", str(base), "--device", "cpu")
        code = cli.main(["adapt", "classifier", *map(str, arguments), *models])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_labelled_cells_make_a_classifier_of_their_own_with_its_figures(
    cells: Path, adapt: Adapt, base: Path, rows: Rows
) -> None:
    width = read_classifier_weights(base)[1]["body.fc.weight"].shape[1]
    kept = KeptFeatures(np.ones((3, width), np.float32), np.eye(14, dtype=np.bool_)[:3])
    write_kept_features(features_path(base), kept)
    try:
        code, out, err = adapt(cells, "--out", "runs/ours")
    finally:
        features_path(base).unlink()
    assert code == 0, err
    assert "base-adapted, of base 1 and 20 labelled cells on 4 slides" in out
    out = " ".join(out.split())
    assert "types without a cell here: segmented_neutrophil" in out
    assert "cells of the base's training stood for them" in out
    told = json.loads(Path("runs/ours/adaptation.json").read_text("utf-8"))
    assert told["after"]["right"]["right"] > told["before"]["right"]["right"]
    assert told["slides"] == 4
    assert set(told["after"]["by_label"]) == set(COLOURS)

    listed = rows("runs/ours/cells.csv")
    assert check_table(Path("runs/ours/cells.csv"), CELLS_COLUMNS) == []
    right = sum(row["right_after"] == "true" for row in listed)
    assert right == told["after"]["right"]["right"]
    for slide in ("S0", "S1", "S2", "S3"):
        assert len({row["fold"] for row in listed if row["slide"] == slide}) == 1

    weights = Path("runs/ours/model.safetensors")
    card, state = read_classifier_weights(weights)
    assert card.training["adapted"]["base"]["name"] == "base"
    assert card.training["adapted"]["cells"] == {"lymphocyte": 10, "eosinophil": 10}
    assert features_path(weights).is_file()
    old = read_classifier_weights(base)[1]
    changed = {name for name in state if not torch.equal(state[name], old[name])}
    assert changed == {"body.fc.weight", "body.fc.bias"}

    typed = ("classify", "ours", "--out", "types.csv", "--classifier", "runs/ours")
    assert cli.main([*typed, "--device", "cpu"]) == 0
    likeliest = [(r["image"], r["type"], r["type_2"]) for r in rows("types.csv")]
    named = [
        image.split("-")[0] == (second if first == "unclassified" else first)
        for image, first, second in likeliest
    ]
    assert sum(named) >= 18


def test_cells_that_the_base_names_rightly_already_are_refused_with_figures(
    cells: Path, adapt: Adapt, base: Path, rows: Rows
) -> None:
    typed = ("classify", "ours", "--out", "types.csv", "--classifier", str(base))
    assert cli.main([*typed, "--device", "cpu"]) == 0
    lines = ["path,label,slide"]
    for n, row in enumerate(rows("types.csv")):
        said = row["type_2"] if row["type"] == "unclassified" else row["type"]
        lines.append(f"{row['image']},{said},S{n % 4}")
    paint(Path("ours/other.png"), (1, 2, 3), 0)
    lines.append("other.png,smudge,S1")
    cells.write_text("\n".join(lines) + "\n", "utf-8")
    code, out, err = adapt(cells, "--out", "runs/ours")
    assert code == 3
    assert "nothing was written: on slides left out, 20 of 20 cells" in err
    assert "1 cell of 'smudge' left out: no type of the classifier" in err
    assert "typed rightly" in out
    assert not Path("runs/ours/model.safetensors").exists()


@pytest.fixture
def unlabelled(cells: Path) -> Path:
    """Sixty more pictures of the laboratory's cells, of which nobody says what they show."""
    for n in range(60):
        paint(Path(f"more/{n}.png"), tuple(COLOURS.values())[n % 2], 100 + n)
    return Path("more")


def test_unlabelled_cells_bring_statistics_of_their_own_where_that_helps(
    cells: Path, unlabelled: Path, adapt: Adapt, capfd: pytest.CaptureFixture[str]
) -> None:
    """The base knew the cells before its first statistics were moved, as another stain does."""
    assert adapt(cells, "--out", "runs/knows")[0] == 0
    card, state = read_classifier_weights(Path("runs/knows/model.safetensors"))
    state["body.bn1.running_mean"] += 3 * state["body.bn1.running_var"].sqrt()
    write_weights(Path("moved.safetensors"), card, state)
    command = ("adapt", "classifier", str(cells), "--unlabelled", "more", "--device", "cpu")
    models = ("--classifier", "moved.safetensors", "--out", "runs/ours")
    code = cli.main([*command, *models])
    out = " ".join(capfd.readouterr().out.split())
    assert code == 0
    assert "statistics of normalisation: re-estimated, share 0.7, tried with 60 unlabelled" in out

    told = json.loads(Path("runs/ours/adaptation.json").read_text("utf-8"))["statistics"]
    assert (told["data"], told["cells"], told["share"]) == ("more", 60, 0.7)
    assert told["losses"]["0.7"] < told["losses"]["0"]
    card, adapted = read_classifier_weights(Path("runs/ours/model.safetensors"))
    assert "re-estimated from 60 unlabelled cells and have a share of 0.7" in card.notes[0]
    assert {"name": "more", "use": "statistics of normalisation", "cells": 60} in card.data
    changed = {name for name in state if not torch.equal(state[name], adapted[name])}
    assert {"body.fc.weight", "body.bn1.running_mean", "body.bn1.running_var"} <= changed
    assert all("running" in name or name.startswith("body.fc.") for name in changed)

    typed = ("classify", "ours", "--out", "types.csv", "--classifier", "runs/ours")
    assert cli.main([*typed, "--device", "cpu"]) == 0
    figures = json.loads(Path("runs/ours/adaptation.json").read_text("utf-8"))
    assert figures["after"]["right"]["right"] >= 18


def test_too_few_unlabelled_cells_are_refused(cells: Path, adapt: Adapt) -> None:
    code, _, err = adapt(cells, "--out", "runs/ours", "--unlabelled", "ours")
    assert code == 2
    assert "ours has 20 unlabelled cells that can be used, expected 50 or more" in err


def test_fewer_than_ten_cells_of_every_type_are_too_few(cells: Path, adapt: Adapt) -> None:
    lines = cells.read_text("utf-8").splitlines()
    cells.write_text("\n".join([lines[0], *lines[1:10], *lines[11:20]]) + "\n", "utf-8")
    code, _, err = adapt(cells, "--out", "runs/ours")
    assert code == 2
    assert "has 9, expected 10 or more" in err
    assert "problems" not in err


def test_a_picture_that_cannot_be_read_is_named_where_the_others_are_too_few(
    cells: Path, adapt: Adapt
) -> None:
    Path("ours/lymphocyte-3.png").write_bytes(b"no picture")
    broken = Path("ours/eosinophil-3.png")
    broken.write_bytes(broken.read_bytes()[:-2000])
    code, _, err = adapt(cells, "--out", "runs/ours")
    assert code == 2
    err = " ".join(err.split())
    assert "has 9, expected 10 or more of one type at least; label more cells (problems: " in err
    assert "lymphocyte-3.png: the image cannot be opened" in err
    assert "eosinophil-3.png: cannot be decoded" in err


def test_folders_a_type_are_cells_whose_slides_are_unknown(cells: Path, base: Path) -> None:
    for path in sorted(cells.parent.glob("*.png")):
        target = Path("folders") / path.stem.split("-")[0] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    Path("folders/neutrophil").mkdir()
    paint(Path("folders/neutrophil/1.png"), (1, 2, 3), 0)
    Path("folders/smudge").mkdir()
    paint(Path("folders/smudge/1.png"), (1, 2, 3), 0)
    found = labelled_cells(Path("folders"), read_classifier_weights(base)[0])
    assert found.slides == 0
    assert len(set(found.groups.tolist())) == 21
    assert found.left_out == {"smudge": 1}
    coarse = [i for i, item in enumerate(found.items) if item.label == "neutrophil"]
    assert found.allowed[coarse[0]].tolist() == [True, True] + [False] * 12


def test_the_reviewed_cells_of_a_run_are_read_with_their_slides(
    slides: Path, run: Run, rows: Rows, base: Path, adapt: Adapt
) -> None:
    assert run(slides, "--out", "o/counts.csv", "--classifier", base, "--device", "cpu")[0] == 0
    code, _, err = adapt("o/counts.csv", "--out", "x")
    assert code == 2
    assert "no cell was reviewed" in err
    assert cli.main(["review", "export", "o/counts.csv", "--out", "look", "--all"]) == 0
    listed = rows("look/corrections.csv")
    for row, said in zip(listed, ["lymphocyte", "unclassified", "not_a_cell", "blast"] * 99,
                         strict=False):  # fmt: skip
        row["corrected_type"] = said
    with open("filled.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed[:8])
    assert cli.main(["review", "apply", "o/counts.csv", "filled.csv", "--reviewer", "A"]) == 0
    found = labelled_cells(Path("o/counts.csv"), read_classifier_weights(base)[0])
    assert found.by_label() == {"lymphocyte": 2, "blast": 2, "not_a_white_cell": 2}
    assert found.slides >= 1
    assert all(item.box_xyxy is not None for item in found.items)
    assert all(item.rbc_px is not None and 15 < item.rbc_px < 40 for item in found.items)
    with stored_results(Path("o/counts.csv")) as stored:
        unlabelled = counted_cells(stored, ["wbc"]).items
        removed = {item.box_xyxy for item in found.items if item.label == "not_a_white_cell"}
    counted = sum(int(row["n_wbc"] or 0) for row in rows("o/counts.csv"))
    assert len(unlabelled) == counted > 8
    assert removed.isdisjoint(item.box_xyxy for item in unlabelled)
