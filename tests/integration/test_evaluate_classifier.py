"""``evaluate classifier`` and ``models compare`` with a classifier whose answers are known."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
)

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]

COLOURS = {"neutrophil": (200, 70, 80), "lymphocyte": (60, 190, 80), "erythroblast": (70, 60, 200)}
#: Colour of the cells of each split and class: some are not what their folder says.
CELLS = {
    ("train", "neutrophil"): ["neutrophil"] * 6,
    ("train", "lymphocyte"): ["lymphocyte"] * 6,
    ("train", "erythroblast"): ["erythroblast"] * 6,
    ("train", "monocyte"): ["neutrophil"] * 3,  # no type of the classifier
    ("val", "neutrophil"): ["neutrophil"] * 5 + ["lymphocyte"],
    ("val", "lymphocyte"): ["lymphocyte"] * 4,
    ("val", "erythroblast"): ["erythroblast"] * 3 + ["neutrophil"] * 2,
    ("val", "monocyte"): ["neutrophil"],
}


def cell(colour: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    pixels = np.full((48, 48, 3), 235, np.uint8)
    pixels[4:-4, 4:-4] = colour
    return Image.fromarray(np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype("uint8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(2)
    for (split, name), colours in CELLS.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for number, colour in enumerate(colours):
            cell(COLOURS[colour], rng).save(folder / f"{number}.png")
    return root


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], classifier_plugins: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([*map(str, arguments), "--plugins", str(classifier_plugins)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def evaluate(run: Run, data: Path, colour_weights: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        model = ("--classifier", colour_weights, "--rbc-px", 40)
        return run("evaluate", "classifier", data, *model, *arguments)

    return call


def truth() -> tuple[list[str], list[str]]:
    """True and given type of the cells of val."""
    pairs = [
        (name, colour)
        for (split, name), colours in CELLS.items()
        for colour in colours
        if split == "val" and name in COLOURS
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_all_forms_say_what_scikit_learn_says(evaluate: Run, tmp_path: Path) -> None:
    as_json, as_csv, folder = tmp_path / "r.json", tmp_path / "r.csv", tmp_path / "out"
    files = ("--json", as_json, "--csv", as_csv, "--out", folder)
    code, out, err = evaluate("--split", "val", *files)
    assert code == 0
    assert err == (
        "warning: 1 cell of 'monocyte' left out: no type that is reported\ntyping: 15 cells\n"
    )
    true, given = truth()
    document = json.loads(as_json.read_text())
    assert (document["split"], document["left_out"]) == ("val", {"monocyte": 1})
    report = document["reports"]["original"]
    strict = report["strict"]
    assert strict["accuracy"] == strict["weighted_recall"]
    assert strict["accuracy"] == pytest.approx(accuracy_score(true, given))
    assert strict["macro_f1"] == pytest.approx(f1_score(true, given, average="macro"))
    assert strict["mcc"] == pytest.approx(matthews_corrcoef(true, given))
    assert strict["kappa"] == pytest.approx(cohen_kappa_score(true, given))
    assert report["types"] == list(COLOURS)
    expected = confusion_matrix(true, given, labels=list(COLOURS)).tolist()
    assert report["confusion"] == expected
    with (folder / "confusion.csv").open(encoding="utf-8") as file:
        rows = [[int(row[name]) for name in COLOURS] for row in csv.DictReader(file)]
    assert rows == expected
    with Image.open(folder / "confusion.png") as picture:
        assert picture.format == "PNG"
    types = list(csv.DictReader((folder / "types.csv").read_text().splitlines()))
    assert [int(row["support"]) for row in types] == [6, 4, 5]
    rows_of = {r["metric"]: r for r in csv.DictReader(as_csv.read_text().splitlines())}
    assert float(rows_of["mcc"]["strict"]) == strict["mcc"]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert re.fullmatch(r"colours 1 on cells\d*, val", lines[0])
    assert any(line.startswith("accuracy = weighted recall 0.800 0.800 0.5") for line in lines)
    assert f"MCC (Matthews) {strict['mcc']:.3f} {strict['mcc']:.3f}" in lines
    assert "erythroblast 5 3 1.000 0.600 0.750 0.600" in lines
    assert max(map(len, out.splitlines())) <= 100


def test_the_labels_are_those_of_classify(
    evaluate: Run, run: Run, data: Path, colour_weights: Path, tmp_path: Path
) -> None:
    evaluate("--split", "val", "--json", tmp_path / "r.json")
    model = ("--classifier", colour_weights, "--rbc-px", 40)
    run("classify", data / "val", *model, "--out", tmp_path / "types.csv")
    with (tmp_path / "types.csv").open(encoding="utf-8") as file:
        pairs = [(Path(r["image"]).parent.name, r["type"]) for r in csv.DictReader(file)]
    typed = [pair for pair in pairs if pair[0] in COLOURS]
    report = json.loads((tmp_path / "r.json").read_text())["reports"]["original"]
    expected = confusion_matrix(*zip(*typed, strict=True), labels=list(COLOURS))
    assert report["confusion"] == expected.tolist()


def test_robustness_names_the_worst_change(evaluate: Run, tmp_path: Path) -> None:
    code, out, _ = evaluate("--split", "val", "--robustness", "--json", tmp_path / "r.json")
    assert code == 0
    reports = json.loads((tmp_path / "r.json").read_text())["reports"]
    assert list(reports)[:5] == ["original", "0.5x size", "0.75x size", "1.5x size", "2x size"]
    assert len(reports) == 19
    values = {n: r["strict"]["accuracy"] for n, r in reports.items() if n != "original"}
    worst = re.search(r"accuracy over the 18 changes: mean ([\d.]+), worst ([\d.]+) \((.+)\)", out)
    assert worst is not None
    assert float(worst[1]) == pytest.approx(np.mean(list(values.values())), abs=5e-4)
    assert float(worst[2]) == pytest.approx(min(values.values()), abs=5e-4)
    assert values[worst[3]] == min(values.values())


def test_maps_priors_and_train_cells_are_said(evaluate: Run, tmp_path: Path) -> None:
    code, out, err = evaluate("--map", "pbc-8:wbc-5", "--json", tmp_path / "r.json")
    assert code == 0
    assert "warning: cells of the train split are among these; --split val" in err
    assert "11 cells of 'erythroblast' left out: no type that is reported" in err
    assert ", reported as pbc-8:wbc-5" in out
    report = json.loads((tmp_path / "r.json").read_text())["reports"]["original"]
    assert report["types"] == ["neutrophil", "lymphocyte", "dropped"]
    for prior in ("uniform", "profile"):
        evaluate("--split", "val", "--prior", prior, "--json", tmp_path / f"{prior}.json")
    uniform, profile = (
        json.loads((tmp_path / f"{p}.json").read_text())["reports"]["original"]
        for p in ("uniform", "profile")
    )
    assert uniform["ece"] != profile["ece"]


def test_a_data_set_of_other_types_is_an_error(
    run: Run, colour_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "dogs").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "dogs" / "rex.png")
    code, _, err = run("evaluate", "classifier", tmp_path, "--classifier", colour_weights)
    assert code == 3
    assert "the labels dogs are no types that the classifier 'colours' reports" in err


def compare(run: Run, data: Path, out: Path, *names: object) -> tuple[int, str, str]:
    options = ("--epochs", 1, "--set", "input_px=0", "--rbc-px", 40, "--window", 1, "--workers", 0)
    backbones = ",".join(map(str, names))
    return run("models", "compare", data, "--backbones", backbones, "--out", out, *options)


def test_compare_trains_loads_and_goes_on(
    run: Run, data: Path, colour_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    code, table, err = compare(run, data, out, "colour", colour_weights, "nonsense")
    assert code == 1
    assert "epoch 1" in err
    rows: list[dict[str, Any]] = json.loads((out / "compare.json").read_text())["rows"]
    trained, loaded, failed = rows
    assert (trained["trained_here"], loaded["trained_here"]) == (True, False)
    assert trained["parameters"] == 3 * 4  # four types from three colours
    assert (loaded["parameters"], loaded["parameters_keras"]) == (9, 9)
    assert loaded["flops"] == 2 * 9  # a multiply-add counts as two
    assert (loaded["cells"], loaded["place"]) == (15, None)
    assert loaded["accuracy"] == pytest.approx(0.8)
    assert "no classifier 'nonsense'" in failed["failure"]
    assert "was scored on 15 of these cells alone" in " ".join((table + err).split())
    assert (out / "compare.md").read_text().count("\n|") == 4
    again_code, _, again = compare(run, data, out, "colour")
    assert again_code == 0
    assert "colour: trained before, loaded from" in again
    assert "epoch 1" not in again
    (same,) = json.loads((out / "compare.json").read_text())["rows"]
    timed = ("ms_per_cell", "place")
    assert {k: v for k, v in same.items() if k not in timed} == {
        k: v for k, v in trained.items() if k not in timed
    }


def test_compare_of_data_without_a_split_makes_one_and_says_so(
    run: Run, data: Path, tmp_path: Path
) -> None:
    code, out, err = compare(run, data / "train", tmp_path / "out", "colour")
    assert code == 0, err
    assert "64/16/20" in out + err
