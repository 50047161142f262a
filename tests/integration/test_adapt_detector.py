"""``cellcount adapt detector``: corrected fields in; a weight file that counts them right out."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.adapt import adapted_detector
from cellcount.adapt.adapted_detector import FIELDS_COLUMNS
from cellcount.adapt.count_errors import CountFigures
from cellcount.models.weights import read_weights, resolve, write_weights
from tests.tables import check_table

SAMPLES = Path(__file__).parents[2] / "sample_data"
Rows = Callable[..., list[dict[str, str]]]
Adapt = Callable[..., tuple[int, str, str]]


@pytest.fixture
def adapt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Adapt:
    """Runs the command with the packaged detector under thresholds that are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapted_detector, "SCALES", (1.0, 0.9))
    card, state = read_weights(resolve("blood"))

    def call(*arguments: str | Path, **thresholds: float) -> tuple[int, str, str]:
        own = dataclasses.replace(card, thresholds={**card.thresholds, **thresholds})
        write_weights(Path("ours.safetensors"), own, state)
        capfd.readouterr()
        models = ("--detector", "ours.safetensors", "--device", "cpu", "--engine", "torchvision")
        code = cli.main(["adapt", "detector", *map(str, arguments), *models])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_a_strict_detector_counts_right_afterwards_and_says_by_how_much(
    adapt: Adapt, rows: Rows
) -> None:
    code, out, err = adapt(SAMPLES / "truth.json", "--out", "fitted", rbc=0.999)
    assert code == 0, err
    facts = json.loads(Path("fitted/adaptation.json").read_text())
    before, after = facts["before"]["rbc"], facts["after"]["rbc"]
    assert before["bias"] < -0.1
    assert abs(after["bias"]) < abs(before["bias"]) / 2
    assert after["mean_error"] < before["mean_error"]
    assert f"{before['bias']:+.1%}" in out
    assert "note: fields are held out one by one" in err
    base, state = read_weights(Path("ours.safetensors"))
    card, adapted = read_weights(Path("fitted/model.safetensors"))
    assert card.thresholds["rbc"] < 0.99
    assert card.name == "blood-adapted"
    assert card.rbc_diameter_px == pytest.approx(base.rbc_diameter_px * facts["scale"], abs=0.01)
    assert all((adapted[name] == tensor).all() for name, tensor in state.items())
    check_table(Path("fitted/fields.csv"), FIELDS_COLUMNS)
    counted = [r for r in rows("fitted/fields.csv") if r["class"] == "rbc"]
    assert sum(int(r["counted_after"]) for r in counted) == after["counted"]
    assert sum(int(r["true"]) for r in counted) == after["true"]


def test_the_adapted_detector_counts_so(adapt: Adapt, rows: Rows) -> None:
    assert adapt(SAMPLES / "truth.json", "--out", "fitted", rbc=0.99)[0] == 0
    facts = json.loads(Path("fitted/adaptation.json").read_text())
    argv = ["analyze", str(SAMPLES), "--out", "c.csv", "--detector", "fitted", "--classifier"]
    assert cli.main([*argv, "none", "--device", "cpu", "--engine", "torchvision"]) == 0
    counted = sum(int(row["n_rbc"]) for row in rows("c.csv"))
    assert counted == pytest.approx(facts["after"]["rbc"]["true"], rel=0.05)


def test_fewer_than_five_fields_are_too_few(adapt: Adapt, tmp_path: Path) -> None:
    Path("few").mkdir()
    for name in ("field-1", "field-2"):
        shutil.copy(SAMPLES / f"slide-B/{name}.jpg", tmp_path / f"few/{name}.jpg")
    with Path("few/b.csv").open("w", newline="") as file:
        lines = [["image", "xmin", "ymin", "xmax", "ymax", "label"]]
        lines += [[f"field-{n}.jpg", "9", "9", "80", "80", "rbc"] for n in (1, 2)]
        csv.writer(file).writerows(lines)
    code, _, err = adapt("few", "--out", "fitted")
    assert code == 2
    assert "2 fields have labelled cells of the detector's classes (rbc, wbc, platelet)" in err


def test_folders_whose_fields_have_no_labelled_cell_are_no_slides_to_hold_out(adapt: Adapt) -> None:
    truth = json.loads((SAMPLES / "truth.json").read_text("utf-8"))
    Path("data/one").mkdir(parents=True)
    for image in truth["images"]:
        file = Path(image["file_name"])
        image["file_name"] = f"one/{file.parent.name}-{file.name}"
        shutil.copy(SAMPLES / file, Path("data") / image["file_name"])
    bare = truth["images"][0]
    for n in range(4):
        Path(f"data/bare-{n}").mkdir()
        shutil.copy(Path("data") / bare["file_name"], f"data/bare-{n}/field.jpg")
        extra = {**bare, "id": 10_000 + n, "file_name": f"bare-{n}/field.jpg"}
        truth["images"].append(extra)
    Path("data/truth.json").write_text(json.dumps(truth), "utf-8")
    code, _, err = adapt("data/truth.json", "--out", "fitted", rbc=0.99)
    assert code == 0, err
    assert "note: fields are held out one by one" in err


def test_nothing_is_written_where_counts_would_be_no_better(
    adapt: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountFigures, "is_better", lambda _: False)
    code, out, err = adapt(SAMPLES / "truth.json", "--out", "fitted")
    assert code == 3
    assert "nothing was written" in err
    assert "error a field" in out
    assert not list(Path("fitted").iterdir())
