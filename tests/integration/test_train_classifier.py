"""``train classifier`` on every form that labelled cells come in, and what follows it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.models.weights import read_classifier_card

Run = Callable[..., tuple[int, str, str]]
Make = Callable[[Path, str], None]

#: Codes of three types in three data sets, and the colour of their cells.
COLOURS = {"NGS": (200, 70, 80), "LYT": (60, 190, 80), "EBO": (70, 60, 200)}


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], classifier_plugins: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([*map(str, arguments), "--plugins", str(classifier_plugins)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def make() -> Make:
    """``make(path, code)`` writes a picture of a cell of that type."""
    rng = np.random.default_rng(4)

    def write(path: Path, code: str) -> None:
        pixels = np.full((48, 48, 3), 235.0)
        pixels[6:-6, 6:-6] = COLOURS[code]
        path.parent.mkdir(parents=True, exist_ok=True)
        noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path)

    return write


def training(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "train", "classifier", data, "--out", out, "--backbone", "colour", "--epochs", 1,
        "--batch-size", 4, "--window", 0, "--workers", 0, "--set", "augment=flips",
        "--set", "holdout=0.2", "--set", "ema_decay=0", "--set", "lr=1e-6", *more,
    )  # fmt: skip


def mll(root: Path, make: Make) -> None:
    for code in COLOURS:
        for n in range(1, 11):
            make(root / "BM_cytomorphology_data" / code / "0001-1000" / f"{code}_{n:05d}.jpg", code)


def lmu(root: Path, make: Make) -> None:
    lines = []
    for code in COLOURS:
        for n in range(1, 11):
            name = f"{code}/{code}_{n:04d}.tiff"
            make(root / "AML-Cytomorphology" / name, code)
            lines.append(f"{name} {code} {code} nan")
    (root / "annotations.dat").write_text("\n".join(lines) + "\n")


def table(root: Path, make: Make, separator: str) -> Path:
    rows = ["path,label,split,patient"]
    for code in COLOURS:
        for n in range(10):
            make(root / "pictures" / f"{code}{n}.png", code)
            split = "val" if n > 7 else "train"
            rows.append(f"pictures/{code}{n}.png,{code},{split},P{n}")
    path = root / ("cells.csv" if separator == "," else "cells.tsv")
    path.write_text("\n".join(rows).replace(",", separator) + "\n")
    return path


def fields(root: Path, make: Make) -> Path:
    """COCO: three cells of different types on every field."""
    images: list[dict[str, object]] = []
    boxes: list[dict[str, object]] = []
    for number in range(10):
        field = np.full((60, 180, 3), 235, np.uint8)
        for place, code in enumerate(COLOURS):
            make(root / "one.png", code)
            field[6:54, 60 * place + 6 : 60 * place + 54] = np.asarray(Image.open(root / "one.png"))
            boxes.append({
                "id": len(boxes) + 1, "image_id": number + 1, "category_id": place + 1,
                "bbox": [60 * place + 12, 12, 36, 36], "area": 1296, "iscrowd": 0,
            })  # fmt: skip
        Image.fromarray(field).save(root / f"field{number}.png")
        images.append(
            {"id": number + 1, "file_name": f"field{number}.png", "width": 180, "height": 60}
        )
    categories = [{"id": n, "name": code} for n, code in enumerate(COLOURS, 1)]
    path = root / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return path


@pytest.mark.parametrize("form", ["mll", "lmu", "csv", "tsv", "coco"])
def test_every_form_is_learned_from(form: str, run: Run, make: Make, tmp_path: Path) -> None:
    data, more = tmp_path / "data", ["--taxonomy", "mll-21", "--split", "64/16/20"]
    data.mkdir()
    read = {"mll": "folders", "lmu": "lmu", "csv": "table", "tsv": "table", "coco": "boxes (coco)"}
    source = data
    if form == "mll":
        mll(data, make)
    elif form == "lmu":
        lmu(data, make)
    elif form == "coco":
        source = fields(data, make)
        (data / "one.png").unlink()
        more += ["--rbc-px", "15"]
    else:
        source = table(data, make, "," if form == "csv" else "\t")
        more = ["--taxonomy", "mll-21", "--group", "patient"]
    code, out, err = run(*training(source, tmp_path / "run", *more))
    assert code == 0, err
    assert "note: BLA is a blast of any lineage, not a myeloblast." in out
    card = read_classifier_card(tmp_path / "run" / "model.safetensors")
    assert card.data[0]["format"] == read[form]
    assert {t.id for t in card.types} == {"segmented_neutrophil", "lymphocyte", "erythroblast"}
    assert card.data[0]["val"] == (6 if form in ("csv", "tsv") else 5)
    if form in ("csv", "tsv"):
        assert card.data[0]["split"] == "given"
        return
    assert "cells of test were not looked at; when everything is decided: cellcount evaluate" in out


def test_the_test_cells_of_a_random_split_can_be_measured_on(
    run: Run, make: Make, tmp_path: Path
) -> None:
    """With the very command that the training prints."""
    mll(tmp_path / "data", make)
    folder = tmp_path / "run"
    code, out, err = run(*training(tmp_path / "data", folder, "--split", "64/16/20"))
    assert code == 0, err
    (line,) = (line for line in out.splitlines() if "cells of test" in line)
    command = line.partition("cellcount ")[2].split()
    code, out, err = run(*command, "--json", tmp_path / "scores.json")
    assert code == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())
    with (folder / "splits.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert scores["reports"]["original"]["cells"] == splits.count("test") == int(line.split()[0])
    assert "warning" not in err


def test_an_interrupted_training_goes_on(run: Run, make: Make, tmp_path: Path) -> None:
    mll(tmp_path / "data", make)
    arguments = training(tmp_path / "data", tmp_path / "run", "--split", "80/20")
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments)
    assert code == 2
    assert "already holds a training; continue it with --resume" in err
    code, out, err = run(*arguments, "--resume")
    assert code == 0, err
    assert "continuing after epoch 1" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--balance", "resample"], "--balance is 'resample', expected imbalanced-sampler"),
        (["--split", "60/20"], "not two or three percentages that add up to 100"),
        (["--taxonomy", "mll21"], "there is no taxonomy 'mll21'; did you mean 'mll-21'?"),
        (["--map", "mll-21:wbc-5"], "mll-21 has no mapping to 'wbc-5'"),
        (["--map", "lineage"], "is no mapping, expected SOURCE:TARGET like mll-21:lineage-5"),
        (["--recipe", "seed-01"], "--recipe is 'seed-01', expected one of default"),
        (["--group", "patient", "--split", "80/20"], "name no patient"),
        (["--backbone", "colours"], "did you mean 'colour'?"),
        (["--backbone", "timm/mobilevit_xss"], "did you mean timm/mobilevit_x"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(
    more: list[str], message: str, run: Run, make: Make, tmp_path: Path
) -> None:
    mll(tmp_path / "data", make)
    code, _, err = run(*training(tmp_path / "data", tmp_path / "run", *more))
    assert code in (2, 3)
    assert err.startswith("Error: ")
    assert message in err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_taxonomies_are_listed_and_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["datasets", "types"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("pbc-8", "aml-fab-8", "mll-21", "zju-7"))
    assert cli.main(["datasets", "types", "aml-fab-8"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: Our reading." in said
    assert "MMZ metamyelocyte metamyelocyte granulopoiesis" in said
    assert cli.main(["datasets", "types", "mll-14"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: Inferred:" in said
    assert "BLA is a blast of any lineage" in said
    own = tmp_path / "own.toml"
    own.write_text('title = "Own"\nsource = "us"\n')
    assert cli.main(["datasets", "types", str(own)]) == 2
    assert "has no [[types]]" in capsys.readouterr().err
